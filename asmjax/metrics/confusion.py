"""Confusion matrix, intersection over union and accuracies."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Integer

from asmjax.metrics.base import Metric
from asmjax.metrics.label_maps import as_ids, check_ids
from asmjax.metrics.moments import nanmean, ratio
from asmjax.utils.shapes import check_shapes


def count_confusions(
  predictions: Integer[ArrayLike, "..."], targets: Integer[ArrayLike, "..."], *, num_classes: int
) -> Int[Array, "c c"]:
  """Counts pixels by (true class, predicted class), on device.

  Args:
    predictions: Predicted class ids. In compiled functions, whose values cannot be checked, a
      labeled pixel with an id outside [0, num_classes) is left out.
    targets: True class ids; pixels with an id outside [0, num_classes) are left out.
    num_classes: Number of classes.

  Returns:
    int32 counts: rows are true classes.

  Raises:
    ValueError: The shapes differ or, outside of compiled functions, a labeled pixel's prediction is
      no id of a class.
  """
  check_shapes(predictions=(predictions, "*shape"), targets=(targets, "*shape"))
  if not isinstance(predictions, Tracer) and not isinstance(targets, Tracer):
    check_ids(as_ids(predictions, "predictions"), as_ids(targets, "targets"), num_classes)
  # In 32 bits: cells of narrow ids would overflow.
  predictions, label = jnp.asarray(predictions, jnp.int32), jnp.asarray(targets, jnp.int32)
  is_class = lambda ids: (ids >= 0) & (ids < num_classes)
  cell = jnp.where(
    is_class(label) & is_class(predictions), label * num_classes + predictions, num_classes**2
  )
  counts = jnp.bincount(cell.ravel(), length=num_classes**2 + 1)
  return counts[:-1].reshape(num_classes, num_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class ConfusionMatrix(Metric):
  """Pixel counts over any number of images; rows are true classes.

  A class that neither the truth nor the prediction holds is left out of every mean over classes
  (it has no IoU), rather than scored 0 or 1.

  Attributes:
    counts: Number of pixels by true and predicted class, int64 (c, c).

  Examples:
    >>> matrix = ConfusionMatrix.from_batch([[0, 1], [0, 0]], [[0, 1], [1, 255]], num_classes=3)
    >>> print(matrix.iou().round(2), round(float(matrix.mean_iou()), 2))
    [0.5 0.5 nan] 0.5
  """

  counts: np.ndarray

  @classmethod
  def empty(cls, num_classes: int) -> "ConfusionMatrix":
    """Creates the state of no pixels."""
    return cls(np.zeros((num_classes, num_classes), np.int64))

  @classmethod
  def from_batch(cls, predictions: Any, targets: Any, *, num_classes: int) -> "ConfusionMatrix":
    """Counts the pixels of label maps of any equal shape on the host.

    Args:
      predictions: Predicted class ids, in [0, num_classes) where labeled.
      targets: True class ids; pixels with an id outside [0, num_classes) are left out.
      num_classes: Number of classes.

    Raises:
      ValueError: The shapes differ, or a labeled pixel's prediction is no id of a class.
    """
    predictions, label = as_ids(predictions, "predictions"), as_ids(targets, "targets")
    check_shapes(predictions=(predictions, "*shape"), targets=(label, "*shape"))
    labeled = check_ids(predictions, label, num_classes)
    cells = label[labeled].astype(np.int64) * num_classes + predictions[labeled]
    counts = np.bincount(cells, minlength=num_classes**2)
    return cls(counts.reshape(num_classes, num_classes))

  def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
    """Adds the pixels of both; ValueError if they have other numbers of classes."""
    check_shapes(this=(self.counts, "c c"), other=(other.counts, "c c"))
    return ConfusionMatrix(self.counts + other.counts)

  def iou(self) -> np.ndarray:
    """Computes IoU by class; NaN for a class in neither truth nor prediction."""
    hits = np.diag(self.counts)
    return ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

  def mean_iou(self) -> float:
    """Computes the mean IoU over the classes that occur; NaN without any pixel."""
    return nanmean(self.iou())

  def class_accuracy(self) -> np.ndarray:
    """Computes recall by class; NaN for a class that the truth does not hold."""
    return ratio(np.diag(self.counts), self.counts.sum(1))

  def mean_class_accuracy(self) -> float:
    """Computes the mean of `class_accuracy` over the classes of the truth."""
    return nanmean(self.class_accuracy())

  def pixel_accuracy(self) -> float:
    """Computes the part of all pixels that are right; NaN without any pixel."""
    return float(ratio(np.trace(self.counts), self.counts.sum()))

  def frequency_weighted_iou(self) -> float:
    """Computes IoU averaged with the frequencies of the true classes."""
    frequency = ratio(self.counts.sum(1), self.counts.sum())
    return float(np.nansum(frequency * self.iou())) if self.counts.any() else float("nan")

  def compute(self) -> dict[str, float]:
    """Computes mean IoU and accuracies."""
    return {
      "mean_iou": self.mean_iou(),
      "pixel_accuracy": self.pixel_accuracy(),
      "mean_class_accuracy": self.mean_class_accuracy(),
      "frequency_weighted_iou": self.frequency_weighted_iou(),
    }

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes IoU by class; see `iou`."""
    return {"iou": self.iou()}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      "one confusion matrix over all labeled pixels; a class in neither truth nor prediction is "
      "left out of the means"
    )
