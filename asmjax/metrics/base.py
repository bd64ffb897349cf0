"""Base class of the metrics: states that add up and are read at the end."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
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


def map_arrays(transform: Callable[[np.ndarray], np.ndarray], states: Any) -> Any:
  """Returns states with their arrays, in a fixed order, replaced by what `transform` returns.

  Args:
    transform: Function of an array.
    states: State of a metric, or a mapping of such states or of numbers, nested at will. What else
      a state has, such as the rules it is computed by, stays.
  """
  if isinstance(states, Mapping):
    numbers = (int, float, np.generic)
    known = {k: np.asarray(v) if isinstance(v, numbers) else v for k, v in states.items()}
    return {key: map_arrays(transform, known[key]) for key in sorted(known)}
  if dataclasses.is_dataclass(states) and not isinstance(states, type):
    fields = {field.name: getattr(states, field.name) for field in dataclasses.fields(states)}
    return dataclasses.replace(
      states, **{name: map_arrays(transform, value) for name, value in fields.items()}
    )
  return transform(states) if isinstance(states, np.ndarray) else states
