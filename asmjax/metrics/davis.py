"""Contour accuracy of the DAVIS benchmark."""

import dataclasses
import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from asmjax.metrics.boundary import BoundaryMetric, Tolerance
from asmjax.metrics.contours import contour_f, mark_davis_contour
from asmjax.metrics.label_maps import LabelPair
from asmjax.metrics.moments import RunningMoments, nanmean


@dataclasses.dataclass(frozen=True, eq=False)
class DavisF(BoundaryMetric):
  """Contour accuracy F of the DAVIS benchmark (Perazzi et al. 2016), by class.

  Contours one pixel wide match where the other's, dilated by a disc, covers them. A class with a
  contour in truth or prediction alone scores 0 in that image; one with neither is left out of it,
  where the benchmark, which knows which objects a video has, counts 1.

  Attributes:
    tolerance: Radius of the disc, rounded up to pixels.
    classes: Moments of F over images by class, (c,).
  """

  classes: RunningMoments
  default_tolerance: ClassVar[Tolerance] = Tolerance(0.008)  # `bound_th` of the released code.

  @classmethod
  def _from_pairs(
    cls, pairs: Iterable[LabelPair], num_classes: int, tolerance: Tolerance
  ) -> "DavisF":
    images = []
    for pair in pairs:
      radius = math.ceil(tolerance.pixels(pair.label.shape))
      scores = np.full(num_classes, np.nan)
      for c in pair.classes():
        true, predicted = (
          np.stack(np.nonzero(mark_davis_contour(ids == c, pair.labeled)))
          for ids in (pair.label, pair.prediction)
        )
        _, _, scores[c] = contour_f(true, predicted, radius)
      images.append(scores)
    return cls(tolerance, RunningMoments.from_values(np.reshape(images, (-1, num_classes))))

  def compute(self) -> dict[str, float]:
    """Computes the mean over the classes."""
    return {"davis_f": nanmean(self.compute_by_class()["f"])}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes the mean of F over the images with a contour of the class; NaN without any."""
    return {"f": self.classes.mean()}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"DAVIS F: one-pixel contours dilated by {self.tolerance} (rounded up to pixels), F by image "
      "and class, mean over the images with a contour of the class in truth or prediction (0 if in "
      f"one alone), then over classes; the image border is none; {self.unlabeled_rule}"
    )
