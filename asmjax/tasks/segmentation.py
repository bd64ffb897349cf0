"""Semantic segmentation."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from asmjax.losses.pixel import cross_entropy
from asmjax.metrics.boundary import BFScore, BoundaryIoU, ContourBenchmark, DavisF
from asmjax.metrics.calibration import Calibration, count_calibration
from asmjax.metrics.confusion import ConfusionMatrix, count_confusions
from asmjax.metrics.contours import Tolerance
from asmjax.metrics.instance import InstanceIou
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.detail import Detail, Detailed


def _instances(task: "Segmentation", found: np.ndarray, truth: Mapping) -> InstanceIou:
  images = zip(truth["label"], found, truth["instance"], strict=True)
  rule = {"without_ids": task.without_ids}
  states = (InstanceIou.of(*image, classes=task.channels, **rule) for image in images)
  return functools.reduce(InstanceIou.merge, states, InstanceIou.empty(task.channels, **rule))


def _contours(kind: type, **options: Callable[["Segmentation"], Any]) -> Detail:
  return Detail(
    lambda task, found, truth: kind.of(
      truth["label"],
      found,
      classes=task.channels,
      sizes=truth.get("size"),
      **{name: read(task) for name, read in options.items()},
    )
  )


def _theta(task: "Segmentation") -> Tolerance:
  if not task.theta:
    raise ValueError(
      "theta of the segmentation task is 0, so BF has no tolerance; expected a part of the image "
      "diagonal, such as 0.0075, or 5 over the smallest diagonal of the set"
    )
  return Tolerance(task.theta)


KINDS = {
  "bf": _contours(BFScore, tolerance=_theta),
  "boundary": _contours(ContourBenchmark),
  "boundary_iou": _contours(BoundaryIoU),
  "davis": _contours(DavisF),
  "instance": Detail(_instances, needs=("instance",)),
}


@dataclasses.dataclass(frozen=True)
class Segmentation(Detailed):
  """One of C classes for every pixel; the structure is the map of class probabilities.

  Attributes:
    classes: names of the classes, in the order of their ids.
    weight: of this task in the pixel and the reconstruction loss.
    details: any of "boundary" (one-to-one matching of the contour benchmark), "bf" (Csurka et al.),
      "boundary_iou", "davis" and "instance" (IoU weighted by the number of instances).
    without_ids: what "instance" counts of a class without instances, "left_out", "once" or
      "components"; see `asmjax.metrics.instance.InstanceIou`.
    theta: the tolerance of "bf" in parts of the image's diagonal, 0.0075 in Csurka et al. 2013; 0,
      the default, has `asmjax.config.build.build_experiment` choose it: 5 pixels in the smallest
      image that is evaluated (Luc et al. 2016).
  """

  classes: tuple[str, ...]
  weight: float = 1.0
  without_ids: str = "left_out"
  theta: float = 0.0

  truth: ClassVar[str] = "label"
  kinds: ClassVar[Mapping[str, Detail]] = KINDS
  protocol: ClassVar[str] = (
    "one confusion matrix over all labeled pixels of the split; a class in neither truth nor "
    "prediction is left out of the means; logits upscaled bilinearly to the label's size; expected "
    "calibration error in 15 equal bins of confidence"
  )

  def __post_init__(self) -> None:
    """Checks the names and the tolerance."""
    super().__post_init__()
    InstanceIou.empty(self.channels, without_ids=self.without_ids)  # Refuses.
    if not 0 <= self.theta < np.inf:
      raise ValueError(f"theta={self.theta}; expected a part of the image's diagonal, at least 0")

  @property
  def channels(self) -> int:
    """Channels of the predictor's head and of the structure."""
    return len(self.classes)

  def valid(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w 1"]:
    """1 where the pixel has a class."""
    label = jnp.asarray(truth["label"])
    return ((label >= 0) & (label < self.channels)).astype(jnp.float32)[..., None]

  def true_structure(self, truth: Mapping[str, ArrayLike]) -> Float[Array, "n h w c"]:
    """One-hot labels, 0 where unlabeled."""
    return jax.nn.one_hot(jnp.asarray(truth["label"]), self.channels)

  def structure(self, logits: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Class probabilities."""
    return jax.nn.softmax(logits)

  def binarised(self, logits: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Winner-take-all, without gradient (Hwang et al. 2019, Sec. 3.2)."""
    return jax.nn.one_hot(jnp.argmax(logits, axis=-1), self.channels, dtype=logits.dtype)

  def pixel_loss(
    self,
    logits: Float[Array, "n h w c"],
    truth: Mapping[str, ArrayLike],
    *,
    weight: Float[Array, "n h w"] | None = None,
  ) -> MaskedMean:
    """Cross-entropy of the labeled pixels, each times its `weight`."""
    return cross_entropy(logits, truth["label"], weight=weight)

  def reconstruction_loss(
    self, logits: Float[Array, "n h w c"], truth: Mapping[str, ArrayLike]
  ) -> MaskedMean:
    """IID(y, R(A(y))): cross-entropy again."""
    return cross_entropy(logits, truth["label"])

  def measure(
    self,
    logits: Float[Array, "n h w c"],
    truth: Mapping[str, ArrayLike],
    *,
    align_corners: bool = False,
  ) -> dict[str, PyTree]:
    """What evaluation adds up: confusions and calibration of a batch at the label's size."""
    label = truth["label"]
    logits = upsample(logits, label.shape[1:3], align_corners=align_corners)
    return {
      "confusion": count_confusions(label, self.decide(logits), classes=self.channels),
      "calibration": count_calibration(jax.nn.softmax(logits), label),
    }

  def scores(self, total: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by name, from the sum of all `measure`s."""
    matrix = ConfusionMatrix(total["confusion"])
    means = {
      "mean_iou": matrix.mean_iou(),
      "pixel_accuracy": matrix.pixel_accuracy(),
      "mean_class_accuracy": matrix.mean_class_accuracy(),
      "frequency_weighted_iou": matrix.frequency_weighted_iou(),
      "calibration_error": Calibration(*total["calibration"]).expected_error(),
    }
    return means | {
      f"iou/{name}": float(iou) for name, iou in zip(self.classes, matrix.iou(), strict=True)
    }

  def prediction(
    self, logits: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Int[Array, "n h w"]:
    """The class of every pixel at the image's size; see `asmjax.ops.resize.upsample`."""
    return self.decide(upsample(logits, size, align_corners=align_corners))

  def decide(self, logits: Float[Array, "n h w c"]) -> Int[Array, "n h w"]:
    """The class of every pixel."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)

  def estimate(
    self, logits: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w c"]:
    """Class probabilities at the image's size: what may be averaged over views of an image."""
    return jax.nn.softmax(upsample(logits, size, align_corners=align_corners))

  def flipped(self, estimate: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """The estimate of an image from that of its flipped image."""
    return estimate[:, ::-1]

  def receded(
    self, estimate: Float[np.ndarray, "h w c"], factor: float
  ) -> Float[np.ndarray, "h w c"]:
    """What undoes `asmjax.data.transforms.approach`: nothing, classes know no distance."""
    del factor
    return estimate

  def conclude(self, estimate: Float[np.ndarray, "h w c"]) -> Int[np.ndarray, "h w"]:
    """The most probable class of every pixel."""
    return np.argmax(estimate, axis=-1).astype(np.int32)

  def output_of(self, prediction: Int[ArrayLike, "n h w"]) -> Float[Array, "n h w c"]:
    """Logits whose probabilities are exactly 0 and 1, for the classes of a `prediction`."""
    return 1e4 * (jax.nn.one_hot(jnp.asarray(prediction), self.channels) - 1)

  def output_of_estimate(self, estimate: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Logits that mean the class probabilities of an `estimate`."""
    return jnp.log(jnp.maximum(estimate, jnp.finfo(estimate.dtype).tiny))

  def pictures(
    self,
    logits: Float[ArrayLike, "n _ _ c"],
    truth: Mapping[str, ArrayLike],
    palette: np.ndarray,
    *,
    align_corners: bool = False,
  ) -> dict[str, np.ndarray]:
    """Truth, prediction and error as uint8 (n, h, w, 3) at the label's size.

    Args:
      logits: (n, h2, w2, c).
      truth: a batch with `label` (n, h, w).
      palette: uint8 (c, 3); unlabeled pixels are drawn white, wrong ones red.
      align_corners: where the logits lie in the image; see `asmjax.ops.resize`.
    """
    label = np.asarray(truth["label"])
    decided = np.asarray(
      self.prediction(jnp.asarray(logits), label.shape[1:3], align_corners=align_corners)
    )
    colors = np.full((256, 3), 255, np.uint8)
    colors[: self.channels] = palette
    labeled = (label >= 0) & (label < self.channels)
    wrong = (labeled & (decided != label))[..., None]
    return {
      "truth": colors[label],
      "prediction": colors[decided],
      "error": np.where(wrong, np.array([220, 30, 30], np.uint8), colors[label] // 4),
    }
