"""Semantic segmentation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree, UInt8
from PIL import Image

from asmjax.losses.pixel import cross_entropy, focal_loss
from asmjax.metrics.bf_score import BFScore
from asmjax.metrics.boundary import BoundaryMetric, Tolerance
from asmjax.metrics.boundary_iou import BoundaryIoU
from asmjax.metrics.calibration import Calibration, count_calibration
from asmjax.metrics.confusion import ConfusionMatrix, count_confusions
from asmjax.metrics.contour_benchmark import ContourBenchmark
from asmjax.metrics.davis import DavisF
from asmjax.metrics.instance import InstanceIoU
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.resize import upsample
from asmjax.tasks.base import Task, Truth
from asmjax.tasks.extra_metrics import ExtraMetric, HostTruth
from asmjax.utils.colors import overlay

# Minus the logit of a class that is not predicted: exp(-1e4) is 0 in single precision.
_SURE = 1e4
WRONG_COLOR = np.array([220, 30, 30], np.uint8)
# Of pixels that are right, if there is no image to show.
_RIGHT_GRAY = 40


def _boundary_metric(
  metric: type[BoundaryMetric],
  tolerance: Callable[["Segmentation"], Tolerance | None] = lambda task: None,
) -> ExtraMetric:
  """Makes a metric of boundaries whose tolerance is a function of the task, or its default."""
  return ExtraMetric(
    lambda task, predictions, truth: metric.from_batch(
      predictions,
      truth["label"],
      num_classes=task.channels,
      tolerance=tolerance(task),
      sizes=truth.get("size"),
      void_band=task.void_band,
    )
  )


def _instance_iou(task: "Segmentation", predictions: np.ndarray, truth: HostTruth) -> InstanceIoU:
  return InstanceIoU.from_batch(
    predictions,
    truth["label"],
    instance=truth["instance"],
    num_classes=task.channels,
    count_without_ids=task.count_without_ids,
  )


def _bf_tolerance(task: "Segmentation") -> Tolerance:
  if not task.bf_tolerance:
    raise ValueError(
      "bf_tolerance of the segmentation task is 0, so BF has no tolerance; expected a part of the "
      "image diagonal, such as 0.0075, or 5 over the smallest diagonal of the set"
    )
  return Tolerance(task.bf_tolerance)


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
  """One of C classes for every pixel; its structure is the map of class probabilities.

  The output holds the classes' logits.

  Attributes:
    classes: Names of the classes, in the order of their ids.
    count_without_ids: What "instance" counts of a class without instances, "left_out", "once" or
      "components"; see `asmjax.metrics.instance.InstanceIoU`.
    bf_tolerance: Tolerance of "bf", theta, as a part of the image's diagonal, 0.0075 in Csurka et
      al. 2013; 0, the default, leaves it to `adapt_to_images`: 5 pixels in the smallest image that
      is evaluated (Luc et al. 2016).
    void_band: Width in pixels up to which metrics of boundaries fill unlabeled bands with the
      nearest class; 5 for PASCAL VOC, whose objects have unlabeled outlines.
    extra_metrics: Any of "boundary" (one-to-one matching of the contour benchmark), "bf" (Csurka
      et al. 2013), "boundary_iou", "davis" and "instance" (IoU weighted by the number of
      instances).
  """

  classes: tuple[str, ...]
  count_without_ids: str = "left_out"
  bf_tolerance: float = 0.0
  void_band: int = 0

  truth_key: ClassVar[str] = "label"
  extra_metric_kinds: ClassVar[Mapping[str, ExtraMetric]] = {
    "bf": _boundary_metric(BFScore, _bf_tolerance),
    "boundary": _boundary_metric(ContourBenchmark),
    "boundary_iou": _boundary_metric(BoundaryIoU),
    "davis": _boundary_metric(DavisF),
    "instance": ExtraMetric(_instance_iou, ("instance",)),
  }
  has_probabilities: ClassVar[bool] = True

  def __post_init__(self) -> None:
    super().__post_init__()
    # Refuses an unknown name.
    InstanceIoU.empty(self.channels, count_without_ids=self.count_without_ids)
    if not 0 <= self.bf_tolerance < np.inf:
      raise ValueError(
        f"bf_tolerance={self.bf_tolerance}; expected a part of the image's diagonal, at least 0"
      )
    if self.void_band < 0:
      raise ValueError(f"void_band={self.void_band}; expected a width in pixels, at least 0")

  @property
  def channels(self) -> int:
    """Number of classes."""
    return len(self.classes)

  @property
  def pixel_loss_label(self) -> str:
    """Name of the pixel loss and its unit."""
    return "cross-entropy, nats"

  def mask(self, truth: Truth) -> Float[Array, "n h w 1"]:
    """Marks the pixels that have a class."""
    label = jnp.asarray(truth["label"])
    return ((label >= 0) & (label < self.channels)).astype(jnp.float32)[..., None]

  def true_structure(self, truth: Truth) -> Float[Array, "n h w c"]:
    """Computes one-hot labels, 0 where unlabeled."""
    return jax.nn.one_hot(jnp.asarray(truth["label"]), self.channels)

  def structure(self, output: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes class probabilities."""
    return jax.nn.softmax(output)

  def hard_structure(self, output: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes the one-hot winner of each pixel (Hwang et al. 2019, Sec. 3.2)."""
    return jax.nn.one_hot(jnp.argmax(output, axis=-1), self.channels, dtype=output.dtype)

  def pixel_loss(
    self,
    output: Float[Array, "n h w c"],
    truth: Truth,
    *,
    mask: Float[Array, "n h w 1"] | None = None,
    weights: Float[Array, "n h w"] | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
  ) -> MaskedMean:
    """Computes the cross-entropy of the labeled pixels, or with `focal_gamma` the focal loss.

    Args:
      output: Logits.
      truth: Batch with the label.
      mask: 1 where a labeled pixel counts; everywhere by default.
      weights: Factor on each pixel's loss; 1 by default.
      label_smoothing: See `asmjax.losses.cross_entropy`; without effect on the focal loss.
      focal_gamma: See `asmjax.losses.focal_loss`; 0 for the cross-entropy.
    """
    options = {"mask": mask, "weights": weights}
    if focal_gamma:
      return focal_loss(output, truth["label"], gamma=focal_gamma, **options)
    return cross_entropy(output, truth["label"], label_smoothing=label_smoothing, **options)

  def reconstruction_loss(
    self, reconstruction: Float[Array, "n h w c"], truth: Truth
  ) -> MaskedMean:
    """Computes the cross-entropy of reconstructed logits."""
    return cross_entropy(reconstruction, truth["label"])

  @property
  def protocol(self) -> str:
    """Description of how the metrics are computed."""
    return (
      "one confusion matrix over all labeled pixels of the split; a class in neither truth nor "
      "prediction is left out of the means; logits upscaled bilinearly to the label's size; "
      "expected calibration error in 15 equal bins of confidence"
    )

  def metric_sums(
    self, output: Float[Array, "n _ _ c"], truth: Truth, *, align_corners: bool = False
  ) -> dict[str, PyTree]:
    """Counts confusions and calibration at the size of the label."""
    label = jnp.asarray(truth["label"])
    _, height, width = label.shape
    logits = upsample(output, (height, width), align_corners=align_corners)
    return {
      "confusion": count_confusions(_predict_classes(logits), label, num_classes=self.channels),
      "calibration": count_calibration(jax.nn.softmax(logits), label),
    }

  def compute_metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
    """Computes IoU, accuracies and calibration error, and the IoU of each class."""
    matrix = ConfusionMatrix(sums["confusion"])
    means = matrix.compute() | {
      "calibration_error": Calibration(*sums["calibration"]).expected_error()
    }
    return means | {
      f"iou/{name}": float(iou) for name, iou in zip(self.classes, matrix.iou(), strict=True)
    }

  def count_true_classes(self, sums: Mapping[str, Any]) -> list[int]:
    """Counts the labeled pixels of each class."""
    return np.sum(sums["confusion"], axis=1).tolist()

  def adapt_to_images(self, smallest_diagonal: Callable[[], float]) -> "Segmentation":
    """Returns the task with a tolerance of "bf" of 5 pixels in the smallest image, if unset."""
    if "bf" not in self.extra_metrics or self.bf_tolerance:
      return self
    tolerance = Tolerance.at_smallest(5, smallest_diagonal())
    return dataclasses.replace(self, bf_tolerance=tolerance.amount)

  def predict(
    self, output: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Int[Array, "n h w"]:
    """Predicts the class of every pixel at the image's size."""
    return _predict_classes(upsample(output, size, align_corners=align_corners))

  def soft_prediction(
    self, output: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w c"]:
    """Computes class probabilities at the image's size."""
    return jax.nn.softmax(upsample(output, size, align_corners=align_corners))

  def postprocess(self, soft_prediction: Float[np.ndarray, "h w c"]) -> Int[np.ndarray, "h w"]:
    """Chooses the most probable class of every pixel."""
    return np.argmax(soft_prediction, axis=-1).astype(np.int32)

  def from_prediction(self, predictions: Int[ArrayLike, "n h w"]) -> Float[Array, "n h w c"]:
    """Converts class ids to logits whose probabilities are exactly 0 and 1."""
    return _SURE * (jax.nn.one_hot(jnp.asarray(predictions), self.channels) - 1)

  def from_soft_prediction(
    self, soft_predictions: Float[Array, "n h w c"]
  ) -> Float[Array, "n h w c"]:
    """Converts class probabilities to logits."""
    return jnp.log(jnp.maximum(soft_predictions, jnp.finfo(soft_predictions.dtype).tiny))

  def draw_predictions(
    self,
    predictions: Int[np.ndarray, "n h w"],
    truth: Truth,
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draws unlabeled pixels white, and errors red over the dark gray image.

    If the batch has images, "overlay" is the prediction over them.
    """
    label = np.asarray(truth["label"])
    colors = np.full((256, 3), 255, np.uint8)
    colors[: self.channels] = palette
    labeled = (label >= 0) & (label < self.channels)
    wrong = (labeled & (predictions != label))[..., None]
    # No darker truth: a dark color of one class is that of another.
    gray = np.full((*label.shape, 3), _RIGHT_GRAY, np.uint8)
    if "image" in truth:
      gray[:] = np.asarray(truth["image"]).mean(-1, keepdims=True) / 2
    pictures = {
      "truth": colors[label],
      "prediction": colors[predictions],
      "error": np.where(wrong, WRONG_COLOR, np.where(labeled[..., None], gray, np.uint8(255))),
    }
    if "image" in truth:
      pairs = zip(np.asarray(truth["image"]), predictions, strict=True)
      drawn = [self.draw_overlay(image, prediction, palette) for image, prediction in pairs]
      pictures["overlay"] = np.stack(drawn)
    return pictures

  def encode(
    self, prediction: Int[np.ndarray, "h w"], palette: UInt8[np.ndarray, "classes 3"]
  ) -> Image.Image:
    """Encodes class ids as 8 bits with a palette."""
    picture = Image.fromarray(prediction.astype(np.uint8))
    picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    return picture

  def draw_overlay(
    self,
    image: UInt8[np.ndarray, "h w 3"],
    prediction: Int[np.ndarray, "h w"],
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the classes' colors over the image, but for a class that is called "background"."""
    backgrounds = [i for i, name in enumerate(self.classes) if name == "background"]
    return overlay(image, prediction, palette, transparent=backgrounds)


def _predict_classes(logits: Float[Array, "n h w c"]) -> Int[Array, "n h w"]:
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)
