"""IoU of the inner bands along the edges of masks."""

import dataclasses
from typing import Any

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.contours import UNLABELED_RULE, Tolerance, common_tolerance, mark_inner_band
from asmjax.metrics.label_maps import label_pairs
from asmjax.metrics.moments import nanmean, ratio

# Depth of the bands in Cheng et al. 2021, Sec. 4.
_TOLERANCE = Tolerance(0.02)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryIoU(Metric):
  """IoU of the inner bands along the edges of true and predicted masks (Cheng et al. 2021).

  Pixels are added up over images before they are divided, as for the mean IoU of masks.

  Attributes:
    intersection: Number of pixels in both bands by class, int64 (c,).
    union: Number of pixels in at least one of the bands by class, int64 (c,).
    tolerance: Depth of a band, rounded to pixels, at least 1.
  """

  intersection: np.ndarray
  union: np.ndarray
  tolerance: Tolerance

  @classmethod
  def empty(cls, num_classes: int, *, tolerance: Tolerance = _TOLERANCE) -> "BoundaryIoU":
    """Creates the state of no images."""
    intersection, union = np.zeros((2, num_classes), np.int64)
    return cls(intersection, union, tolerance)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    num_classes: int,
    tolerance: Tolerance = _TOLERANCE,
    sizes: Any = None,
  ) -> "BoundaryIoU":
    """Scores label maps (h, w) or (n, h, w); arguments and errors as of `label_pairs`."""
    intersection, union = np.zeros((2, num_classes), np.int64)
    for pair in label_pairs(predictions, targets, num_classes=num_classes, sizes=sizes):
      depth = max(1, round(tolerance.pixels(pair.label.shape)))
      for c in pair.classes():
        true, predicted = (
          mark_inner_band(ids == c, pair.labeled, depth) for ids in (pair.label, pair.prediction)
        )
        intersection[c] += np.count_nonzero(true & predicted)
        union[c] += np.count_nonzero(true | predicted)
    return cls(intersection, union, tolerance)

  def merge(self, other: "BoundaryIoU") -> "BoundaryIoU":
    """Adds the images of both; ValueError if their tolerances differ."""
    tolerance = common_tolerance(self.tolerance, other.tolerance)
    return BoundaryIoU(self.intersection + other.intersection, self.union + other.union, tolerance)

  def compute(self) -> dict[str, float]:
    """Computes the mean over the classes that occur."""
    return {"boundary_iou": nanmean(self.compute_by_class()["iou"])}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes boundary IoU by class; NaN for a class in neither truth nor prediction."""
    return {"iou": ratio(self.intersection, self.union)}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"boundary IoU: IoU of the parts of the masks within {self.tolerance} (rounded to pixels, at "
      "least 1; chessboard distance) of their edges, pixels pooled over images, mean over classes "
      f"in truth or prediction; the image border is an edge; {UNLABELED_RULE}"
    )
