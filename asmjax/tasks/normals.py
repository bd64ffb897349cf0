"""Surface normals."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from asmjax.losses.pixel import negative_cosine, squared_error, unit
from asmjax.metrics.normals import NormalErrors, sum_normal_errors
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.detail import Detail, Detailed, of_groups
from asmjax.utils.colors import error_colors, normal_colors

# What the released code multiplies its pixel loss by.
_RELEASED = 10.0
# What a map of zeros means: facing the camera.  The direction of a zero vector has no gradient, and
# that of a tiny one a huge one.
_START = (0.0, 0.0, 1.0)
_TINY = np.float32(1e-6)


KINDS = of_groups(
  lambda task, found, truth, group, groups: NormalErrors.of(
    truth["normals"], found, group=group, groups=groups
  )
)


@dataclasses.dataclass(frozen=True)
class Normals(Detailed):
  """The direction in which every pixel's surface looks; the structure is the unit vector.

  The predictor's map is the difference from (0, 0, 1), the direction to the camera, before the
  length is made 1.

  Attributes:
    weight: of this task in the pixel and the reconstruction loss.
    released: as in the released code the pixel loss is minus ten times the cosine, and the
      reconstruction minus the cosine, instead of the squared distance of unit vectors, 2 - 2 cos.
    classes: of the data set, for class- and instance-wise metrics.
    details: any of "image", "instance" and "class": means over these of the metrics of each.
  """

  weight: float = 1.0
  released: bool = False
  classes: tuple[str, ...] = ()

  truth: ClassVar[str] = "normals"
  channels: ClassVar[int] = 3
  kinds: ClassVar[Mapping[str, Detail]] = KINDS
  protocol: ClassVar[str] = (
    f"{NormalErrors.empty().protocol}; upscaled bilinearly to the truth's size"
  )

  def valid(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 1"]:
    """1 where the normal is known."""
    normals = jnp.asarray(truth["normals"])
    known = jnp.any(normals != 0, axis=-1, keepdims=True)
    return (known & jnp.all(jnp.isfinite(normals), axis=-1, keepdims=True)).astype(jnp.float32)

  def true_structure(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 3"]:
    """The normals, 0 where missing."""
    return jnp.where(self.valid(truth) > 0, jnp.asarray(truth["normals"]), 0)

  def structure(self, output: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Unit vectors."""
    return self.decide(output)

  def binarised(self, output: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """The structure, without gradient: a direction has no winner to take all."""
    return jax.lax.stop_gradient(self.structure(output))

  def pixel_loss(
    self, output: Float[Array, "n h w 3"], truth: Mapping[str, ArrayLike]
  ) -> MaskedMean:
    """Squared distance of unit vectors, or as `released` says."""
    loss = self.reconstruction_loss(output, truth)
    return loss._replace(sum=_RELEASED * loss.sum) if self.released else loss

  def reconstruction_loss(
    self, rebuilt: Float[Array, "n h w 3"], truth: Mapping[str, ArrayLike]
  ) -> MaskedMean:
    """IID(y, R(A(y))): squared distance of unit vectors, or as `released` says."""
    distance = negative_cosine if self.released else squared_error
    return distance(self.decide(rebuilt), self.true_structure(truth), valid=self.valid(truth))

  def measure(
    self,
    output: Float[Array, "n h w 3"],
    truth: Mapping[str, ArrayLike],
    *,
    align_corners: bool = False,
  ) -> dict[str, Num[Array, "..."]]:
    """What evaluation adds up: sums of errors at the truth's size."""
    normals = self.prediction(output, truth["normals"].shape[1:3], align_corners=align_corners)
    return sum_normal_errors(truth["normals"], normals)

  def scores(self, total: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics by name, from the sum of all `measure`s."""
    return NormalErrors(total).compute()

  def pictures(
    self,
    output: Float[ArrayLike, "n _ _ 3"],
    truth: Mapping[str, ArrayLike],
    palette: np.ndarray,
    *,
    align_corners: bool = False,
  ) -> dict[str, np.ndarray]:
    """Truth, prediction and angle between them as uint8 (n, h, w, 3) at the truth's size.

    60 degrees are the brightest.
    """
    del palette
    true = np.asarray(truth["normals"])
    found = self.prediction(jnp.asarray(output), true.shape[1:3], align_corners=align_corners)
    found = self.conclude(np.asarray(found))
    angle = np.degrees(np.arccos(np.clip(np.sum(true * found, -1), -1, 1)))
    error = np.where((true != 0).any(-1), angle, np.nan)
    return {
      "truth": np.stack([normal_colors(each) for each in true]),
      "prediction": np.stack([normal_colors(each) for each in found]),
      "error": np.stack([error_colors(each, 60.0) for each in error]),
    }

  def prediction(
    self, output: Float[Array, "n _ _ 3"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 3"]:
    """Vectors at the image's size; between pixels of the output they are a little shorter than 1.

    See `asmjax.ops.resize.upsample`.
    """
    return upsample(self.decide(output), size, align_corners=align_corners)

  def estimate(
    self, output: Float[Array, "n _ _ 3"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w 3"]:
    """The prediction at the image's size: what may be averaged over views of an image."""
    return self.prediction(output, size, align_corners=align_corners)

  def flipped(self, estimate: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """The estimate of an image from that of its flipped image: x changes its sign too."""
    return estimate[:, ::-1] * np.array([[[-1, 1, 1]]], np.float32)

  def receded(
    self, estimate: Float[np.ndarray, "h w 3"], factor: float
  ) -> Float[np.ndarray, "h w 3"]:
    """Undoes `asmjax.data.transforms.approach`: z is divided by the factor, lengths stay."""
    squeezed = estimate / np.array([[[1, 1, factor]]], np.float32)
    return squeezed * (_length(estimate) / np.maximum(_length(squeezed), _TINY))

  def conclude(self, estimate: Float[np.ndarray, "*n h w 3"]) -> Float[np.ndarray, "*n h w 3"]:
    """Unit vectors."""
    return estimate / np.maximum(_length(estimate), _TINY)

  def decide(self, output: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Unit vectors."""
    return unit(output + jnp.asarray(_START, output.dtype).reshape(1, 1, 1, 3))

  def output_of(self, prediction: Float[ArrayLike, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """The map that means the directions of a `prediction`."""
    return jnp.asarray(prediction) - jnp.array(_START).reshape(1, 1, 1, 3)

  def output_of_estimate(self, estimate: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """The map that means the directions of an `estimate`."""
    return self.output_of(estimate)


def _length(vectors: np.ndarray) -> np.ndarray:
  return np.linalg.norm(vectors, axis=-1, keepdims=True)
