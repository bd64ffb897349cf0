"""Angles between surface normals (Fouhey et al. 2013; Hwang et al. 2019, Sec. 4.4)."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Integer, Num

from asmjax.metrics.moments import ratio
from asmjax.metrics.pixel_errors import PixelErrors, as_groups, sum_on_device, sum_on_host
from asmjax.utils.shapes import check_shapes

# Width of the histogram's bins in degrees. Papers print medians with two decimals, and so wide the
# histogram of one group takes 72 kB.
BIN = 0.01
_NUM_BINS = round(180 / BIN) + 1

# As in Table 4 of Hwang et al.
ANGLES = {f"within_{angle:g}": angle for angle in (2.82, 5.63, 11.25, 22.5, 30.0)}


def sum_normal_errors(
  predictions: Num[ArrayLike, "*shape 3"],
  targets: Num[ArrayLike, "*shape 3"],
  *,
  group: Integer[ArrayLike, "*shape"] | None = None,
  num_groups: int = 1,
) -> dict[str, Array]:
  """Sums what `NormalErrors` is made of, on device: to be added up over devices and batches.

  Angles are float32 (to 1e-4 degrees) and so is their sum (relative error below 1e-5); counts and
  the histogram, of 72 kB for each group, are int32.

  Args:
    predictions: Predicted normals of any length, taken as in `NormalErrors`.
    targets: True normals of any positive length; a pixel is left out where it is 0 or not finite.
    group: Ids for sums by group; pixels with an id outside [0, num_groups) are left out.
    num_groups: Number of groups.

  Returns:
    Sums and counts by name, each of shape (num_groups,), or () without `group`; "histogram" has one
    more axis, of bins.

  Raises:
    ValueError: Shapes differ, or the last axis is not of size 3.
  """
  values, mask, ids = _pixel_errors(predictions, targets, group, jnp)
  sums = sum_on_device(values, mask, ids, num_groups)
  return sums | {"histogram": _count_angles(values["mean"], mask, ids, num_groups, jnp)}


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
    sums: Sums by name, float64 and int64 (groups,), or () for all pixels together; "histogram" has
      one more axis: how many angles round to 0, 0.01, ..., 180 degrees.

  Examples:
    >>> predictions = [[0, 0, 2], [0, 1, 1], [1, 0, 0]]
    >>> targets = [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    >>> scores = NormalErrors.from_batch(predictions, targets).compute()
    >>> round(scores["mean"], 2), round(scores["median"], 2), scores["within_30"]
    (22.5, 22.5, 0.5)
  """

  pixel_shape: ClassVar[tuple[int, ...]] = (3,)

  @classmethod
  def from_batch(
    cls, predictions: Any, targets: Any, *, group: Any = None, num_groups: int = 1
  ) -> "NormalErrors":
    """Computes `sum_normal_errors` in NumPy and float64, for any equal shape (..., 3)."""
    values, mask, ids = _pixel_errors(predictions, targets, group, np)
    sums = sum_on_host(values, mask, ids, num_groups)
    return cls(sums | {"histogram": _count_angles(values["mean"], mask, ids, num_groups, np)})

  @property
  def rules(self) -> str:
    """Description of which pixels count, and how."""
    return (
      "true normal of 0 is missing; a prediction of 0 counts as 90 degrees; "
      f"median of angles rounded to {BIN:g} degrees (off by at most {BIN / 2:g})"
    )

  def compute_by_group(self) -> dict[str, np.ndarray]:
    """Computes metrics by name and group; NaN for a group without a pixel."""
    pixels = self.sums["pixels"]
    return {
      "mean": ratio(self.sums["mean"], pixels),
      "median": _find_median(self.sums["histogram"], pixels),
      **{name: ratio(self.sums[name], pixels) for name in ANGLES},
    }


def _pixel_errors(
  predictions: Any, targets: Any, group: Any, xp: Any
) -> tuple[dict[str, Any], Any, Any]:
  """Computes angles in degrees and whether they are small, where they count, and the groups."""
  predictions, targets = xp.asarray(predictions, float), xp.asarray(targets, float)
  group = None if group is None else as_groups(group, xp)
  check_shapes(
    predictions=(predictions, "*shape 3"), targets=(targets, "*shape 3"), group=(group, "*shape")
  )
  (ax, ay, az), mask = _rescale(targets, xp)
  (bx, by, bz), known = _rescale(predictions, xp)
  cross = (ay * bz - az * by) ** 2 + (az * bx - ax * bz) ** 2 + (ax * by - ay * bx) ** 2
  angle = xp.degrees(xp.arctan2(xp.sqrt(cross), ax * bx + ay * by + az * bz))
  angle = xp.where(known, angle, 90)
  is_small = {name: angle < limit for name, limit in ANGLES.items()}
  return {"mean": angle} | is_small, mask, group


def _rescale(normals: Any, xp: Any) -> tuple[tuple[Any, Any, Any], Any]:
  """Divides by the largest component, so that no product overflows, and marks the normals."""
  x, y, z = (normals[..., i] for i in range(3))
  largest = xp.maximum(xp.maximum(xp.abs(x), xp.abs(y)), xp.abs(z))
  known = (largest > 0) & xp.isfinite(largest)
  largest = xp.where(known, largest, 1)
  x, y, z = (xp.where(known, component, 0) / largest for component in (x, y, z))
  return (x, y, z), known


def _count_angles(angle: Any, mask: Any, group: Any, num_groups: int, xp: Any) -> Any:
  """Counts the angles of each group that round to each multiple of `BIN`: ([num_groups,] bins)."""
  rows = 1 if group is None else num_groups
  size = rows * _NUM_BINS
  member = mask if group is None else mask & (group >= 0) & (group < num_groups)
  cell = xp.round(angle / BIN).astype(int) + (0 if group is None else group * _NUM_BINS)
  cell = xp.where(member, cell, size)
  # On device the length must be known; NumPy has no such argument.
  count = np.bincount if xp is np else functools.partial(jnp.bincount, length=size + 1)
  counts = count(cell.ravel(), minlength=size + 1)[:-1].reshape(rows, _NUM_BINS)
  return counts[0] if group is None else counts


def _find_median(histogram: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  """Averages the bins of the one or two middle angles."""
  below = np.cumsum(histogram, axis=-1)
  lower, upper = ((below <= rank[..., None]).sum(-1) for rank in ((pixels - 1) // 2, pixels // 2))
  return np.where(pixels > 0, BIN / 2 * (lower + upper), np.nan)
