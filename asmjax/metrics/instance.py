"""Instance-wise IoU, in which a class counts in an image as often as it has instances there."""

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from asmjax.metrics.confusion import ConfusionMatrix

# How often a class counts in an image whose truth holds it without any instance id.
WITHOUT_IDS = {
  "left_out": lambda region: 0,
  "once": lambda region: 1,
  "components": lambda region: ndimage.label(region, np.ones((3, 3)))[1],
}


@dataclasses.dataclass(frozen=True, eq=False)
class InstanceIou:
  """Class IoU of each image, averaged with the images' numbers of instances of the class.

  Ke et al. 2018, Sec. 4.2: sum_x n_cx U_cx / sum_x n_cx, where n_cx and U_cx are the number of
  instances and the IoU of class c in image x. Small objects weigh as much as large ones. What is
  predicted of a class in an image without an instance of it counts nowhere (n_cx = 0).

  An instance is an id above 0, and of the class that most of its labeled pixels have (the
  lowest of equals); without labeled pixels it does not count. Classes that a data set gives no
  ids (background, sky, road) are left out unless `without_ids` says otherwise. The paper's tables
  count them, "once" in its released code: the means of its Table 6 are of 21 classes, the
  background of 94 to 95 among them, which is not printed.

  Attributes:
    weighted: float64 (c,), sum of n_cx U_cx.
    instances: int64 (c,), sum of n_cx.
    without_ids: what a class is worth in an image that holds it without any id: "left_out"
      (nothing), "once" (one instance) or "components" (its 8-connected components).

  Example:
    >>> score = InstanceIou.of([[0, 0, 1]], [[0, 1, 1]], [[1, 2, 3]], classes=2)
    >>> print(score.instances, score.iou(), score.mean_iou())
    [2 1] [0.5 0.5] 0.5
  """

  weighted: np.ndarray
  instances: np.ndarray
  without_ids: str = "left_out"

  def __post_init__(self):
    if self.without_ids not in WITHOUT_IDS:
      raise ValueError(f"unknown without_ids {self.without_ids!r}; known: {sorted(WITHOUT_IDS)}")

  @classmethod
  def empty(cls, classes: int, *, without_ids: str = "left_out") -> "InstanceIou":
    """No images."""
    return cls(np.zeros(classes), np.zeros(classes, np.int64), without_ids)

  @classmethod
  def of(
    cls, label: Any, predicted: Any, instance: Any, *, classes: int, without_ids: str = "left_out"
  ) -> "InstanceIou":
    """The score of one image.

    Args:
      label: true class ids (h, w); pixels with an id outside [0, classes) are left out.
      predicted: class ids (h, w) in [0, classes).
      instance: true instance ids (h, w), 0 where there is none.
      classes: C.
      without_ids: see the class.

    Raises:
      ValueError: the maps differ in shape or are not of one image, or `without_ids` is unknown.
    """
    label, predicted, instance = (np.asarray(x) for x in (label, predicted, instance))
    if not label.shape == predicted.shape == instance.shape or label.ndim != 2:
      raise ValueError(
        f"label {label.shape}, predicted {predicted.shape} and instance {instance.shape}; "
        "expected three maps (h, w) of one image"
      )
    nothing = cls.empty(classes, without_ids=without_ids)
    number = _instances(label, instance, classes)
    for c in range(classes):
      if number[c] == 0 and np.any(label == c):
        number[c] = WITHOUT_IDS[without_ids](label == c)
    iou = ConfusionMatrix.of(label, predicted, classes=classes).iou()
    weighted = np.multiply(number, iou, out=nothing.weighted, where=number > 0)
    return cls(weighted, number, without_ids)

  def merge(self, other: "InstanceIou") -> "InstanceIou":
    """The images of both.

    Raises:
      ValueError: they differ in `without_ids`.
    """
    if self.without_ids != other.without_ids:
      raise ValueError(
        f"without_ids={self.without_ids!r} does not merge with {other.without_ids!r}"
      )
    return InstanceIou(
      self.weighted + other.weighted, self.instances + other.instances, self.without_ids
    )

  def iou(self) -> np.ndarray:
    """Instance-wise IoU by class; NaN for a class without an instance."""
    some = self.instances > 0
    return np.where(some, self.weighted / np.where(some, self.instances, 1), np.nan)

  def mean_iou(self) -> float:
    """Mean of `iou` over the classes that have instances; NaN without any instance."""
    known = self.instances > 0
    return float(self.iou()[known].mean()) if known.any() else float("nan")

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class (c,)."""
    return {"iou": self.iou()}

  def compute(self) -> dict[str, float]:
    """Metrics by name."""
    return {"instance_mean_iou": self.mean_iou()}

  @property
  def protocol(self) -> str:
    """What the numbers mean."""
    counted = {
      "left_out": "classes without ids left out",
      "once": "a class without ids counts once an image",
      "components": "a class without ids counts by its 8-connected components",
    }
    return (
      "IoU of each class and image, averaged over images with the numbers of instances of the "
      f"class, then over classes with instances; {counted[self.without_ids]}"
    )


def _instances(label: np.ndarray, instance: np.ndarray, classes: int) -> np.ndarray:
  """Number of instances (c,), each counted for the class that most of its labeled pixels have."""
  known = (instance > 0) & (label >= 0) & (label < classes)
  ids, index = np.unique(instance[known], return_inverse=True)
  cells = index * classes + label[known]
  votes = np.bincount(cells, minlength=ids.size * classes).reshape(ids.size, classes)
  return np.bincount(votes.argmax(1), minlength=classes)
