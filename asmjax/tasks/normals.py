"""Surface normals."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, UInt8
from PIL import Image

from asmjax.losses.pixel import l2_normalize, negative_cosine, squared_error
from asmjax.metrics.normals import NormalErrors, sum_normal_errors
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.base import Task, Truth
from asmjax.tasks.extra_metrics import ExtraMetric, grouped_metrics
from asmjax.utils.colors import error_colors, normal_colors

# Factor on the pixel loss in the code that Hwang et al. released.
_RELEASED_FACTOR = 10.0
# Direction of an output of 0: to the camera. The direction of a zero vector has no gradient, and
# that of a tiny one a huge one.
_DIRECTION_OF_ZERO = (0.0, 0.0, 1.0)
# Smallest length that is divided by; means of opposite directions may vanish.
_MIN_LENGTH = np.float32(1e-6)
# Angle in degrees that is drawn brightest.
_BRIGHTEST_ERROR = 60.0


@dataclasses.dataclass(frozen=True)
class Normals(Task):
  """Direction in which every pixel's surface looks; its structure is the unit vector.

  The output is the difference from (0, 0, 1), the direction to the camera, before the length is
  made 1.

  Attributes:
    released: Whether, as in the released code, the pixel loss is minus ten times the cosine and the
      reconstruction loss minus the cosine, instead of the squared distance of unit vectors,
      2 - 2 cos.
    classes: Names of the data set's classes, for class- and instance-wise metrics.
    extra_metrics: Any of "image", "instance" and "class": means over these of each one's metrics.
  """

  released: bool = False
  classes: tuple[str, ...] = ()

  truth_key: ClassVar[str] = "normals"
  extra_metric_kinds: ClassVar[Mapping[str, ExtraMetric]] = grouped_metrics(NormalErrors)
  has_overlay: ClassVar[bool] = False

  @property
  def channels(self) -> int:
    """Number of channels, 3."""
    return 3

  @property
  def pixel_loss_label(self) -> str:
    """Formula of the pixel loss."""
    return "-10 cosine" if self.released else "2 - 2 cosine"

  def mask(self, truth: Truth) -> Float[Array, "n h w 1"]:
    """Marks the pixels whose normal is finite and not 0."""
    normals = jnp.asarray(truth["normals"])
    known = jnp.any(normals != 0, axis=-1, keepdims=True)
    return (known & jnp.all(jnp.isfinite(normals), axis=-1, keepdims=True)).astype(jnp.float32)

  def true_structure(self, truth: Truth) -> Float[Array, "n h w 3"]:
    """Computes the normals, 0 where missing."""
    return jnp.where(self.mask(truth) > 0, jnp.asarray(truth["normals"]), 0)

  def structure(self, output: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Computes unit vectors."""
    return _unit_vectors(output)

  def pixel_loss(self, output: Float[Array, "n h w 3"], truth: Truth) -> MaskedMean:
    """Computes the squared distance of unit vectors, or as `released` says."""
    loss = self.reconstruction_loss(output, truth)
    return loss._replace(total=_RELEASED_FACTOR * loss.total) if self.released else loss

  def reconstruction_loss(
    self, reconstruction: Float[Array, "n h w 3"], truth: Truth
  ) -> MaskedMean:
    """Computes the squared distance of unit vectors, or as `released` says."""
    distance = negative_cosine if self.released else squared_error
    vectors = _unit_vectors(reconstruction)
    return distance(vectors, self.true_structure(truth), mask=self.mask(truth))

  @property
  def protocol(self) -> str:
    """Description of how the metrics are computed."""
    return f"{NormalErrors.empty().protocol}; upscaled bilinearly to the truth's size"

  def metric_sums(
    self, output: Float[Array, "n _ _ 3"], truth: Truth, *, align_corners: bool = False
  ) -> dict[str, Num[Array, "..."]]:
    """Sums angles at the size of the truth."""
    normals = jnp.asarray(truth["normals"])
    _, height, width, _ = normals.shape
    predictions = self.predict(output, (height, width), align_corners=align_corners)
    return sum_normal_errors(predictions, normals)

  def compute_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Computes the metrics of `NormalErrors`."""
    return NormalErrors(sums).compute()

  def predict(
    self, output: Float[Array, "n _ _ 3"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 3"]:
    """Predicts vectors at the image's size, a little shorter than 1 between the output's pixels."""
    return upsample(_unit_vectors(output), size, align_corners=align_corners)

  def predict_for_export(
    self, output: Float[Array, "n _ _ 3"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 3"]:
    """Predicts unit vectors at the image's size."""
    return l2_normalize(self.predict(output, size, align_corners=align_corners))

  def soft_prediction(
    self, output: Float[Array, "n _ _ 3"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 3"]:
    """Computes the vectors of `predict`."""
    return self.predict(output, size, align_corners=align_corners)

  def flip(self, soft_prediction: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Flips the vectors of a flipped image back: x changes its sign, too."""
    return soft_prediction[:, ::-1] * np.array([[[-1, 1, 1]]], np.float32)

  def unscale(
    self, soft_prediction: Float[np.ndarray, "h w 3"], factor: float
  ) -> Float[np.ndarray, "h w 3"]:
    """Divides z by the factor and keeps lengths, the inverse of `rescale_depth_and_normals`."""
    squeezed = soft_prediction / np.array([[[1, 1, factor]]], np.float32)
    return squeezed * (_length(soft_prediction) / np.maximum(_length(squeezed), _MIN_LENGTH))

  def postprocess(
    self, soft_prediction: Float[np.ndarray, "*n h w 3"]
  ) -> Float[np.ndarray, "*n h w 3"]:
    """Makes the length of vectors 1."""
    return soft_prediction / np.maximum(_length(soft_prediction), _MIN_LENGTH)

  def from_prediction(self, predictions: Float[ArrayLike, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Converts directions to the output that means them."""
    return jnp.asarray(predictions) - jnp.array(_DIRECTION_OF_ZERO).reshape(1, 1, 1, 3)

  def from_soft_prediction(
    self, soft_predictions: Float[Array, "n h w 3"]
  ) -> Float[Array, "n h w 3"]:
    """Converts directions to the output that means them."""
    return self.from_prediction(soft_predictions)

  def draw_predictions(
    self,
    predictions: Float[np.ndarray, "n h w 3"],
    truth: Truth,
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draws truth, prediction and the angle between them; 60 degrees are the brightest."""
    del palette
    true, predictions = np.asarray(truth["normals"]), self.postprocess(predictions)
    angle = np.degrees(np.arccos(np.clip(np.sum(true * predictions, -1), -1, 1)))
    error = np.where((true != 0).any(-1), angle, np.nan)
    return {
      "truth": normal_colors(true),
      "prediction": normal_colors(predictions),
      "error": np.stack([error_colors(image, _BRIGHTEST_ERROR) for image in error]),
    }

  def encode(
    self, prediction: Float[np.ndarray, "h w 3"], palette: UInt8[np.ndarray, "classes 3"]
  ) -> Image.Image:
    """Encodes vectors as RGB of 8 bits, (n + 1) / 2."""
    del palette
    return Image.fromarray(normal_colors(prediction))

  def draw_overlay(
    self,
    image: UInt8[np.ndarray, "h w 3"],
    prediction: Float[np.ndarray, "h w 3"],
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> UInt8[np.ndarray, "h w 3"]:
    """Draws vectors in the colors of `encode`."""
    del image, palette
    return normal_colors(prediction)


def _unit_vectors(output: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
  return l2_normalize(output + jnp.asarray(_DIRECTION_OF_ZERO, output.dtype).reshape(1, 1, 1, 3))


def _length(vectors: np.ndarray) -> np.ndarray:
  return np.linalg.norm(vectors, axis=-1, keepdims=True)
