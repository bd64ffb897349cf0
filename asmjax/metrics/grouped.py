"""Errors of pixels, summed over groups of pixels: all, classes, instances or images."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asmjax.metrics.spread import mean_of_known, ratio

_Errors = TypeVar("_Errors", bound="PixelErrors")


def sums_on_device(
  values: Mapping[str, Array], valid: Array, group: Array | None, groups: int
) -> dict[str, Array]:
  """Sums per-pixel values over the valid pixels of each group, to be added up over devices.

  Args:
    values: arrays of one shape, by name; booleans are counted (int32), others summed (float32).
    valid: boolean, of the same shape.
    group: int ids of the same shape; pixels with an id outside [0, groups) are left out.
      None: all pixels together.
    groups: how many groups.

  Returns:
    By name, and "pixels" with the number of pixels: (groups,), or () without `group`.
  """
  values = {**values, "pixels": jnp.ones_like(valid)}
  numbers = {name: x.astype(int) if x.dtype == bool else x for name, x in values.items()}
  if group is None:
    return {name: jnp.sum(jnp.where(valid, x, 0)) for name, x in numbers.items()}
  cell = jnp.where(valid & (group >= 0) & (group < groups), group, groups)
  # Row by row: long scattered sums would lose three digits of float32, and crowd few addresses.
  rows = cell.size // cell.shape[-1]
  cell = (cell.reshape(rows, -1) + (groups + 1) * jnp.arange(rows)[:, None]).ravel()
  scattered = {
    name: jnp.bincount(cell, x.ravel(), length=rows * (groups + 1)) for name, x in numbers.items()
  }
  return {name: x.reshape(rows, -1)[:, :-1].sum(0) for name, x in scattered.items()}


def sums_on_host(
  values: Mapping[str, np.ndarray], valid: np.ndarray, group: np.ndarray | None, groups: int
) -> dict[str, Any]:
  """`sums_on_device` in NumPy: int64 and float64."""
  values = {**values, "pixels": np.ones_like(valid)}
  if group is None:
    return {name: np.sum(value, where=valid) for name, value in values.items()}
  member = valid & (group >= 0) & (group < groups)
  ids = group[member]
  return {
    name: np.bincount(ids, value[member], groups).astype(np.int64 if value.dtype == bool else float)
    for name, value in values.items()
  }


def require_alike(**shapes: tuple[int, ...] | None) -> None:
  """Raises ValueError unless all shapes but None are equal."""
  known = {name: tuple(shape) for name, shape in shapes.items() if shape is not None}
  if len(set(known.values())) > 1:
    raise ValueError(f"expected one shape for all, found {known}")


@dataclasses.dataclass(frozen=True, eq=False)
class PixelErrors(abc.ABC):
  """Sums over pixels, by group, of any number of images.

  Attributes:
    sums: by name, what the sums over pixels on device or on host returned, or a total of them;
      kept as NumPy float64 and int64.
  """

  sums: Mapping[str, Any]

  def __post_init__(self):
    wide = {name: _wide(np.asarray(value)) for name, value in self.sums.items()}
    object.__setattr__(self, "sums", wide)

  @property
  @abc.abstractmethod
  def rules(self) -> str:
    """Which pixels count, and how."""

  @abc.abstractmethod
  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and group; NaN for a group without a pixel."""

  @property
  def protocol(self) -> str:
    """What `compute` computes."""
    return f"pooled over pixels; {self.rules}"

  def merge(self: _Errors, other: _Errors) -> _Errors:
    """The pixels of both.

    Raises:
      ValueError: they count by other rules, or are of other groups.
    """
    if self.rules != other.rules:
      raise ValueError(f"cannot merge errors by two rules: {self.rules!r} and {other.rules!r}")
    require_alike(first=self.sums["pixels"].shape, second=other.sums["pixels"].shape)
    added = {name: value + other.sums[name] for name, value in self.sums.items()}
    return dataclasses.replace(self, sums=added)

  def pooled(self: _Errors) -> _Errors:
    """All groups as one."""
    axes = tuple(range(self.sums["pixels"].ndim))
    return dataclasses.replace(self, sums={k: v.sum(axes) for k, v in self.sums.items()})

  def compute(self) -> dict[str, float]:
    """Metrics by name, pooled over the pixels of all groups; NaN without any pixel."""
    return {name: float(value) for name, value in self.pooled().scores().items()}

  def mean(self) -> dict[str, float]:
    """Mean of `scores` over the groups that have pixels: class-wise, if groups are classes."""
    return {name: mean_of_known(value) for name, value in self.scores().items()}


class Groups(NamedTuple):
  """Members (instances or images) and their pixels.

  Attributes:
    ids: int64 (n, h, w): the member that a pixel belongs to, -1 for none.
    class_of: int64 (members,): the class of each member.
    classes: C; members without a class are all of class 0 of 1.
    kind: "instance" or "image".
  """

  ids: np.ndarray
  class_of: np.ndarray
  classes: int
  kind: str

  @property
  def members(self) -> int:
    """How many."""
    return len(self.class_of)


def image_groups(shape: tuple[int, int, int]) -> Groups:
  """Every image of an (n, h, w) batch is a member, all of one class."""
  ids = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
  return Groups(ids, np.zeros(shape[0], np.int64), 1, "image")


def instance_groups(instance: Any, label: Any, *, classes: int) -> Groups:
  """Every instance of every image is a member; its class is that of most of its labeled pixels.

  Of classes with equally many pixels the lowest id wins. An instance without a labeled pixel is
  no member.

  Args:
    instance: int ids (n, h, w), unique within an image; 0 and below is no instance.
    label: class ids (n, h, w); those outside [0, classes) are unlabeled.
    classes: C.

  Raises:
    ValueError: the shapes differ or are not (n, h, w).
  """
  instance, label = np.asarray(instance, np.int64), np.asarray(label, np.int64)
  require_alike(instance=instance.shape, label=label.shape)
  if instance.ndim != 3:
    raise ValueError(f"expected instances of shape (n, h, w), found {instance.shape}")
  keys = (np.arange(len(instance))[:, None, None] << 32) + instance
  inside = instance > 0
  unique, member = np.unique(keys[inside], return_inverse=True)
  known = (label[inside] >= 0) & (label[inside] < classes)
  cells = member[known] * classes + label[inside][known]
  votes = np.bincount(cells, minlength=len(unique) * classes).reshape(len(unique), classes)
  has_class = votes.any(axis=1)
  ids = np.full(instance.shape, -1, np.int64)
  ids[inside] = np.where(has_class, np.cumsum(has_class) - 1, -1)[member]
  return Groups(ids, votes[has_class].argmax(axis=1), classes, "instance")


@dataclasses.dataclass(frozen=True, eq=False)
class GroupMeans:
  """By class, the mean over its members of each member's metric (Hwang et al. 2019, Sec. 4.4).

  With I_c the instances of class c and M_{i,c} the metric over the pixels of instance i:
  sum_{i in I_c} M_{i,c} / |I_c|. An instance is within one image; one without a pixel that counts
  is not in I_c. With images for instances and a single class this is the mean over images.

  Attributes:
    sums: by metric, float64 (c,).
    members: |I_c|, int64 (c,).
    protocol: what is averaged.

  Example:
    >>> from asmjax.metrics.depth import DepthErrors
    >>> images, truth = image_groups((2, 1, 2)), [[[1, 1]], [[1, 0]]]
    >>> predicted = [[[1, 2]], [[3, 3]]]
    >>> errors = DepthErrors.of(truth, predicted, group=images.ids, groups=images.members)
    >>> errors.compute()["rel"], GroupMeans.of(errors, images).compute()["rel"]
    (1.0, 1.25)
  """

  sums: Mapping[str, np.ndarray]
  members: np.ndarray
  protocol: str

  @classmethod
  def of(cls, errors: PixelErrors, groups: Groups) -> "GroupMeans":
    """The means of `errors`, which were summed by `groups.ids`.

    Raises:
      ValueError: `errors` has other groups.
    """
    pixels = errors.sums["pixels"]
    require_alike(errors=pixels.shape, groups=groups.class_of.shape)
    counted = pixels > 0
    class_of = groups.class_of[counted]
    sums = {
      name: np.bincount(class_of, value[counted], groups.classes)
      for name, value in errors.scores().items()
    }
    members = np.bincount(class_of, minlength=groups.classes)
    return cls(sums, members, f"mean over each {groups.kind} of a class; {errors.rules}")

  def merge(self, other: "GroupMeans") -> "GroupMeans":
    """The members of both, which are of different images.

    Raises:
      ValueError: they are means of other things.
    """
    if self.protocol != other.protocol:
      raise ValueError(f"cannot merge by two rules: {self.protocol!r} and {other.protocol!r}")
    sums = {name: value + other.sums[name] for name, value in self.sums.items()}
    return dataclasses.replace(self, sums=sums, members=self.members + other.members)

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class; NaN for a class without members."""
    return {name: ratio(value, self.members) for name, value in self.sums.items()}

  def compute(self) -> dict[str, float]:
    """Mean of `scores` over the classes that have members; NaN without any."""
    return {name: mean_of_known(value) for name, value in self.scores().items()}


def _wide(value: np.ndarray) -> np.ndarray:
  return value.astype(np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64)
