"""Angles between surface normals (Fouhey et al. 2013; Hwang et al. 2019, Sec. 4.4)."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Integer, Num

from asmjax.metrics.grouped import PixelErrors, require_alike, sums_on_device, sums_on_host
from asmjax.metrics.spread import ratio

# Degrees.  Papers print medians with two decimals, and the histogram of one group takes 72 kB.
BIN = 0.01
_BINS = round(180 / BIN) + 1

# As in Table 4 of Hwang et al.
ANGLES = {f"within_{angle:g}": angle for angle in (2.82, 5.63, 11.25, 22.5, 30.0)}


def sum_normal_errors(
  truth: Num[ArrayLike, "*shape 3"],
  predicted: Num[ArrayLike, "*shape 3"],
  *,
  group: Integer[ArrayLike, "*shape"] | None = None,
  groups: int = 1,
) -> dict[str, Array]:
  """What `NormalErrors` is made of, on device: to be added up over devices and batches.

  Angles are float32 (to 1e-4 degrees) and so is their sum (relative error below 1e-5); counts and
  the histogram, of 72 kB for each group, are int32.

  Args:
    truth: normals of any positive length; a pixel is left out where it is 0 or not finite.
    predicted: normals of any length, taken as in `NormalErrors`.
    group: ids, for sums by group; pixels with an id outside [0, groups) are left out.
    groups: how many groups.

  Returns:
    Sums and counts by name, each of shape (groups,), or () without `group`; "histogram" has one
    more axis, of bins.

  Raises:
    ValueError: shapes differ, or the last axis is not of size 3.
  """
  truth, predicted = jnp.asarray(truth, float), jnp.asarray(predicted, float)
  group = None if group is None else jnp.asarray(group, int)
  _check(truth, predicted, group)
  values, valid = _pixel_errors(truth, predicted, jnp)
  sums = sums_on_device(values, valid, group, groups)
  return sums | {"histogram": _histogram(values["mean"], valid, group, groups, jnp)}


@dataclasses.dataclass(frozen=True, eq=False)
class NormalErrors(PixelErrors):
  """Angles between true and predicted normals over any number of images, by group.

  Metrics: `mean` and `median` angle in degrees, and `within_t`, the part of the pixels with an
  angle below t degrees.

  The truth of a pixel is missing where it is 0 or not finite. Predictions are normalized; one that
  is 0 or not finite counts as 90 degrees. Angles are atan2(|a x b|, a . b), which is accurate
  for small ones, where the arc cosine is not. The median is read off a histogram: each of the one
  or two middle angles is rounded to 0.01 degrees, so it is off by at most 0.005.

  Attributes:
    sums: by name, float64 and int64 (groups,), or () for all pixels together; "histogram" has one
      more axis: how many angles round to 0, 0.01, ..., 180 degrees.

  Example:
    >>> truth = [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    >>> scores = NormalErrors.of(truth, [[0, 0, 2], [0, 1, 1], [1, 0, 0]]).compute()
    >>> round(scores["mean"], 2), round(scores["median"], 2), scores["within_30"]
    (22.5, 22.5, 0.5)
  """

  @classmethod
  def empty(cls, *, groups: int | None = None) -> "NormalErrors":
    """No pixels; `groups` None is all pixels together."""
    nothing = np.zeros((0, 3))
    group = None if groups is None else np.zeros(0, int)
    return cls.of(nothing, nothing, group=group, groups=groups or 0)

  @classmethod
  def of(cls, truth: Any, predicted: Any, *, group: Any = None, groups: int = 1) -> "NormalErrors":
    """`sum_normal_errors` in NumPy and float64, for arrays of any equal shape (..., 3).

    Raises:
      ValueError: shapes differ, or the last axis is not of size 3.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    group = None if group is None else np.asarray(group, int)
    _check(truth, predicted, group)
    values, valid = _pixel_errors(truth, predicted, np)
    sums = sums_on_host(values, valid, group, groups)
    return cls(sums | {"histogram": _histogram(values["mean"], valid, group, groups, np)})

  @property
  def rules(self) -> str:
    """Which pixels count, and how."""
    return (
      "true normal of 0 is missing; a prediction of 0 counts as 90 degrees; "
      f"median of angles rounded to {BIN:g} degrees (off by at most {BIN / 2:g})"
    )

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and group; NaN for a group without a pixel."""
    pixels = self.sums["pixels"]
    return {
      "mean": ratio(self.sums["mean"], pixels),
      "median": _median(self.sums["histogram"], pixels),
      **{name: ratio(self.sums[name], pixels) for name in ANGLES},
    }


def _check(truth: Any, predicted: Any, group: Any) -> None:
  require_alike(truth=truth.shape, predicted=predicted.shape)
  if truth.shape[-1:] != (3,):
    raise ValueError(f"expected normals of shape (..., 3), found {truth.shape}")
  if group is not None:
    require_alike(normals=truth.shape[:-1], group=group.shape)


def _pixel_errors(truth: Any, predicted: Any, xp: Any) -> tuple[dict[str, Any], Any]:
  """Angle in degrees, and whether it is small, in the namespace `xp`; and where they are valid."""
  (ax, ay, az), valid = _scaled(truth, xp)
  (bx, by, bz), known = _scaled(predicted, xp)
  cross = (ay * bz - az * by) ** 2 + (az * bx - ax * bz) ** 2 + (ax * by - ay * bx) ** 2
  angle = xp.degrees(xp.arctan2(xp.sqrt(cross), ax * bx + ay * by + az * bz))
  angle = xp.where(known, angle, 90)
  return {"mean": angle} | {name: angle < limit for name, limit in ANGLES.items()}, valid


def _scaled(normals: Any, xp: Any) -> tuple[tuple[Any, Any, Any], Any]:
  """Components, the largest of them 1 so that no product overflows; and where there is a normal.

  The angle does not depend on lengths.
  """
  x, y, z = (normals[..., i] for i in range(3))
  largest = xp.maximum(xp.maximum(xp.abs(x), xp.abs(y)), xp.abs(z))
  known = (largest > 0) & xp.isfinite(largest)
  largest = xp.where(known, largest, 1)
  return tuple(xp.where(known, part, 0) / largest for part in (x, y, z)), known


def _histogram(angle: Any, valid: Any, group: Any, groups: int, xp: Any) -> Any:
  """How many angles of each group round to each multiple of `BIN`: (groups, bins), or (bins,)."""
  rows = 1 if group is None else groups
  size = rows * _BINS
  member = valid if group is None else valid & (group >= 0) & (group < groups)
  cell = xp.round(angle / BIN).astype(int) + (0 if group is None else group * _BINS)
  cell = xp.where(member, cell, size)
  # On device the length must be known; NumPy has no such argument.
  count = np.bincount if xp is np else functools.partial(jnp.bincount, length=size + 1)
  counts = count(cell.ravel(), minlength=size + 1)[:-1].reshape(rows, _BINS)
  return counts[0] if group is None else counts


def _median(histogram: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  below = np.cumsum(histogram, axis=-1)
  middle = [(below <= rank[..., None]).sum(-1) for rank in ((pixels - 1) // 2, pixels // 2)]
  return np.where(pixels > 0, BIN / 2 * (middle[0] + middle[1]), np.nan)
