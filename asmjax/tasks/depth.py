"""Monocular depth in meters."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from asmjax.losses.pixel import squared_error
from asmjax.metrics.depth import FARTHEST, DepthErrors, sum_depth_errors
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.detail import Detail, Detailed, of_groups
from asmjax.utils.colors import depth_colors, error_colors

# Structures are logarithms of depths of at least so many meters.
NEAREST = 1e-2
# What a map of zeros means, in meters: a network that starts near 0 must not start where the
# rectifier has no slope.
START = 1.0


KINDS = of_groups(
  lambda task, found, truth, group, groups: DepthErrors.of(
    truth["depth"], found, cap=task.cap, group=group, groups=groups
  )
)


@dataclasses.dataclass(frozen=True)
class Depth(Detailed):
  """The distance of every pixel along the optical axis; the structure is its logarithm.

  The predictor's map, plus 1 m, is rectified to meters.

  Attributes:
    weight: of this task in the pixel and the reconstruction loss.
    released: reconstruct meters from the rectified map, as the released code does, instead of
      logarithms on the structure's scale.
    cap: meters beyond which nothing is evaluated.
    classes: of the data set, for class- and instance-wise metrics.
    details: any of "image", "instance" and "class": means over these of the metrics of each.
  """

  weight: float = 1.0
  released: bool = False
  cap: float = FARTHEST
  classes: tuple[str, ...] = ()

  truth: ClassVar[str] = "depth"
  channels: ClassVar[int] = 1
  kinds: ClassVar[Mapping[str, Detail]] = KINDS

  @property
  def protocol(self) -> str:
    """How the metrics are computed."""
    rules = DepthErrors.empty(cap=self.cap).protocol
    return f"{rules}; meters upscaled bilinearly to the truth's size"

  def valid(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 1"]:
    """1 where the depth is known."""
    depth = jnp.asarray(truth["depth"])
    return ((depth > 0) & jnp.isfinite(depth)).astype(jnp.float32)[..., None]

  def true_structure(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 1"]:
    """log(max(d, 0.01)), 0 where missing."""
    valid = self.valid(truth) > 0
    return jnp.where(valid, _log(jnp.where(valid, _meters(truth), 1)), 0)

  def structure(self, output: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """log(max(d, 0.01)) of the prediction."""
    return _log(self.decide(output))

  def binarised(self, output: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """The structure, without gradient: a depth has no winner to take all."""
    return jax.lax.stop_gradient(self.structure(output))

  def pixel_loss(
    self, output: Float[Array, "n h w 1"], truth: Mapping[str, ArrayLike]
  ) -> MaskedMean:
    """Squared error in meters."""
    return squared_error(self.decide(output), _meters(truth), valid=self.valid(truth))

  def reconstruction_loss(
    self, rebuilt: Float[Array, "n h w 1"], truth: Mapping[str, ArrayLike]
  ) -> MaskedMean:
    """IID(y, R(A(y))): squared error of logarithms, or as `released` says."""
    if self.released:
      return self.pixel_loss(rebuilt, truth)
    return squared_error(rebuilt, self.true_structure(truth), valid=self.valid(truth))

  def measure(
    self,
    output: Float[Array, "n h w 1"],
    truth: Mapping[str, ArrayLike],
    *,
    align_corners: bool = False,
  ) -> dict[str, Num[Array, ""]]:
    """What evaluation adds up: sums of errors at the truth's size."""
    meters = self.prediction(output, truth["depth"].shape[1:3], align_corners=align_corners)
    return sum_depth_errors(truth["depth"], meters, cap=self.cap)

  def scores(self, total: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics by name, from the sum of all `measure`s."""
    return DepthErrors(total, self.cap).compute()

  def pictures(
    self,
    output: Float[ArrayLike, "n _ _ 1"],
    truth: Mapping[str, ArrayLike],
    palette: np.ndarray,
    *,
    align_corners: bool = False,
  ) -> dict[str, np.ndarray]:
    """Truth, prediction and relative error as uint8 (n, h, w, 3) at the truth's size.

    All depths share one range of colors, that of the truths; an error of a half is the brightest.
    """
    del palette
    depth = np.asarray(truth["depth"])
    meters = np.asarray(
      self.prediction(jnp.asarray(output), depth.shape[1:3], align_corners=align_corners)
    )
    known = np.isfinite(depth) & (depth > 0)
    low, high = np.percentile(depth[known], (2, 98)) if known.any() else (0.0, 1.0)
    colors = lambda maps: np.stack([depth_colors(each, low, high) for each in maps])
    error = np.where(known, np.abs(meters - depth) / np.where(known, depth, 1), np.nan)
    return {
      "truth": colors(depth),
      "prediction": colors(np.maximum(meters, NEAREST)),
      "error": np.stack([error_colors(each, 0.5) for each in error]),
    }

  def prediction(
    self, output: Float[Array, "n _ _ 1"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w"]:
    """Meters at the image's size; see `asmjax.ops.resize.upsample`."""
    return self.estimate(output, size, align_corners=align_corners)[..., 0]

  def estimate(
    self, output: Float[Array, "n _ _ 1"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 1"]:
    """Meters at the image's size: what may be averaged over views of an image."""
    return upsample(self.decide(output), size, align_corners=align_corners)

  def flipped(self, estimate: Float[np.ndarray, "h w 1"]) -> Float[np.ndarray, "h w 1"]:
    """The estimate of an image from that of its flipped image."""
    return estimate[:, ::-1]

  def receded(
    self, estimate: Float[np.ndarray, "h w 1"], factor: float
  ) -> Float[np.ndarray, "h w 1"]:
    """Undoes `asmjax.data.transforms.approach`: meters times the factor."""
    return estimate * np.float32(factor)

  def conclude(self, estimate: Float[np.ndarray, "h w 1"]) -> Float[np.ndarray, "h w"]:
    """Meters."""
    return estimate[..., 0]

  def decide(self, output: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """Meters."""
    return jax.nn.relu(output + START)

  def output_of(self, prediction: Float[ArrayLike, "n h w"]) -> Float[Array, "n h w 1"]:
    """The map that means the meters of a `prediction`."""
    return jnp.asarray(prediction)[..., None] - START

  def output_of_estimate(self, estimate: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """The map that means the meters of an `estimate`."""
    return self.output_of(estimate[..., 0])


def _meters(truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 1"]:
  return jnp.asarray(truth["depth"])[..., None]


def _log(meters: Array) -> Array:
  return jnp.log(jnp.maximum(meters, NEAREST))
