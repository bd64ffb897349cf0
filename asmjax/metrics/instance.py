"""Instance-wise IoU, in which a class counts in an image as often as it has instances there."""

import dataclasses
from typing import Any

import numpy as np
import scipy

from asmjax.metrics.base import Metric
from asmjax.metrics.confusion import ConfusionMatrix
from asmjax.metrics.grouped import instance_groups
from asmjax.metrics.moments import nanmean, ratio
from asmjax.utils.shapes import check_shapes

# How often a class counts in an image whose truth holds it without any instance id.
COUNT_WITHOUT_IDS = {
  "left_out": lambda region: 0,
  "once": lambda region: 1,
  "components": lambda region: scipy.ndimage.label(region, np.ones((3, 3)))[1],  # pyright: ignore[reportIndexIssue]  # Without `output` it returns a pair.
}
_RULES = {
  "left_out": "classes without ids left out",
  "once": "a class without ids counts once an image",
  "components": "a class without ids counts by its 8-connected components",
}


@dataclasses.dataclass(frozen=True, eq=False)
class InstanceIoU(Metric):
  """Class IoU of each image, averaged with the images' numbers of instances of the class.

  Ke et al. 2018, Sec. 4.2: sum_x n_cx U_cx / sum_x n_cx, where n_cx and U_cx are the number of
  instances and the IoU of class c in image x. Small objects weigh as much as large ones. What is
  predicted of a class in an image without an instance of it counts nowhere (n_cx = 0).

  An instance is an id above 0, and of the class that most of its labeled pixels have (the
  lowest of equals); without labeled pixels it does not count. Classes that a data set gives no
  ids (background, sky, road) are left out unless `count_without_ids` says otherwise. The paper's
  tables count them, "once" in its released code: the means of its Table 6 are of 21 classes, the
  background of 94 to 95 among them, which is not printed.

  Attributes:
    weighted: Sum of n_cx U_cx by class, float64 (c,).
    instances: Sum of n_cx by class, int64 (c,).
    count_without_ids: Number of instances that a class counts as in an image that holds it, but no
      instance of it: "left_out" (none), "once" (one) or "components" (its 8-connected components).

  Raises:
    ValueError: `count_without_ids` is unknown.

  Examples:
    >>> maps = {"predictions": [[0, 1, 1]], "targets": [[0, 0, 1]], "instance": [[1, 2, 3]]}
    >>> state = InstanceIoU.from_batch(**maps, num_classes=2)
    >>> print(state.instances, state.iou(), state.compute()["instance_mean_iou"])
    [2 1] [0.5 0.5] 0.5
  """

  weighted: np.ndarray
  instances: np.ndarray
  count_without_ids: str = "left_out"

  def __post_init__(self):
    if self.count_without_ids not in COUNT_WITHOUT_IDS:
      raise ValueError(
        f"unknown count_without_ids {self.count_without_ids!r}; known: {sorted(COUNT_WITHOUT_IDS)}"
      )

  @classmethod
  def empty(cls, num_classes: int, *, count_without_ids: str = "left_out") -> "InstanceIoU":
    """Creates the state of no images."""
    return cls(np.zeros(num_classes), np.zeros(num_classes, np.int64), count_without_ids)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    instance: Any,
    num_classes: int,
    count_without_ids: str = "left_out",
  ) -> "InstanceIoU":
    """Scores images.

    Args:
      predictions: Predicted class ids (h, w) or (n, h, w), in [0, num_classes).
      targets: True class ids; pixels with an id outside [0, num_classes) are left out.
      instance: True instance ids, unique within an image, 0 where there is none.
      num_classes: Number of classes.
      count_without_ids: Number of instances that a class without ids counts as; see the class.

    Raises:
      ValueError: The maps differ in shape or have another rank.
    """
    maps = [np.asarray(x) for x in (predictions, targets, instance)]
    axes = "h w" if maps[0].ndim == 2 else "n h w"
    names = ("predictions", "targets", "instance")
    check_shapes(**{name: (x, axes) for name, x in zip(names, maps, strict=True)})
    total = cls.empty(num_classes, count_without_ids=count_without_ids)
    stacks = (x.reshape(-1, *x.shape[-2:]) for x in maps)
    for prediction, label, ids in zip(*stacks, strict=True):
      total = total.merge(cls._from_image(prediction, label, ids, num_classes, count_without_ids))
    return total

  @classmethod
  def _from_image(
    cls,
    prediction: np.ndarray,
    label: np.ndarray,
    instance: np.ndarray,
    num_classes: int,
    count_without_ids: str,
  ) -> "InstanceIoU":
    groups = instance_groups(instance[None], label[None], num_classes=num_classes)
    number = np.bincount(groups.class_of, minlength=num_classes)
    for c in range(num_classes):
      if number[c] == 0 and np.any(label == c):
        number[c] = COUNT_WITHOUT_IDS[count_without_ids](label == c)
    iou = ConfusionMatrix.from_batch(prediction, label, num_classes=num_classes).iou()
    weighted = np.multiply(number, iou, out=np.zeros(num_classes), where=number > 0)
    return cls(weighted, number, count_without_ids)

  def merge(self, other: "InstanceIoU") -> "InstanceIoU":
    """Adds the images of both; ValueError if classes or `count_without_ids` differ."""
    check_shapes(this=(self.instances, "c"), other=(other.instances, "c"))
    if self.count_without_ids != other.count_without_ids:
      raise ValueError(
        f"count_without_ids={self.count_without_ids!r} does not merge with "
        f"{other.count_without_ids!r}"
      )
    return InstanceIoU(
      self.weighted + other.weighted, self.instances + other.instances, self.count_without_ids
    )

  def iou(self) -> np.ndarray:
    """Computes instance-wise IoU by class; NaN for a class without an instance."""
    return ratio(self.weighted, self.instances)

  def compute(self) -> dict[str, float]:
    """Computes the mean over the classes that have instances; NaN without any."""
    return {"instance_mean_iou": nanmean(self.iou())}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes instance-wise IoU by class; see `iou`."""
    return {"iou": self.iou()}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      "IoU of each class and image, averaged over images with the numbers of instances of the "
      f"class, then over classes with instances; {_RULES[self.count_without_ids]}"
    )
