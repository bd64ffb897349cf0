"""Base class of the tasks: what a map of the predictor means, from training to files."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num, PyTree, UInt8
from PIL import Image

from asmjax import batch as batches
from asmjax.metrics.base import Metric
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.extra_metrics import ExtraMetric
from asmjax.utils.ranges import NonNegative

Truth = Mapping[str, ArrayLike]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
  """Meaning of one of the predictor's maps.

  A task knows four forms of what is predicted:

  | form | what | shape |
  |---|---|---|
  | output | the predictor's map, such as logits | (n, h2, w2, channels) |
  | structure | what critics look at, of output or truth, such as probabilities | as the output |
  | soft prediction | what may be averaged over views of an image | (n, h, w, channels) |
  | prediction | the answer, in the form of the truth: class ids, meters | (n, h, w, ...) |

  The last two are at the size (h, w) of the image. A truth is a batch, see `asmjax.batch`.

  Attributes:
    classes: Names of the data set's classes, in the order of their ids.
    weight: Factor on the task's pixel and reconstruction loss, 1 by default.
    extra_metrics: Keys of `extra_metric_kinds` that evaluation also computes, none by default.
    truth_key: Key of the task's truth in a batch.
    extra_metric_kinds: Metrics that can be asked for, by name.
    has_probabilities: Whether soft predictions are class probabilities.
    has_overlay: Whether `draw_overlay` shows more than `encode` does.

  Raises:
    ValueError: An extra metric is unknown; the message lists the known ones.
  """

  classes: tuple[str, ...]
  weight: NonNegative = 1.0
  extra_metrics: tuple[str, ...] = ()

  truth_key: ClassVar[str]
  extra_metric_kinds: ClassVar[Mapping[str, ExtraMetric]] = {}
  has_probabilities: ClassVar[bool] = False
  has_overlay: ClassVar[bool] = True

  def __post_init__(self) -> None:
    for name in self.extra_metrics:
      if name not in self.extra_metric_kinds:
        known = ", ".join(sorted(self.extra_metric_kinds))
        raise ValueError(f"unknown extra_metrics {name!r}; known: {known}")
      by_class = "label" in self.extra_metric_kinds[name].truth_keys
      if by_class and not getattr(self, "classes", ()):
        raise ValueError(f"extra_metrics {name!r} without classes; expected their names")

  # Training: what the predictor and the critics are compared by.

  @property
  @abc.abstractmethod
  def channels(self) -> int:
    """Number of channels of the output and of the structure."""

  @property
  @abc.abstractmethod
  def pixel_loss_label(self) -> str:
    """Formula of the pixel loss and its unit, in words for a figure."""

  @abc.abstractmethod
  def mask(self, truth: Truth) -> Float[Array, "n h w 1"]:
    """Marks the pixels whose truth is known with 1, others with 0."""

  @abc.abstractmethod
  def true_structure(self, truth: Truth) -> Float[Array, "n h w c"]:
    """Computes the structure of the truth, 0 where it is missing."""

  @abc.abstractmethod
  def structure(self, output: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes the structure of a prediction, differentiable by the output."""

  def hard_structure(self, output: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes the structure of the answer, without a gradient; by default that of the output."""
    return lax.stop_gradient(self.structure(output))

  @abc.abstractmethod
  def pixel_loss(self, output: Float[Array, "n h w c"], truth: Truth) -> MaskedMean:
    """Computes the loss that looks at single pixels, over the pixels of the mask."""

  @abc.abstractmethod
  def reconstruction_loss(
    self, reconstruction: Float[Array, "n h w c"], truth: Truth
  ) -> MaskedMean:
    """Computes the loss of an autoencoder's reconstruction of the truth: IID(y, R(A(y)))."""

  def from_reconstruction(self, reconstruction: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Converts a reconstruction to the output that means the same."""
    return reconstruction

  # Evaluation: sums on devices, and further metrics on the host.

  @property
  @abc.abstractmethod
  def protocol(self) -> str:
    """Description of how `compute_metrics` comes to its numbers."""

  @abc.abstractmethod
  def metric_sums(
    self, output: Float[Array, "n _ _ c"], truth: Truth, *, align_corners: bool = False
  ) -> PyTree:
    """Computes what adds up over batches and devices, at the size of the truth."""

  @abc.abstractmethod
  def compute_metrics(self, sums: PyTree) -> dict[str, float]:
    """Computes metrics by name from the sum of all `metric_sums`, as arrays of the host."""

  def count_true_classes(self, sums: PyTree) -> list[int]:
    """Counts the pixels of each class in the truth, from the sum of all `metric_sums`.

    Empty, the default, if the truth has no classes.
    """
    del sums
    return []

  def metric_names(self) -> tuple[str, ...]:
    """Lists the metrics that `compute_metrics` returns."""
    truth = {self.truth_key: batches.blank(self.truth_key, 1, 1, 1)}
    output = jax.ShapeDtypeStruct((1, 1, 1, self.channels), jnp.float32)
    sums = jax.eval_shape(self.metric_sums, output, truth)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), sums)
    return tuple(self.compute_metrics(zeros))

  def adapt_to_images(self, smallest_diagonal: Callable[[], float]) -> "Task":
    """Returns the task with the options that are left to the images to be evaluated.

    Args:
      smallest_diagonal: Function that computes the smallest diagonal of these images, in pixels.
    """
    del smallest_diagonal
    return self

  @property
  def extra_truth_keys(self) -> tuple[str, ...]:
    """Keys of a batch that the extra metrics need beside `truth_key`."""
    kinds = (self.extra_metric_kinds[name] for name in self.extra_metrics)
    return tuple(dict.fromkeys(key for kind in kinds for key in kind.truth_keys))

  def extra_metric_states(
    self, predictions: np.ndarray, truth: Mapping[str, np.ndarray]
  ) -> dict[str, Metric]:
    """Computes each extra metric's state for some images.

    Args:
      predictions: Result of `predict` for these images.
      truth: Batch with the images' truths.
    """
    kinds = {name: self.extra_metric_kinds[name] for name in self.extra_metrics}
    return {name: kind.from_batch(self, predictions, truth) for name, kind in kinds.items()}

  def compute_extra_metrics(self, states: Mapping[str, Metric]) -> dict[str, float]:
    """Computes "KIND/METRIC" and "KIND/METRIC/CLASS" from the merged states of all images."""
    means = {
      f"{kind}/{metric}": value
      for kind, state in states.items()
      for metric, value in state.compute().items()
    }
    return means | {
      f"{kind}/{metric}/{name}": float(value)
      for kind, state in states.items()
      for metric, values in state.compute_by_class().items()
      for name, value in zip(self.classes, values, strict=True)
    }

  # Inference: from outputs to answers, and back.

  @abc.abstractmethod
  def predict(
    self, output: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Num[Array, "n h w ..."]:
    """Predicts at the image's size (h, w).

    Args:
      output: The predictor's map.
      size: Height and width of the prediction.
      align_corners: Whether outputs lie on the pixels S i of the image, S their stride; see
        `asmjax.ops.resize`.
    """

  def predict_for_export(
    self, output: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Num[Array, "n h w ..."]:
    """Predicts as `postprocess` would finish it; arguments as for `predict`."""
    return self.predict(output, size, align_corners=align_corners)

  @abc.abstractmethod
  def soft_prediction(
    self, output: Float[Array, "n _ _ c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> Float[Array, "n h w c"]:
    """Computes what may be averaged over views of an image; arguments as for `predict`."""

  def flip(self, soft_prediction: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """Converts the soft prediction of a horizontally flipped image to that of the image."""
    return soft_prediction[:, ::-1]

  def unscale(
    self, soft_prediction: Float[np.ndarray, "h w c"], factor: float
  ) -> Float[np.ndarray, "h w c"]:
    """Undoes what magnifying an image does to its geometry; by default nothing.

    Args:
      soft_prediction: Soft prediction of an image that was magnified.
      factor: Magnification of the image; what looks larger was taken to be nearer.
    """
    del factor
    return soft_prediction

  @abc.abstractmethod
  def postprocess(self, soft_prediction: Float[np.ndarray, "h w c"]) -> Num[np.ndarray, "h w ..."]:
    """Converts the mean of soft predictions to a prediction."""

  @abc.abstractmethod
  def from_prediction(self, predictions: Num[ArrayLike, "n h w ..."]) -> Float[Array, "n h w c"]:
    """Converts predictions, or truths, to the output that means them."""

  @abc.abstractmethod
  def from_soft_prediction(
    self, soft_predictions: Float[Array, "n h w c"]
  ) -> Float[Array, "n h w c"]:
    """Converts soft predictions to the output that means them."""

  # Drawing: pictures and files.

  def draw_comparison(
    self,
    output: Float[ArrayLike, "n _ _ c"],
    truth: Truth,
    palette: UInt8[np.ndarray, "classes 3"],
    *,
    align_corners: bool = False,
  ) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draws "truth", "prediction" and "error" at the size of the truth, and perhaps more.

    Args:
      output: The predictor's map.
      truth: Batch with the truth.
      palette: Color of each class.
      align_corners: Position of the outputs in the image; see `predict`.
    """
    height, width = np.shape(truth[self.truth_key])[1:3]
    output = jnp.asarray(output)
    predictions = self.predict(output, (height, width), align_corners=align_corners)
    return self.draw_predictions(np.asarray(predictions), truth, palette)

  @abc.abstractmethod
  def draw_predictions(
    self,
    predictions: Num[np.ndarray, "n h w ..."],
    truth: Truth,
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
    """Draws "truth", "prediction" and "error" of predictions at the size of the truth."""

  @abc.abstractmethod
  def encode(
    self, prediction: Num[np.ndarray, "h w ..."], palette: UInt8[np.ndarray, "classes 3"]
  ) -> Image.Image:
    """Encodes a prediction as the picture that is saved for other programs."""

  @abc.abstractmethod
  def draw_overlay(
    self,
    image: UInt8[np.ndarray, "h w 3"],
    prediction: Num[np.ndarray, "h w ..."],
    palette: UInt8[np.ndarray, "classes 3"],
  ) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a prediction for the eye, over the image if that helps."""
