"""IoU of the inner bands along the edges of masks."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from asmjax.metrics.boundary import BoundaryMetric, Tolerance
from asmjax.metrics.contours import mark_inner_band
from asmjax.metrics.label_maps import LabelPair
from asmjax.metrics.moments import nanmean, ratio


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryIoU(BoundaryMetric):
  """IoU of the inner bands along the edges of true and predicted masks (Cheng et al. 2021).

  Pixels are added up over images before they are divided, as for the mean IoU of masks.

  Attributes:
    tolerance: Depth of a band, rounded to pixels, at least 1.
    intersection: Number of pixels in both bands by class, int64 (c,).
    union: Number of pixels in at least one of the bands by class, int64 (c,).
  """

  intersection: np.ndarray
  union: np.ndarray
  default_tolerance: ClassVar[Tolerance] = Tolerance(0.02)  # Cheng et al. 2021, Sec. 4.

  @classmethod
  def _from_pairs(
    cls, pairs: Iterable[LabelPair], num_classes: int, tolerance: Tolerance
  ) -> "BoundaryIoU":
    intersection, union = np.zeros((2, num_classes), np.int64)
    for pair in pairs:
      depth = max(1, round(tolerance.pixels(pair.label.shape)))
      for c in pair.classes():
        true, predicted = (
          mark_inner_band(ids == c, pair.labeled, depth) for ids in (pair.label, pair.prediction)
        )
        intersection[c] += np.count_nonzero(true & predicted)
        union[c] += np.count_nonzero(true | predicted)
    return cls(tolerance, intersection, union)

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
      f"in truth or prediction; the image border is an edge; {self.unlabeled_rule}"
    )
