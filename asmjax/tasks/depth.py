"""Monocular depth in meters."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, UInt8, UInt16
from PIL import Image

from asmjax.losses.pixel import squared_error
from asmjax.metrics.depth import FARTHEST, DepthErrors, sum_depth_errors
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.base import Task, Truth
from asmjax.tasks.extra_metrics import ExtraMetric, grouped_metrics
from asmjax.utils.colors import depth_colors, error_colors

# Depth in meters below which the logarithm stays as it is: sensors see nothing nearer than 1 cm.
_MIN_DEPTH = 1e-2
# Depth in meters of an output of 0: a network that starts near 0 must not start where the rectifier
# has no slope.
_DEPTH_OF_ZERO = 1.0
# Meters of one step of a 16-bit depth map, millimeters, as in ScanNet and TUM-like data.
_STORED_UNIT = 1e-3
# Percentiles of depth between which colors run: a few outliers would leave all others one color.
_COLORED_PERCENTILES = (2, 98)
# Relative error that is drawn brightest.
_BRIGHTEST_ERROR = 0.5


@dataclasses.dataclass(frozen=True)
class Depth(Task):
  """Distance of every pixel along the optical axis; its structure is the logarithm.

  The output plus 1, rectified, is the depth in meters.

  Attributes:
    released: Whether meters are reconstructed from the rectified output, as the released code does,
      instead of logarithms on the structure's scale.
    cap: Depth in meters beyond which nothing is evaluated.
    classes: Names of the data set's classes, for class- and instance-wise metrics.
    extra_metrics: Any of "image", "instance" and "class": means over these of each one's metrics.
  """

  released: bool = False
  cap: float = FARTHEST
  classes: tuple[str, ...] = ()

  truth_key: ClassVar[str] = "depth"
  extra_metric_kinds: ClassVar[Mapping[str, ExtraMetric]] = grouped_metrics(
    DepthErrors, lambda task: {"cap": task.cap}
  )

  @property
  def channels(self) -> int:
    """Number of channels, 1."""
    return 1

  @property
  def pixel_loss_label(self) -> str:
    """Formula of the pixel loss and its unit."""
    return "squared error, m²"

  def mask(self, truth: Truth) -> Float[Array, "n h w 1"]:
    """Marks the pixels whose depth is finite and above 0."""
    depth = jnp.asarray(truth["depth"])
    return ((depth > 0) & jnp.isfinite(depth)).astype(jnp.float32)[..., None]

  def true_structure(self, truth: Truth) -> Float[Array, "n h w 1"]:
    """Computes log(max(d, 0.01)), 0 where missing."""
    mask = self.mask(truth) > 0
    return jnp.where(mask, _log_depth(jnp.where(mask, _true_meters(truth), 1)), 0)

  def structure(self, output: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """Computes log(max(d, 0.01)) of the predicted depth d."""
    return _log_depth(_to_meters(output))

  def pixel_loss(self, output: Float[Array, "n h w 1"], truth: Truth) -> MaskedMean:
    """Computes the squared error in square meters."""
    return squared_error(_to_meters(output), _true_meters(truth), mask=self.mask(truth))

  def reconstruction_loss(
    self, reconstruction: Float[Array, "n h w 1"], truth: Truth
  ) -> MaskedMean:
    """Computes the squared error of logarithms, or as `released` says."""
    if self.released:
      return self.pixel_loss(reconstruction, truth)
    return squared_error(reconstruction, self.true_structure(truth), mask=self.mask(truth))

  def from_reconstruction(self, reconstruction: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """Converts reconstructed logarithms to an output."""
    if self.released:
      return reconstruction
    return self.from_prediction(jnp.exp(reconstruction[..., 0]))

  @property
  def protocol(self) -> str:
    """Description of how the metrics are computed."""
    rules = DepthErrors.empty(cap=self.cap).protocol
    return f"{rules}; meters upscaled bilinearly to the truth's size"

  def metric_sums(
    self, output: Float[Array, "n _ _ 1"], truth: Truth, *, align_corners: bool = False
  ) -> dict[str, Num[Array, ""]]:
    """Sums errors at the size of the truth."""
    depth = jnp.asarray(truth["depth"])
    _, height, width = depth.shape
    meters = self.predict(output, (height, width), align_corners=align_corners)
    return sum_depth_errors(meters, depth, cap=self.cap)

  def compute_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Computes the metrics of `DepthErrors`."""
    return DepthErrors(sums, self.cap).compute()

  def predict(
    self, output: Float[Array, "n _ _ 1"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w"]:
    """Predicts meters at the image's size."""
    return self.soft_prediction(output, size, align_corners=align_corners)[..., 0]

  def soft_prediction(
    self, output: Float[Array, "n _ _ 1"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 1"]:
    """Computes meters at the image's size."""
    return upsample(_to_meters(output), size, align_corners=align_corners)

  def unscale(
    self, soft_prediction: Float[np.ndarray, "h w 1"], factor: float
  ) -> Float[np.ndarray, "h w 1"]:
    """Multiplies meters by the factor, the inverse of `rescale_depth_and_normals`."""
    return soft_prediction * np.float32(factor)

  def postprocess(self, soft_prediction: Float[np.ndarray, "h w 1"]) -> Float[np.ndarray, "h w"]:
    """Drops the axis of channels."""
    return soft_prediction[..., 0]

  def from_prediction(self, predictions: Float[ArrayLike, "n h w"]) -> Float[Array, "n h w 1"]:
    """Converts meters to the output that means them."""
    return jnp.asarray(predictions)[..., None] - _DEPTH_OF_ZERO

  def from_soft_prediction(
    self, soft_predictions: Float[Array, "n h w 1"]
  ) -> Float[Array, "n h w 1"]:
    """Converts meters to the output that means them."""
    return self.from_prediction(soft_predictions[..., 0])

  def draw_predictions(
    self,
    predictions: Float[np.ndarray, "n h w"],
    truth: Truth,
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draws depths in one range of colors, that of the truths, and relative errors.

    An error of a half is the brightest.
    """
    del palette
    depth = np.asarray(truth["depth"])
    known = np.isfinite(depth) & (depth > 0)
    low, high = np.percentile(depth[known], _COLORED_PERCENTILES) if known.any() else (0.0, 1.0)
    draw = lambda maps: np.stack([depth_colors(image, low, high) for image in maps])
    error = np.where(known, np.abs(predictions - depth) / np.where(known, depth, 1), np.nan)
    return {
      "truth": draw(depth),
      "prediction": draw(np.maximum(predictions, _MIN_DEPTH)),
      "error": np.stack([error_colors(image, _BRIGHTEST_ERROR) for image in error]),
    }

  def encode(
    self, prediction: Float[np.ndarray, "h w"], palette: UInt8[np.ndarray, "classes 3"]
  ) -> Image.Image:
    """Encodes meters as 16 bits of millimeters."""
    del palette
    return Image.fromarray(to_millimeters(prediction))

  def draw_overlay(
    self,
    image: UInt8[np.ndarray, "h w 3"],
    prediction: Float[np.ndarray, "h w"],
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> UInt8[np.ndarray, "h w 3"]:
    """Draws depths from blue, the nearest of the image, to red."""
    del image, palette
    low, high = np.percentile(prediction, _COLORED_PERCENTILES)
    return depth_colors(prediction, low, high)


def to_millimeters(meters: Float[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
  """Rounds depths in meters to millimeters, clipped to the 16 bits of a depth map."""
  return np.clip(np.rint(meters / _STORED_UNIT), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _to_meters(output: Float[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
  return jax.nn.relu(output + _DEPTH_OF_ZERO)


def _true_meters(truth: Truth) -> Float[Array, "n h w 1"]:
  return jnp.asarray(truth["depth"])[..., None]


def _log_depth(meters: Array) -> Array:
  return jnp.log(jnp.maximum(meters, _MIN_DEPTH))
