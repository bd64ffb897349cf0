"""The confusion matrix and what is read off it."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from asmjax.metrics.spread import mean_of_known, ratio


def count_confusions(
  label: Int[ArrayLike, "..."], predicted: Int[ArrayLike, "..."], *, classes: int
) -> Int[Array, "c c"]:
  """Counts pixels by (true class, predicted class), on device.

  Args:
    label: true class ids; pixels with an id outside [0, classes) are left out.
    predicted: predicted class ids in [0, classes).
    classes: C.

  Returns:
    int32 counts: rows are true classes.
  """
  cell = jnp.where((label >= 0) & (label < classes), label * classes + predicted, classes**2)
  return jnp.bincount(cell.ravel(), length=classes**2 + 1)[:-1].reshape(classes, classes)


@dataclasses.dataclass(frozen=True, eq=False)
class ConfusionMatrix:
  """Pixel counts over any number of images; rows are true classes.

  A class that neither the truth nor the prediction holds is left out of every mean over classes
  (it has no IoU), rather than scored 0 or 1.

  Attributes:
    counts: int64 (c, c).

  Example:
    >>> matrix = ConfusionMatrix.of([[0, 1], [1, 255]], [[0, 1], [0, 0]], classes=3)
    >>> print(matrix.iou().round(2), round(float(matrix.mean_iou()), 2))
    [0.5 0.5 nan] 0.5
  """

  counts: np.ndarray

  @classmethod
  def empty(cls, classes: int) -> "ConfusionMatrix":
    """No pixels."""
    return cls(np.zeros((classes, classes), np.int64))

  @classmethod
  def of(cls, label: Any, predicted: Any, *, classes: int) -> "ConfusionMatrix":
    """The matrix of label maps of any equal shape; ids outside [0, classes) are left out."""
    label, predicted = np.asarray(label), np.asarray(predicted)
    known = (label >= 0) & (label < classes)
    cells = label[known].astype(np.int64) * classes + predicted[known]
    return cls(np.bincount(cells, minlength=classes**2).reshape(classes, classes))

  def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
    """The pixels of both."""
    return ConfusionMatrix(self.counts + other.counts)

  def iou(self) -> np.ndarray:
    """Intersection over union by class; NaN for a class in neither truth nor prediction."""
    hits = np.diag(self.counts)
    return ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

  def mean_iou(self) -> float:
    """Mean of `iou` over the classes that occur; NaN without any pixel."""
    return mean_of_known(self.iou())

  def class_accuracy(self) -> np.ndarray:
    """Recall by class; NaN for a class that the truth does not hold."""
    return ratio(np.diag(self.counts), self.counts.sum(1))

  def mean_class_accuracy(self) -> float:
    """Mean of `class_accuracy` over the classes of the truth."""
    return mean_of_known(self.class_accuracy())

  def pixel_accuracy(self) -> float:
    """Part of all pixels that are right; NaN without any pixel."""
    return float(ratio(np.trace(self.counts), self.counts.sum()))

  def frequency_weighted_iou(self) -> float:
    """IoU averaged with the frequencies of the true classes."""
    frequency = ratio(self.counts.sum(1), self.counts.sum())
    return float(np.nansum(frequency * self.iou())) if self.counts.any() else float("nan")
