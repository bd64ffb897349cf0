"""Errors of depth maps in meters (Eigen et al. 2014; Hwang et al. 2019, Sec. 4.4)."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Integer, Num

from asmjax.metrics.moments import ratio
from asmjax.metrics.pixel_errors import PixelErrors, as_groups, sum_on_device, sum_on_host
from asmjax.utils.shapes import check_shapes

# Depths in meters that errors are computed with; both keep every float32 sum finite.
NEAREST, FARTHEST = 1e-3, 1e6

# A pixel is right up to a factor; Hwang et al. argue for the tight ones: they tell about detail.
FACTORS = {
  "delta_1.25^0.125": 1.25**0.125,
  "delta_1.25^0.25": 1.25**0.25,
  "delta_1.25^0.5": 1.25**0.5,
  "delta_1.25": 1.25,
  "delta_1.25^2": 1.25**2,
  "delta_1.25^3": 1.25**3,
}


def sum_depth_errors(
  predictions: Num[ArrayLike, "*shape"],
  targets: Num[ArrayLike, "*shape"],
  *,
  cap: float = FARTHEST,
  group: Integer[ArrayLike, "*shape"] | None = None,
  num_groups: int = 1,
) -> dict[str, Array]:
  """Sums what `DepthErrors` is made of, on device: to be added up over devices and batches.

  Errors and their sums are float32 (relative error of a sum below 1e-5), counts are int32.

  Args:
    predictions: Predicted depths in meters, taken as in `DepthErrors`.
    targets: True depths in meters; pixels outside (0, cap], or not finite, are left out.
    cap: Largest true depth that counts, in meters.
    group: Ids for sums by group; pixels with an id outside [0, num_groups) are left out.
    num_groups: Number of groups.

  Returns:
    Sums and counts by name, each of shape (num_groups,), or () without `group`.

  Raises:
    ValueError: Shapes differ, or `cap` is out of range.
  """
  return sum_on_device(*_pixel_errors(predictions, targets, group, cap, jnp), num_groups)


@dataclasses.dataclass(frozen=True, eq=False)
class DepthErrors(PixelErrors):
  """Errors of depth over any number of images, by group.

  With y the truth and p the prediction of a pixel, in meters:

  | metric | of each pixel | |
  |---|---|---|
  | `rel` | abs(y - p) / y | Eigen et al. |
  | `rel_by_prediction` | abs(y - p) / p | as Hwang et al. print it |
  | `sq_rel` | (y - p)^2 / y | meters |
  | `rms` | (y - p)^2, root of the mean | meters |
  | `log_rms` | (ln y - ln p)^2, root of the mean | as Hwang et al. print "log10" |
  | `log10` | abs(log10 y - log10 p) | |
  | `delta_1.25^k` | max(y / p, p / y) < 1.25^k | part of the pixels |

  The truth of a pixel is missing where it is not finite, 0, negative or beyond the cap. Predictions
  are clipped to [1 mm, cap]; one that is not a number counts as 1 mm. A truth below 1 mm counts as
  1 mm as well. So every metric is finite as soon as a single pixel has a truth.

  Attributes:
    sums: Sums by name, float64 and int64 (groups,), or () for all pixels together.
    cap: Largest true depth that counts, in meters; at most and by default 1e6, as good as none.

  Examples:
    >>> errors = DepthErrors.from_batch([[2, 5, 9]], [[2, 4, 0]])
    >>> print(errors.compute()["rel"], errors.compute()["rel_by_prediction"])
    0.125 0.1
  """

  cap: float = FARTHEST

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    cap: float = FARTHEST,
    group: Any = None,
    num_groups: int = 1,
  ) -> "DepthErrors":
    """Computes `sum_depth_errors` in NumPy and float64, for arrays of any equal shape."""
    return cls(sum_on_host(*_pixel_errors(predictions, targets, group, cap, np), num_groups), cap)

  @property
  def rules(self) -> str:
    """Description of which pixels count, and how."""
    return (
      f"true depth in (0, {self.cap:g}] m, else missing; "
      f"predictions clipped to [{NEAREST:g}, {self.cap:g}] m"
    )

  def compute_by_group(self) -> dict[str, np.ndarray]:
    """Computes metrics by name and group; NaN for a group without a pixel."""
    roots = {"squared": "rms", "log_squared": "log_rms"}
    metrics = {}
    for name, total in self.sums.items():
      mean = ratio(total, self.sums["pixels"])
      metrics[roots.get(name, name)] = np.sqrt(mean) if name in roots else mean
    del metrics["pixels"]
    return metrics


def _pixel_errors(
  predictions: Any, targets: Any, group: Any, cap: float, xp: Any
) -> tuple[dict[str, Any], Any, Any]:
  """Computes errors by name in the namespace `xp`, where they count, and the checked groups."""
  predictions, targets = xp.asarray(predictions, float), xp.asarray(targets, float)
  group = None if group is None else as_groups(group, xp)
  check_shapes(
    predictions=(predictions, "*shape"), targets=(targets, "*shape"), group=(group, "*shape")
  )
  if not NEAREST < cap <= FARTHEST:
    raise ValueError(f"expected a cap in ({NEAREST:g}, {FARTHEST:g}] m, found {cap!r}")
  cap = max(cap, float(np.float32(cap)))  # Which a depth in float32 may be, as on the device.
  mask = (targets > 0) & (targets <= cap)
  targets = xp.maximum(xp.where(mask, targets, 1), NEAREST)
  predictions = xp.minimum(xp.where(predictions > NEAREST, predictions, NEAREST), cap)
  absolute = xp.abs(targets - predictions)
  log = xp.log(targets / predictions)
  factor = xp.maximum(targets / predictions, predictions / targets)
  errors = {
    "rel": absolute / targets,
    "rel_by_prediction": absolute / predictions,
    "sq_rel": absolute**2 / targets,
    "squared": absolute**2,
    "log_squared": log**2,
    "log10": xp.abs(log) / math.log(10),
  }
  return errors | {name: factor < limit for name, limit in FACTORS.items()}, mask, group
