"""Contour accuracy of the DAVIS benchmark."""

import dataclasses
import math
from typing import Any

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.contours import (
  UNLABELED_RULE,
  Tolerance,
  common_tolerance,
  contour_f,
  mark_davis_contour,
)
from asmjax.metrics.label_maps import label_pairs
from asmjax.metrics.moments import RunningMoments, nanmean

# `bound_th` of the DAVIS evaluation code (Perazzi et al. 2016).
_TOLERANCE = Tolerance(0.008)


@dataclasses.dataclass(frozen=True, eq=False)
class DavisF(Metric):
  """Contour accuracy F of the DAVIS benchmark (Perazzi et al. 2016), by class.

  Contours one pixel wide match where the other's, dilated by a disc, covers them. A class with a
  contour in truth or prediction alone scores 0 in that image; one with neither is left out of it,
  where the benchmark, which knows which objects a video has, counts 1.

  Attributes:
    classes: Moments of F over images by class, (c,).
    tolerance: Radius of the disc, rounded up to pixels.
  """

  classes: RunningMoments
  tolerance: Tolerance

  @classmethod
  def empty(cls, num_classes: int, *, tolerance: Tolerance = _TOLERANCE) -> "DavisF":
    """Creates the state of no images."""
    return cls(RunningMoments.from_values(np.zeros((0, num_classes))), tolerance)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    num_classes: int,
    tolerance: Tolerance = _TOLERANCE,
    sizes: Any = None,
  ) -> "DavisF":
    """Scores label maps (h, w) or (n, h, w); arguments and errors as of `label_pairs`."""
    images = []
    for pair in label_pairs(predictions, targets, num_classes=num_classes, sizes=sizes):
      radius = math.ceil(tolerance.pixels(pair.label.shape))
      scores = np.full(num_classes, np.nan)
      for c in pair.classes():
        true, predicted = (
          np.stack(np.nonzero(mark_davis_contour(ids == c, pair.labeled)))
          for ids in (pair.label, pair.prediction)
        )
        _, _, scores[c] = contour_f(true, predicted, radius)
      images.append(scores)
    return cls(RunningMoments.from_values(np.reshape(images, (-1, num_classes))), tolerance)

  def merge(self, other: "DavisF") -> "DavisF":
    """Adds the images of both; ValueError if their tolerances differ."""
    tolerance = common_tolerance(self.tolerance, other.tolerance)
    return DavisF(self.classes.merge(other.classes), tolerance)

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
      f"one alone), then over classes; the image border is none; {UNLABELED_RULE}"
    )
