"""Boundaries matched one to one, as in the Berkeley contour benchmark."""

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
  count_matches,
)
from asmjax.metrics.label_maps import LabelPair, label_pairs
from asmjax.metrics.moments import RunningMoments, nanmean, ratio

# Tolerance of the BSDS benchmark (Arbelaez et al. 2011).
_TOLERANCE = Tolerance(0.0075)


@dataclasses.dataclass(frozen=True, eq=False)
class ContourBenchmark(Metric):
  """Precision, recall and F of boundaries under one-to-one matching (Arbelaez et al. 2011).

  Boundary pixels of a class in truth and prediction are paired one to one, as many as can be,
  within the tolerance. The numbers of pixels are added up over images before they are divided.

  Attributes:
    matched: Number of pairs by class, int64 (c,).
    predicted: Number of boundary pixels of the predictions by class, int64 (c,).
    true: Number of boundary pixels of the truth by class, int64 (c,).
    images: Moments over images of F, averaged over the classes with a boundary in either map.
    tolerance: Largest distance of a pair.

  Example:
    >>> state = ContourBenchmark.from_batch([[0, 1, 1, 1]], [[0, 0, 1, 1]], num_classes=2,
    ...                                     tolerance=Tolerance(1, "pixels"))
    >>> state.matched, state.compute()["boundary_f"]
    (array([1, 1]), 1.0)
  """

  matched: np.ndarray
  predicted: np.ndarray
  true: np.ndarray
  images: RunningMoments
  tolerance: Tolerance

  @classmethod
  def empty(cls, num_classes: int, *, tolerance: Tolerance = _TOLERANCE) -> "ContourBenchmark":
    """Creates the state of no images."""
    matched, predicted, true = np.zeros((3, num_classes), np.int64)
    return cls(matched, predicted, true, RunningMoments.from_values([]), tolerance)

  @classmethod
  def from_batch(
    cls,
    predictions: Any,
    targets: Any,
    *,
    num_classes: int,
    tolerance: Tolerance = _TOLERANCE,
    sizes: Any = None,
  ) -> "ContourBenchmark":
    """Scores label maps (h, w) or (n, h, w); arguments and errors as of `label_pairs`."""
    counts = np.zeros((3, num_classes), np.int64)
    images = []
    for pair in label_pairs(predictions, targets, num_classes=num_classes, sizes=sizes):
      matches = _count_matches(pair, num_classes, tolerance.pixels(pair.label.shape))
      images.append(RunningMoments.from_values(_f(*matches)).mean())
      counts += matches
    matched, predicted, true = counts
    return cls(matched, predicted, true, RunningMoments.from_values(images), tolerance)

  def merge(self, other: "ContourBenchmark") -> "ContourBenchmark":
    """Adds the images of both; ValueError if their tolerances differ."""
    return ContourBenchmark(
      self.matched + other.matched,
      self.predicted + other.predicted,
      self.true + other.true,
      self.images.merge(other.images),
      common_tolerance(self.tolerance, other.tolerance),
    )

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
      "f": _f(self.matched, self.predicted, self.true),
    }

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"maximum one-to-one matching of boundary pixels within {self.tolerance}, counts pooled over "
      f"images, then mean over classes with a boundary to divide by; {CONTOUR_RULE}, not thinned; "
      f"the image border is none; {UNLABELED_RULE}"
    )


def _count_matches(pair: LabelPair, num_classes: int, distance: int | float) -> np.ndarray:
  """Counts pairs, predicted and true boundary pixels of one image: (3, c)."""
  counts = np.zeros((3, num_classes), np.int64)
  for c, true, predicted in class_contours(pair):
    counts[:, c] = count_matches(true, predicted, distance), predicted.shape[1], true.shape[1]
  return counts


def _f(matched: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
  """Computes the harmonic mean of precision and recall; NaN without any boundary."""
  return ratio(2 * matched, predicted + true)
