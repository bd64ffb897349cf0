"""Boundary F1 of images by closest match."""

import dataclasses
from typing import Any

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.contours import (
  CONTOUR_RULE,
  UNLABELED_RULE,
  Tolerance,
  class_contours,
  common_tolerance,
  contour_f,
)
from asmjax.metrics.label_maps import LabelPair, label_pairs
from asmjax.metrics.moments import RunningMoments

# Tolerance of Csurka et al. 2013.
_TOLERANCE = Tolerance(0.0075)


@dataclasses.dataclass(frozen=True, eq=False)
class BFScore(Metric):
  """Boundary F1 of images by closest match (Csurka et al. 2013), as Luc et al. 2016 report it.

  Per image and class, precision is the part of the predicted boundary with a true boundary pixel of
  the class within the tolerance, and recall the reverse. The image's score is the mean F over the
  classes with a boundary in its truth; a class whose boundary was not predicted scores 0 there, one
  that was only predicted is left out, and so is an image without true boundaries.

  The tolerance is theta times the diagonal of the image: 0.75 % by default, as in Csurka et al.;
  Luc et al. choose theta such that it is 5 pixels in the image with the smallest diagonal d of the
  set, `Tolerance.at_smallest(5, d)`.

  Attributes:
    images: Moments of the score over images.
    classes: Moments over images of precision, recall and F by class, (3, c).
    tolerance: Largest distance of a match.
  """

  images: RunningMoments
  classes: RunningMoments
  tolerance: Tolerance

  @classmethod
  def empty(cls, num_classes: int, *, tolerance: Tolerance = _TOLERANCE) -> "BFScore":
    """Creates the state of no images."""
    classes = RunningMoments.from_values(np.zeros((0, 3, num_classes)))
    return cls(RunningMoments.from_values([]), classes, tolerance)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    num_classes: int,
    tolerance: Tolerance = _TOLERANCE,
    sizes: Any = None,
  ) -> "BFScore":
    """Scores label maps (h, w) or (n, h, w); arguments and errors as of `label_pairs`."""
    scores = np.reshape(
      [
        _score(pair, num_classes, tolerance.pixels(pair.label.shape))
        for pair in label_pairs(predictions, targets, num_classes=num_classes, sizes=sizes)
      ],
      (-1, 3, num_classes),
    )
    images = RunningMoments.from_values(scores[:, 2].T).mean()
    return cls(RunningMoments.from_values(images), RunningMoments.from_values(scores), tolerance)

  def merge(self, other: "BFScore") -> "BFScore":
    """Adds the images of both; ValueError if their tolerances differ."""
    tolerance = common_tolerance(self.tolerance, other.tolerance)
    return BFScore(self.images.merge(other.images), self.classes.merge(other.classes), tolerance)

  def compute(self) -> dict[str, float]:
    """Computes mean and standard deviation over images."""
    return {"bf": float(self.images.mean()), "bf_std": float(self.images.std())}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes means over the images with a boundary of the class in the truth.

    Precision is averaged over those with a predicted one as well.
    """
    precision, recall, f = self.classes.mean()
    return {"precision": precision, "recall": recall, "f": f}

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"BF: closest match of boundary pixels at most theta = {self.tolerance} away, F by image and "
      "class, mean over the classes with a boundary in the image's truth (others left out), then "
      f"mean and standard deviation over images with one; {CONTOUR_RULE}; the image border is "
      f"none; {UNLABELED_RULE}"
    )


def _score(pair: LabelPair, num_classes: int, distance: int | float) -> np.ndarray:
  """Computes precision, recall and F of an image, (3, c); NaN without a true boundary."""
  scores = np.full((3, num_classes), np.nan)
  for c, true, predicted in class_contours(pair):
    if true.size:
      scores[:, c] = contour_f(true, predicted, distance)
  return scores
