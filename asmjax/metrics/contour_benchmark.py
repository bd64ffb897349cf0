"""Boundaries matched one to one, as in the Berkeley contour benchmark."""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from asmjax.metrics.boundary import CONTOUR_RULE, BoundaryMetric, Tolerance
from asmjax.metrics.contours import class_contours, count_matches
from asmjax.metrics.label_maps import LabelPair
from asmjax.metrics.moments import RunningMoments, nanmean, ratio


@dataclasses.dataclass(frozen=True, eq=False)
class ContourBenchmark(BoundaryMetric):
  """Precision, recall and F of boundaries under one-to-one matching (Arbelaez et al. 2011).

  Boundary pixels of a class in truth and prediction are paired one to one, as many as can be,
  within the tolerance. The numbers of pixels are added up over images before they are divided.

  Attributes:
    tolerance: Largest distance of a pair.
    matched: Number of pairs by class, int64 (c,).
    predicted: Number of boundary pixels of the predictions by class, int64 (c,).
    true: Number of boundary pixels of the truth by class, int64 (c,).
    images: Moments over images of F, averaged over the classes with a boundary in either map.

  Examples:
    >>> state = ContourBenchmark.from_batch([[0, 1, 1, 1]], [[0, 0, 1, 1]], num_classes=2,
    ...                                     tolerance=Tolerance(1, "pixels"))
    >>> state.matched, state.compute()["boundary_f"]
    (array([1, 1]), 1.0)
  """

  matched: np.ndarray
  predicted: np.ndarray
  true: np.ndarray
  images: RunningMoments
  default_tolerance: ClassVar[Tolerance] = Tolerance(0.0075)  # Arbelaez et al. 2011.

  @classmethod
  def _from_pairs(
    cls, pairs: Iterable[LabelPair], num_classes: int, tolerance: Tolerance
  ) -> "ContourBenchmark":
    counts = np.zeros((3, num_classes), np.int64)
    images = []
    for pair in pairs:
      image_counts = _count_matches(pair, num_classes, tolerance.pixels(pair.label.shape))
      images.append(RunningMoments.from_values(_f_measure(*image_counts)).mean())
      counts += image_counts
    matched, predicted, true = counts
    return cls(tolerance, matched, predicted, true, RunningMoments.from_values(images))

  def compute(self) -> dict[str, float]:
    """Computes means over the classes, and the mean over images of the image's own F."""
    means = {f"boundary_{name}": nanmean(x) for name, x in self.compute_by_class().items()}
    return means | {"boundary_f_by_image": float(self.images.mean())}

  def compute_by_class(self) -> dict[str, np.ndarray]:
    """Computes precision, recall and F by class; NaN where there is nothing to divide by.

    F is 0 for a class with a boundary in one of the maps alone.
    """
    return {
      "precision": ratio(self.matched, self.predicted),
      "recall": ratio(self.matched, self.true),
      "f": _f_measure(self.matched, self.predicted, self.true),
    }

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"maximum one-to-one matching of boundary pixels within {self.tolerance}, counts pooled over "
      f"images, then mean over classes with a boundary to divide by; {CONTOUR_RULE}, not thinned; "
      f"the image border is none; {self.unlabeled_rule}"
    )


def _count_matches(pair: LabelPair, num_classes: int, distance: int | float) -> np.ndarray:
  """Counts pairs, predicted and true boundary pixels of one image: (3, c)."""
  counts = np.zeros((3, num_classes), np.int64)
  for c, true, predicted in class_contours(pair):
    counts[:, c] = count_matches(true, predicted, distance), predicted.shape[1], true.shape[1]
  return counts


def _f_measure(matched: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
  """Computes the harmonic mean of precision and recall; NaN without any boundary."""
  return ratio(2 * matched, predicted + true)
