"""Errors of depth maps in meters (Eigen et al. 2014; Hwang et al. 2019, Sec. 4.4)."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Num

from asmjax.metrics.grouped import PixelErrors, require_alike, sums_on_device, sums_on_host
from asmjax.metrics.spread import ratio

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
  truth: Num[ArrayLike, "*shape"],
  predicted: Num[ArrayLike, "*shape"],
  *,
  cap: float = FARTHEST,
  group: Integer[ArrayLike, "*shape"] | None = None,
  groups: int = 1,
) -> dict[str, Array]:
  """What `DepthErrors` is made of, on device: to be added up over devices and batches.

  Errors and their sums are float32 (relative error of a sum below 1e-5), counts are int32.

  Args:
    truth: depths in meters; pixels outside (0, cap], or not finite, are left out.
    predicted: depths in meters, taken as in `DepthErrors`.
    cap: in meters.
    group: ids, for sums by group; pixels with an id outside [0, groups) are left out.
    groups: how many groups.

  Returns:
    Sums and counts by name, each of shape (groups,), or () without `group`.

  Raises:
    ValueError: shapes differ, or `cap` is out of range.
  """
  truth, predicted = jnp.asarray(truth, float), jnp.asarray(predicted, float)
  group = None if group is None else jnp.asarray(group, int)
  _check(truth, predicted, cap, group)
  return sums_on_device(*_pixel_errors(truth, predicted, cap, jnp), group, groups)


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
  | `log_rms` | (ln y - ln p)^2, root of the mean | |
  | `log10` | abs(log10 y - log10 p) | |
  | `delta_1.25^k` | max(y / p, p / y) < 1.25^k | part of the pixels |

  The truth of a pixel is missing where it is not finite, 0, negative or beyond the cap. Predictions
  are clipped to [1 mm, cap]; one that is not a number counts as 1 mm. A truth below 1 mm counts as
  1 mm as well. So every metric is finite as soon as a single pixel has a truth.

  Attributes:
    sums: by name, float64 and int64 (groups,), or () for all pixels together.
    cap: in meters, at most 1e6, which is as good as none.

  Example:
    >>> errors = DepthErrors.of([[2, 4, 0]], [[2, 5, 9]])
    >>> print(errors.compute()["rel"], errors.compute()["rel_by_prediction"])
    0.125 0.1
  """

  cap: float = FARTHEST

  @classmethod
  def empty(cls, *, cap: float = FARTHEST, groups: int | None = None) -> "DepthErrors":
    """No pixels; `groups` None is all pixels together."""
    nothing = np.zeros(0 if groups is None else (0,))
    group = None if groups is None else nothing.astype(int)
    return cls.of(nothing, nothing, cap=cap, group=group, groups=groups or 0)

  @classmethod
  def of(
    cls, truth: Any, predicted: Any, *, cap: float = FARTHEST, group: Any = None, groups: int = 1
  ) -> "DepthErrors":
    """`sum_depth_errors` in NumPy and float64, for arrays of any equal shape.

    Raises:
      ValueError: shapes differ, or `cap` is out of range.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    group = None if group is None else np.asarray(group, int)
    _check(truth, predicted, cap, group)
    return cls(sums_on_host(*_pixel_errors(truth, predicted, cap, np), group, groups), cap)

  @property
  def rules(self) -> str:
    """Which pixels count, and how."""
    return (
      f"true depth in (0, {self.cap:g}] m, else missing; "
      f"predictions clipped to [{NEAREST:g}, {self.cap:g}] m"
    )

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and group; NaN for a group without a pixel."""
    means = {
      name: ratio(value, self.sums["pixels"])
      for name, value in self.sums.items()
      if name != "pixels"
    }
    roots = {"squared": "rms", "log_squared": "log_rms"}
    return {
      roots.get(name, name): np.sqrt(value) if name in roots else value
      for name, value in means.items()
    }


def _check(truth: Any, predicted: Any, cap: float, group: Any) -> None:
  require_alike(
    truth=truth.shape, predicted=predicted.shape, group=None if group is None else group.shape
  )
  if not NEAREST < cap <= FARTHEST:
    raise ValueError(f"expected a cap in ({NEAREST:g}, {FARTHEST:g}] m, found {cap!r}")


def _pixel_errors(
  truth: Float[Any, "*shape"], predicted: Float[Any, "*shape"], cap: float, xp: Any
) -> tuple[dict[str, Any], Any]:
  """Errors by name in the namespace `xp`, and where they are valid."""
  valid = (truth > 0) & (truth <= cap)
  truth = xp.maximum(xp.where(valid, truth, 1), NEAREST)
  predicted = xp.minimum(xp.where(predicted > NEAREST, predicted, NEAREST), cap)
  absolute = xp.abs(truth - predicted)
  log = xp.log(truth / predicted)
  factor = xp.maximum(truth / predicted, predicted / truth)
  errors = {
    "rel": absolute / truth,
    "rel_by_prediction": absolute / predicted,
    "sq_rel": absolute**2 / truth,
    "squared": absolute**2,
    "log_squared": log**2,
    "log10": xp.abs(log) / math.log(10),
  }
  return errors | {name: factor < limit for name, limit in FACTORS.items()}, valid
