"""Metrics that are computed on the host, image by image, for tasks that ask for them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from asmjax.metrics.grouped import GroupMeans, Groups, PixelErrors, image_groups, instance_groups


class Detail(NamedTuple):
  """How one kind of metric comes about.

  Attributes:
    of: from a task, predictions (n, ...) and truths of n images to a state of `asmjax.metrics`.
    read: from the state of all images to metrics by name.
    by_class: from that state to values (c,) of each class by the metric's name.
    needs: keys of the truth besides the task's own.
    rule: what `read` adds to the state's protocol.
  """

  of: Callable[[Any, np.ndarray, Mapping[str, np.ndarray]], Any]
  read: Callable[[Any], Mapping[str, float]] = lambda state: state.compute()
  by_class: Callable[[Any], Mapping[str, np.ndarray]] = lambda state: state.scores()
  needs: tuple[str, ...] = ()
  rule: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detailed:
  """A task that may ask for further metrics.

  Attributes:
    details: kinds of further metrics, keys of the task's `kinds`.

  Raises:
    ValueError: an unknown kind; the message lists the known ones.
  """

  details: tuple[str, ...] = ()

  # Names of the classes, in the order of their ids: the tasks have them as a field.
  classes: ClassVar[tuple[str, ...]]
  kinds: ClassVar[Mapping[str, Detail]] = {}

  def __post_init__(self) -> None:
    """Checks the kinds."""
    for name in self.details:
      if name not in self.kinds:
        raise ValueError(f"unknown details {name!r}; known: {', '.join(sorted(self.kinds))}")

  @property
  def needs(self) -> tuple[str, ...]:
    """Keys of the truth that the details need."""
    return tuple(dict.fromkeys(key for name in self.details for key in self.kinds[name].needs))

  def detail(self, predicted: np.ndarray, truth: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The state of each kind for some images.

    Args:
      predicted: what the task's `prediction` gives for them.
      truth: a batch.
    """
    return {name: self.kinds[name].of(self, predicted, truth) for name in self.details}

  def detail_scores(self, states: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by "kind/metric" and "kind/metric/class", from the merged states of all images."""
    means = {
      f"{name}/{metric}": value
      for name, state in states.items()
      for metric, value in self.kinds[name].read(state).items()
    }
    return means | {
      f"{name}/{metric}/{each}": float(value)
      for name, state in states.items()
      for metric, values in self.kinds[name].by_class(state).items()
      for each, value in zip(self.classes, values, strict=True)
    }

  def detail_protocols(self, states: Mapping[str, Any]) -> dict[str, str]:
    """How the metrics of each kind were computed."""
    return {name: self.kinds[name].rule + state.protocol for name, state in states.items()}


def of_groups(
  errors: Callable[[Any, np.ndarray, Mapping[str, np.ndarray], np.ndarray, int], PixelErrors],
) -> dict[str, Detail]:
  """Means over images, over the instances of each class, and over classes, of pixels' errors.

  Args:
    errors: from a task, predictions, truths, group ids (n, h, w) and the number of groups.
  """

  def means(task: Any, found: np.ndarray, truth: Mapping, groups: Groups) -> GroupMeans:
    return GroupMeans.of(errors(task, found, truth, groups.ids, groups.members), groups)

  def instances(task: Any, found: np.ndarray, truth: Mapping) -> GroupMeans:
    groups = instance_groups(truth["instance"], truth["label"], classes=len(task.classes))
    return means(task, found, truth, groups)

  return {
    "image": Detail(
      lambda task, found, truth: means(task, found, truth, image_groups(found.shape[:3])),
      by_class=lambda state: {},
    ),
    "instance": Detail(instances, needs=("instance", "label")),
    "class": Detail(
      lambda task, found, truth: errors(task, found, truth, truth["label"], len(task.classes)),
      read=lambda state: state.mean(),
      needs=("label",),
      rule="for each class, then the mean over classes with pixels: ",
    ),
  }
