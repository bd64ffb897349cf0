"""Errors of pixels, summed over all pixels or over groups of them."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asmjax.metrics.base import Metric
from asmjax.metrics.label_maps import check_whole
from asmjax.utils.shapes import check_shapes

_Errors = TypeVar("_Errors", bound="PixelErrors")


def sum_on_device(
  values: Mapping[str, Array], mask: Array, group: Array | None, num_groups: int
) -> dict[str, Array]:
  """Sums per-pixel values over the pixels of each group, to be added up over devices.

  Args:
    values: Arrays of one shape, by name; booleans are counted (int32), others summed (float32).
    mask: Whether a pixel counts, of the same shape.
    group: Ids of the same shape; pixels with an id outside [0, num_groups) are left out. None has
      all pixels together.
    num_groups: Number of groups.

  Returns:
    Sums by name, and "pixels" with the number of pixels: (num_groups,), or () without `group`.
  """
  values = {**values, "pixels": jnp.ones_like(mask)}
  numbers = {name: x.astype(int) if x.dtype == bool else x for name, x in values.items()}
  if group is None:
    return {name: jnp.sum(jnp.where(mask, x, 0)) for name, x in numbers.items()}
  cell = jnp.where(mask & (group >= 0) & (group < num_groups), group, num_groups)
  # Row by row: long scattered sums would lose three digits of float32, and crowd few addresses.
  rows = cell.size // cell.shape[-1]
  cell = (cell.reshape(rows, -1) + (num_groups + 1) * jnp.arange(rows)[:, None]).ravel()
  scattered = {
    name: jnp.bincount(cell, x.ravel(), length=rows * (num_groups + 1))
    for name, x in numbers.items()
  }
  return {name: x.reshape(rows, -1)[:, :-1].sum(0) for name, x in scattered.items()}


def as_groups(group: Any, xp: Any) -> Any:
  """Returns ids of groups as integers in the namespace `xp`; ValueError for fractions."""
  group = xp.asarray(group)
  if group.size:
    check_whole(group, "groups")
  return group.astype(int)


def sum_on_host(
  values: Mapping[str, np.ndarray], mask: np.ndarray, group: np.ndarray | None, num_groups: int
) -> dict[str, Any]:
  """Computes `sum_on_device` in NumPy: int64 and float64."""
  values = {**values, "pixels": np.ones_like(mask)}
  if group is None:
    return {name: np.sum(value, where=mask) for name, value in values.items()}
  member = mask & (group >= 0) & (group < num_groups)
  ids = group[member]
  return {
    name: np.bincount(ids, value[member], num_groups).astype(
      np.int64 if value.dtype == bool else float
    )
    for name, value in values.items()
  }


@dataclasses.dataclass(frozen=True, eq=False)
class PixelErrors(Metric):
  """Sums over pixels, by group, of any number of images; base class of depth and normals.

  Attributes:
    sums: Result of a sum over pixels on device or on host, or a total of such, by name; kept as
      NumPy float64 and int64.
    pixel_shape: Shape of the value of one pixel.
  """

  sums: Mapping[str, Any]

  pixel_shape: ClassVar[tuple[int, ...]] = ()

  def __post_init__(self):
    widen = lambda x: x.astype(np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64)
    wide = {name: widen(np.asarray(value)) for name, value in self.sums.items()}
    object.__setattr__(self, "sums", wide)

  @classmethod
  def empty(cls: type[_Errors], *, num_groups: int | None = None, **options: Any) -> _Errors:
    """Creates the state of no pixels.

    Args:
      num_groups: Number of groups; None has all pixels together.
      **options: Further keyword arguments of `from_batch`.
    """
    nothing = np.zeros((0, *cls.pixel_shape))
    group = None if num_groups is None else np.zeros(0, int)
    return cls.from_batch(nothing, nothing, group=group, num_groups=num_groups or 0, **options)

  @property
  @abc.abstractmethod
  def rules(self) -> str:
    """Description of which pixels count, and how."""

  @abc.abstractmethod
  def compute_by_group(self) -> dict[str, np.ndarray]:
    """Computes metrics by name and group; NaN for a group without a pixel."""

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return f"pooled over pixels; {self.rules}"

  def merge(self: _Errors, other: _Errors) -> _Errors:
    """Adds the pixels of both; ValueError if they count by other rules, or have other groups."""
    if self.rules != other.rules:
      raise ValueError(f"cannot merge errors by two rules: {self.rules!r} and {other.rules!r}")
    check_shapes(this=(self.sums["pixels"], "*groups"), other=(other.sums["pixels"], "*groups"))
    added = {name: value + other.sums[name] for name, value in self.sums.items()}
    return dataclasses.replace(self, sums=added)

  def pool(self: _Errors) -> _Errors:
    """Adds the pixels of all groups."""
    axes = tuple(range(self.sums["pixels"].ndim))
    return dataclasses.replace(self, sums={k: v.sum(axes) for k, v in self.sums.items()})

  def compute(self) -> dict[str, float]:
    """Computes metrics over the pixels of all groups together; NaN without any pixel."""
    return {name: float(value) for name, value in self.pool().compute_by_group().items()}
