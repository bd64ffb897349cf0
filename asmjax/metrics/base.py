"""Base class of the metrics: states that add up and are read at the end."""

import abc
from typing import Any, TypeVar

import numpy as np

# Beartype, which checks types in the tests, knows `Self` in classes that it decorates alone.
_Metric = TypeVar("_Metric", bound="Metric")


class Metric(abc.ABC):
  """State of a metric over any number of images.

  A state is made of predictions and targets (`from_batch`) or of nothing (`empty`). States of
  different images add up (`merge`), in any order and on any machine, and are read at the end
  (`compute`).

  Examples:
    >>> from asmjax.metrics import ConfusionMatrix
    >>> images = [([[0, 1]], [[0, 1]]), ([[0, 1]], [[1, 1]])]
    >>> state = ConfusionMatrix.empty(2)
    >>> for predictions, targets in images:
    ...   state = state.merge(ConfusionMatrix.from_batch(predictions, targets, num_classes=2))
    >>> state.compute()["pixel_accuracy"]
    0.75
  """

  @classmethod
  @abc.abstractmethod
  def empty(cls: type[_Metric], *args: Any, **options: Any) -> _Metric:
    """Creates the state of no images."""

  @classmethod
  @abc.abstractmethod
  def from_batch(
    cls: type[_Metric], predictions: Any, targets: Any, *args: Any, **options: Any
  ) -> _Metric:
    """Creates the state of some images."""

  @abc.abstractmethod
  def merge(self: _Metric, other: _Metric) -> _Metric:
    """Merges the states of different images.

    Raises:
      ValueError: They were computed by different rules.
    """

  @abc.abstractmethod
  def compute(self) -> dict[str, float]:
    """Computes metrics by name; NaN where nothing counts."""

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes metrics by name and class (c,), NaN for a class that does not occur; {} if none."""
    return {}

  @property
  @abc.abstractmethod
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
