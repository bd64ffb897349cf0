"""Means over classes, instances or images of the errors of each one's pixels."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.label_maps import as_ids
from asmjax.metrics.moments import nanmean, ratio
from asmjax.metrics.pixel_errors import PixelErrors
from asmjax.utils.shapes import check_shapes


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMeans(Metric):
  """Means over classes of each class's metric over its pixels.

  Attributes:
    errors: Sums over the pixels of each class.
  """

  errors: PixelErrors

  @classmethod
  def empty(cls, num_classes: int, *, errors: type[PixelErrors], **options: Any) -> "ClassMeans":
    """Creates the state of no pixels; arguments as for `from_batch`."""
    return cls(errors.empty(num_groups=num_classes, **options))

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    errors: type[PixelErrors],
    label: Any,
    num_classes: int,
    **options: Any,
  ) -> "ClassMeans":
    """Sums the errors of each class's pixels.

    Args:
      predictions: Predicted values of the pixels.
      targets: True values of the pixels.
      errors: Metric of the values.
      label: Class ids of the pixels; others than [0, num_classes) are left out.
      num_classes: Number of classes.
      **options: Further keyword arguments of the metric.
    """
    return cls(
      errors.from_batch(predictions, targets, group=label, num_groups=num_classes, **options)
    )

  def merge(self, other: "ClassMeans") -> "ClassMeans":
    """Adds the pixels of both; ValueError as for `PixelErrors.merge`."""
    return ClassMeans(self.errors.merge(other.errors))

  def compute(self) -> dict[str, float]:
    """Computes the mean over the classes that have pixels."""
    return {name: nanmean(value) for name, value in self.compute_by_class().items()}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes the metric of each class; NaN for a class without a pixel."""
    return self.errors.compute_by_group()

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return f"for each class, then the mean over classes with pixels: {self.errors.protocol}"


class Groups(NamedTuple):
  """Members (instances or images) and their pixels.

  Attributes:
    ids: Member that a pixel belongs to, int64 (n, h, w), -1 for none.
    class_of: Class of each member, int64 (members,).
    num_classes: Number of classes; members without a class are all of class 0 of 1.
    kind: "instance" or "image".
  """

  ids: np.ndarray
  class_of: np.ndarray
  num_classes: int
  kind: str


def image_groups(shape: tuple[int, int, int]) -> Groups:
  """Makes every image of an (n, h, w) batch a member, all of one class."""
  ids = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
  return Groups(ids, np.zeros(shape[0], np.int64), 1, "image")


def instance_groups(instance: Any, label: Any, *, num_classes: int) -> Groups:
  """Makes every instance of every image a member, of the class of most of its labeled pixels.

  Of classes with equally many pixels the lowest id wins. An instance without a labeled pixel is
  no member.

  Args:
    instance: Instance ids (n, h, w), unique within an image; 0 and below is no instance.
    label: Class ids (n, h, w); those outside [0, num_classes) are unlabeled.
    num_classes: Number of classes.

  Raises:
    ValueError: The shapes differ or are not (n, h, w).
  """
  instance = as_ids(instance, "instance").astype(np.int64)
  label = as_ids(label, "label").astype(np.int64)
  check_shapes(instance=(instance, "n h w"), label=(label, "n h w"))
  keys = (np.arange(len(instance))[:, None, None] << 32) + instance
  inside = instance > 0
  unique, member = np.unique(keys[inside], return_inverse=True)
  labeled = (label[inside] >= 0) & (label[inside] < num_classes)
  cells = member[labeled] * num_classes + label[inside][labeled]
  votes = np.bincount(cells, minlength=len(unique) * num_classes)
  votes = votes.reshape(len(unique), num_classes)
  has_class = votes.any(axis=1)
  ids = np.full(instance.shape, -1, np.int64)
  ids[inside] = np.where(has_class, np.cumsum(has_class) - 1, -1)[member]
  return Groups(ids, votes[has_class].argmax(axis=1), num_classes, "instance")


@dataclasses.dataclass(frozen=True, eq=False)
class GroupMeans(Metric):
  """Means by class over its members of each member's metric (Hwang et al. 2019, Sec. 4.4).

  With I_c the instances of class c and M_{i,c} the metric over the pixels of instance i:
  sum_{i in I_c} M_{i,c} / |I_c|. An instance is within one image; one without a pixel that counts
  is not in I_c. With images for instances and a single class this is the mean over images.

  Attributes:
    sums: Sum over the members of each class by metric, float64 (c,).
    members: Number |I_c| of members of each class, int64 (c,).
    kind: "instance" or "image".
    rules: Description of which pixels count, and how.

  Examples:
    >>> from asmjax.metrics.depth import DepthErrors
    >>> predictions, depth = [[[1, 2]], [[3, 3]]], [[[1, 1]], [[1, 0]]]
    >>> errors = DepthErrors.from_batch(predictions, depth)
    >>> images = image_groups((2, 1, 2))
    >>> means = GroupMeans.from_batch(predictions, depth, errors=DepthErrors, groups=images)
    >>> errors.compute()["rel"], means.compute()["rel"]
    (1.0, 1.25)
  """

  sums: Mapping[str, np.ndarray]
  members: np.ndarray
  kind: str
  rules: str

  @classmethod
  def empty(
    cls, num_classes: int = 1, *, errors: type[PixelErrors], kind: str = "image", **options: Any
  ) -> "GroupMeans":
    """Creates the state of no members; see `from_batch`."""
    nothing = np.zeros(0, np.int64)
    groups = Groups(nothing, nothing, num_classes, kind)
    return cls._from_errors(errors.empty(num_groups=0, **options), groups)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    errors: type[PixelErrors],
    groups: Groups,
    **options: Any,
  ) -> "GroupMeans":
    """Computes each member's metric and sums them by class.

    Args:
      predictions: Predicted values of the pixels.
      targets: True values of the pixels.
      errors: Metric of the values.
      groups: Members and their pixels.
      **options: Further keyword arguments of the metric.

    Raises:
      ValueError: The shapes of values and groups differ.
    """
    by_member = errors.from_batch(
      predictions, targets, group=groups.ids, num_groups=len(groups.class_of), **options
    )
    return cls._from_errors(by_member, groups)

  @classmethod
  def _from_errors(cls, errors: PixelErrors, groups: Groups) -> "GroupMeans":
    counted = errors.sums["pixels"] > 0
    class_of = groups.class_of[counted]
    sums = {
      name: np.bincount(class_of, value[counted], groups.num_classes)
      for name, value in errors.compute_by_group().items()
    }
    members = np.bincount(class_of, minlength=groups.num_classes)
    return cls(sums, members, groups.kind, errors.rules)

  def merge(self, other: "GroupMeans") -> "GroupMeans":
    """Adds the members of both, which are of different images; ValueError if rules differ."""
    if self.protocol != other.protocol:
      raise ValueError(f"cannot merge by two rules: {self.protocol!r} and {other.protocol!r}")
    check_shapes(this=(self.members, "c"), other=(other.members, "c"))
    sums = {name: value + other.sums[name] for name, value in self.sums.items()}
    return dataclasses.replace(self, sums=sums, members=self.members + other.members)

  def compute(self) -> dict[str, float]:
    """Computes the mean over the classes that have members; NaN without any."""
    return {name: nanmean(ratio(value, self.members)) for name, value in self.sums.items()}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes the mean of each class; NaN for a class without members, {} for images."""
    if self.kind == "image":
      return {}
    return {name: ratio(value, self.members) for name, value in self.sums.items()}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return f"mean over each {self.kind} of a class; {self.rules}"
