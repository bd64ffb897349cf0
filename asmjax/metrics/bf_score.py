"""Boundary F1 of images by closest match."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from asmjax.metrics.boundary import CONTOUR_RULE, BoundaryMetric, Tolerance
from asmjax.metrics.contours import class_contours, contour_f
from asmjax.metrics.label_maps import LabelPair
from asmjax.metrics.moments import RunningMoments


@dataclasses.dataclass(frozen=True, eq=False)
class BFScore(BoundaryMetric):
  """Boundary F1 of images by closest match (Csurka et al. 2013), as Luc et al. 2016 report it.

  Per image and class, precision is the part of the predicted boundary with a true boundary pixel of
  the class within the tolerance, and recall the reverse. The image's score is the mean F over the
  classes with a boundary in its truth; a class whose boundary was not predicted scores 0 there, one
  that was only predicted is left out, and so is an image without true boundaries.

  The tolerance is theta times the diagonal of the image: 0.75 % by default, as in Csurka et al.;
  Luc et al. choose theta such that it is 5 pixels in the image with the smallest diagonal d of the
  set, `Tolerance.at_smallest(5, d)`.

  Attributes:
    tolerance: Largest distance of a match.
    images: Moments of the score over images.
    classes: Moments over images of precision, recall and F by class, (3, c).
  """

  images: RunningMoments
  classes: RunningMoments
  default_tolerance: ClassVar[Tolerance] = Tolerance(0.0075)  # Csurka et al. 2013.

  @classmethod
  def _from_pairs(
    cls, pairs: Iterable[LabelPair], num_classes: int, tolerance: Tolerance
  ) -> "BFScore":
    scores = [_score_image(pair, num_classes, tolerance.pixels(pair.label.shape)) for pair in pairs]
    scores = np.reshape(scores, (-1, 3, num_classes))
    images = RunningMoments.from_values(scores[:, 2].T).mean()
    return cls(tolerance, RunningMoments.from_values(images), RunningMoments.from_values(scores))

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
      f"none; {self.unlabeled_rule}"
    )


def _score_image(pair: LabelPair, num_classes: int, distance: int | float) -> np.ndarray:
  """Computes precision, recall and F of an image, (3, c); NaN without a true boundary."""
  scores = np.full((3, num_classes), np.nan)
  for c, true, predicted in class_contours(pair):
    if true.size:
      scores[:, c] = contour_f(true, predicted, distance)
  return scores
