"""Metrics beyond the sums of a task, computed on the host for tasks that ask for them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.grouped import ClassMeans, GroupMeans, Groups, image_groups, instance_groups
from asmjax.metrics.pixel_errors import PixelErrors

HostTruth = Mapping[str, np.ndarray]


class ExtraMetric(NamedTuple):
  """Metric of predictions, as `Task.extra_metrics` names it.

  Attributes:
    from_batch: Function of a task of its own kind, predictions and a batch to a metric's state.
    truth_keys: Keys of the batch that it needs beside the task's own truth.
  """

  from_batch: Callable[[Any, np.ndarray, HostTruth], Metric]
  truth_keys: tuple[str, ...] = ()


def grouped_metrics(
  errors: type[PixelErrors], options: Callable[[Any], dict[str, Any]] = lambda task: {}
) -> dict[str, ExtraMetric]:
  """Makes means of pixels' errors over images, over instances by class, and over classes.

  Args:
    errors: Metric of pixels that keeps groups of them apart.
    options: Function of a task to keyword arguments of the metric.
  """

  def by_group(task: Any, predictions: np.ndarray, truth: HostTruth, groups: Groups) -> GroupMeans:
    return GroupMeans.from_batch(
      predictions, truth[task.truth_key], errors=errors, groups=groups, **options(task)
    )

  def by_image(task: Any, predictions: np.ndarray, truth: HostTruth) -> GroupMeans:
    return by_group(task, predictions, truth, image_groups(predictions.shape[:3]))

  def by_instance(task: Any, predictions: np.ndarray, truth: HostTruth) -> GroupMeans:
    groups = instance_groups(truth["instance"], truth["label"], num_classes=len(task.classes))
    return by_group(task, predictions, truth, groups)

  def by_class(task: Any, predictions: np.ndarray, truth: HostTruth) -> ClassMeans:
    return ClassMeans.from_batch(
      predictions,
      truth[task.truth_key],
      errors=errors,
      label=truth["label"],
      num_classes=len(task.classes),
      **options(task),
    )

  return {
    "image": ExtraMetric(by_image),
    "instance": ExtraMetric(by_instance, ("instance", "label")),
    "class": ExtraMetric(by_class, ("label",)),
  }
