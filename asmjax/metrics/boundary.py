"""How well the boundaries of a label map are met: four measures, each a mergeable state.

All of them take one pair of label maps (h, w) or a stack (n, h, w); images of other sizes are
merged, or padded at the bottom and on the right and given with their `sizes` (n, 2), heights and
widths: tolerances are relative to the image, and the image ends where it ends. Pixels whose true
id is outside [0, classes) are unlabeled: predictions there are left out, and a step of either map
from or to such a pixel is no boundary. Where the outlines of objects are unlabeled, as in PASCAL
VOC's own annotations, hardly any boundary is left to measure.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from asmjax.metrics.contours import (
  Tolerance,
  boundaries,
  correspond,
  covered,
  davis_contour,
  inner_band,
)
from asmjax.metrics.spread import Spread, mean_of_known, ratio

CONTOUR_BENCHMARK = Tolerance(0.0075)
BF = Tolerance(0.0075)
BAND = Tolerance(0.02)
DAVIS = Tolerance(0.008)

_UNLABELED = "unlabeled pixels are left out and steps to them are no boundary"
_CONTOUR = "boundary: pixels of a class with one of another class among their 4 neighbors"


@dataclasses.dataclass(frozen=True, eq=False)
class ContourBenchmark:
  """Precision, recall and F of boundaries under one-to-one matching (Arbelaez et al. 2011).

  Boundary pixels of a class in truth and prediction are paired one to one, as many as can be,
  within the tolerance. The numbers of pixels are added up over images before they are divided.

  Attributes:
    matched: int64 (c,), pairs.
    predicted: int64 (c,), boundary pixels of the predictions.
    true: int64 (c,), boundary pixels of the truth.
    images: F by image, averaged over the classes with a boundary in either map.
    tolerance: the largest distance of a pair.

  Example:
    >>> found = ContourBenchmark.of([[0, 0, 1, 1]], [[0, 1, 1, 1]], classes=2,
    ...                             tolerance=Tolerance(1, "pixels"))
    >>> found.matched, found.compute()["boundary_f"]
    (array([1, 1]), 1.0)
  """

  matched: np.ndarray
  predicted: np.ndarray
  true: np.ndarray
  images: Spread
  tolerance: Tolerance

  @classmethod
  def empty(cls, classes: int, *, tolerance: Tolerance = CONTOUR_BENCHMARK) -> "ContourBenchmark":
    """No images."""
    return cls(*np.zeros((3, classes), np.int64), Spread.of([]), tolerance)

  @classmethod
  def of(
    cls,
    label: Any,
    predicted: Any,
    *,
    classes: int,
    tolerance: Tolerance = CONTOUR_BENCHMARK,
    sizes: Any = None,
  ) -> "ContourBenchmark":
    """Scores label maps (h, w) or (n, h, w), of `sizes` (n, 2) if they are padded.

    Raises:
      ValueError: shapes differ or have another rank, or a labeled pixel's prediction is outside
        [0, classes), or a size is not inside the maps.
    """
    counts = np.zeros((3, classes), np.int64)
    images = []
    for true, guess, known in _pairs(label, predicted, classes, sizes):
      found = _correspondences(true, guess, known, classes, tolerance.pixels(true.shape))
      images.append(Spread.of(_f(*found)).mean())
      counts += found
    return cls(*counts, Spread.of(images), tolerance)

  def merge(self, other: "ContourBenchmark") -> "ContourBenchmark":
    """The images of both; ValueError if their tolerances differ."""
    counts = (getattr(self, x) + getattr(other, x) for x in ("matched", "predicted", "true"))
    return ContourBenchmark(*counts, self.images.merge(other.images), _agreed(self, other))

  def precision(self) -> np.ndarray:
    """(c,): matched part of the predicted boundary; NaN for a class without one."""
    return ratio(self.matched, self.predicted)

  def recall(self) -> np.ndarray:
    """(c,): matched part of the true boundary; NaN for a class without one."""
    return ratio(self.matched, self.true)

  def f(self) -> np.ndarray:
    """(c,): harmonic mean of both; 0 with a boundary in one map alone, NaN in neither."""
    return _f(self.matched, self.predicted, self.true)

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class (c,)."""
    return {"precision": self.precision(), "recall": self.recall(), "f": self.f()}

  def compute(self) -> dict[str, float]:
    """Means over the classes, and the mean over images of the image's own F."""
    means = {f"boundary_{name}": mean_of_known(each) for name, each in self.scores().items()}
    return means | {"boundary_f_by_image": float(self.images.mean())}

  @property
  def protocol(self) -> str:
    """What was measured, in words."""
    return (
      f"maximum one-to-one matching of boundary pixels within {self.tolerance}, counts pooled over "
      f"images, then mean over classes with a boundary to divide by; {_CONTOUR}, not thinned; the "
      f"image border is none; {_UNLABELED}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class BFScore:
  """Boundary F1 of images by closest match (Csurka et al. 2013), as Luc et al. 2016 report it.

  Per image and class, precision is the part of the predicted boundary with a true boundary pixel of
  the class within the tolerance, and recall the reverse. The image's score is the mean F over the
  classes with a boundary in its truth; a class whose boundary was not predicted scores 0 there, one
  that was only predicted is left out, and so is an image without true boundaries.

  The tolerance is theta times the diagonal of the image: 0.75 % by default, as in Csurka et al.;
  Luc et al. choose theta such that it is 5 pixels in the image with the smallest diagonal d of the
  set, `Tolerance.at_smallest(5, d)`.

  Attributes:
    images: score by image.
    by_class: (3, c): precision, recall and F by image.
    tolerance: the largest distance of a match.
  """

  images: Spread
  by_class: Spread
  tolerance: Tolerance

  @classmethod
  def empty(cls, classes: int, *, tolerance: Tolerance = BF) -> "BFScore":
    """No images."""
    return cls(Spread.of([]), Spread.of(np.zeros((0, 3, classes))), tolerance)

  @classmethod
  def of(
    cls, label: Any, predicted: Any, *, classes: int, tolerance: Tolerance = BF, sizes: Any = None
  ) -> "BFScore":
    """Scores label maps (h, w) or (n, h, w), of `sizes` (n, 2) if they are padded.

    Raises:
      ValueError: shapes differ or have another rank, or a labeled pixel's prediction is outside
        [0, classes), or a size is not inside the maps.
    """
    found = np.reshape(
      [
        _closest(true, guess, known, classes, tolerance.pixels(true.shape))
        for true, guess, known in _pairs(label, predicted, classes, sizes)
      ],
      (-1, 3, classes),
    )
    images = Spread.of(found[:, 2].T).mean()
    return cls(Spread.of(images), Spread.of(found), tolerance)

  def merge(self, other: "BFScore") -> "BFScore":
    """The images of both; ValueError if their tolerances differ."""
    by_class = self.by_class.merge(other.by_class)
    return BFScore(self.images.merge(other.images), by_class, _agreed(self, other))

  def precision(self) -> np.ndarray:
    """(c,): mean over the images with a boundary of the class in truth and prediction."""
    return self.by_class.mean()[0]

  def recall(self) -> np.ndarray:
    """(c,): mean over the images with a boundary of the class in the truth."""
    return self.by_class.mean()[1]

  def f(self) -> np.ndarray:
    """(c,): mean over the images with a boundary of the class in the truth."""
    return self.by_class.mean()[2]

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class (c,)."""
    return {"precision": self.precision(), "recall": self.recall(), "f": self.f()}

  def compute(self) -> dict[str, float]:
    """Mean and standard deviation over images."""
    return {"bf": float(self.images.mean()), "bf_std": float(self.images.std())}

  @property
  def protocol(self) -> str:
    """What was measured, in words."""
    return (
      f"BF: closest match of boundary pixels at most theta = {self.tolerance} away, F by image and "
      "class, mean over the classes with a boundary in the image's truth (others left out), then "
      f"mean and standard deviation over images with one; {_CONTOUR}; the image border is none; "
      f"{_UNLABELED}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryIoU:
  """IoU of the inner bands along the edges of true and predicted masks (Cheng et al. 2021).

  Pixels are added up over images before they are divided, as for the mean IoU of masks.

  Attributes:
    common: int64 (c,), pixels in both bands.
    either: int64 (c,), pixels in at least one.
    tolerance: depth of a band, rounded to pixels, at least 1.
  """

  common: np.ndarray
  either: np.ndarray
  tolerance: Tolerance

  @classmethod
  def empty(cls, classes: int, *, tolerance: Tolerance = BAND) -> "BoundaryIoU":
    """No images."""
    return cls(*np.zeros((2, classes), np.int64), tolerance)

  @classmethod
  def of(
    cls, label: Any, predicted: Any, *, classes: int, tolerance: Tolerance = BAND, sizes: Any = None
  ) -> "BoundaryIoU":
    """Scores label maps (h, w) or (n, h, w), of `sizes` (n, 2) if they are padded.

    Raises:
      ValueError: shapes differ or have another rank, or a labeled pixel's prediction is outside
        [0, classes), or a size is not inside the maps.
    """
    common, either = np.zeros((2, classes), np.int64)
    for true, guess, known in _pairs(label, predicted, classes, sizes):
      reach = max(1, round(tolerance.pixels(true.shape)))
      for c in _present(true, guess, known):
        bands = [inner_band(ids == c, known, reach) for ids in (true, guess)]
        common[c] += np.count_nonzero(bands[0] & bands[1])
        either[c] += np.count_nonzero(bands[0] | bands[1])
    return cls(common, either, tolerance)

  def merge(self, other: "BoundaryIoU") -> "BoundaryIoU":
    """The images of both; ValueError if their tolerances differ."""
    tolerance = _agreed(self, other)
    return BoundaryIoU(self.common + other.common, self.either + other.either, tolerance)

  def iou(self) -> np.ndarray:
    """(c,): boundary IoU; NaN for a class in neither truth nor prediction."""
    return ratio(self.common, self.either)

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class (c,)."""
    return {"iou": self.iou()}

  def compute(self) -> dict[str, float]:
    """Mean over the classes that occur."""
    return {"boundary_iou": mean_of_known(self.iou())}

  @property
  def protocol(self) -> str:
    """What was measured, in words."""
    return (
      f"boundary IoU: IoU of the parts of the masks within {self.tolerance} (rounded to pixels, at "
      "least 1; chessboard distance) of their edges, pixels pooled over images, mean over classes "
      f"in truth or prediction; the image border is an edge; {_UNLABELED}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class DavisF:
  """The contour accuracy F of the DAVIS benchmark (Perazzi et al. 2016), by class.

  Contours one pixel wide match where the other's, dilated by a disc, covers them. A class with a
  contour in truth or prediction alone scores 0 in that image; one with neither is left out of it,
  where the benchmark, which knows which objects a video has, counts 1.

  Attributes:
    by_class: (c,), F by image.
    tolerance: radius of the disc, rounded up to pixels.
  """

  by_class: Spread
  tolerance: Tolerance

  @classmethod
  def empty(cls, classes: int, *, tolerance: Tolerance = DAVIS) -> "DavisF":
    """No images."""
    return cls(Spread.of(np.zeros((0, classes))), tolerance)

  @classmethod
  def of(
    cls,
    label: Any,
    predicted: Any,
    *,
    classes: int,
    tolerance: Tolerance = DAVIS,
    sizes: Any = None,
  ) -> "DavisF":
    """Scores label maps (h, w) or (n, h, w), of `sizes` (n, 2) if they are padded.

    Raises:
      ValueError: shapes differ or have another rank, or a labeled pixel's prediction is outside
        [0, classes), or a size is not inside the maps.
    """
    found = []
    for true, guess, known in _pairs(label, predicted, classes, sizes):
      reach = math.ceil(tolerance.pixels(true.shape))
      found.append(np.full(classes, np.nan))
      for c in _present(true, guess, known):
        masks = (davis_contour(ids == c, known) for ids in (true, guess))
        lines = (np.stack(np.nonzero(mask)) for mask in masks)
        found[-1][c] = _closeness(*lines, reach)[2]
    return cls(Spread.of(np.reshape(found, (-1, classes))), tolerance)

  def merge(self, other: "DavisF") -> "DavisF":
    """The images of both; ValueError if their tolerances differ."""
    return DavisF(self.by_class.merge(other.by_class), _agreed(self, other))

  def f(self) -> np.ndarray:
    """(c,): mean over the images with a contour of the class; NaN without any."""
    return self.by_class.mean()

  def scores(self) -> dict[str, np.ndarray]:
    """Metrics by name and class (c,)."""
    return {"f": self.f()}

  def compute(self) -> dict[str, float]:
    """Mean over the classes."""
    return {"davis_f": mean_of_known(self.f())}

  @property
  def protocol(self) -> str:
    """What was measured, in words."""
    return (
      f"DAVIS F: one-pixel contours dilated by {self.tolerance} (rounded up to pixels), F by image "
      "and class, mean over the images with a contour of the class in truth or prediction (0 if in "
      f"one alone), then over classes; the image border is none; {_UNLABELED}"
    )


def _pairs(
  label: Any, predicted: Any, classes: int, sizes: Any
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Image by image, without padding: true ids, predicted ids, and where the truth is labeled."""
  label, predicted = np.asarray(label), np.asarray(predicted)
  if label.shape != predicted.shape or label.ndim not in (2, 3):
    raise ValueError(
      f"labels of shape {label.shape} and predictions of shape {predicted.shape}; expected two "
      "equal shapes, (h, w) or (n, h, w)"
    )
  known = (label >= 0) & (label < classes)
  wrong = known & ((predicted < 0) | (predicted >= classes))
  if wrong.any():
    raise ValueError(f"predicted id {predicted[wrong][0]}; expected ids in [0, {classes})")
  maps = [x.reshape(-1, *x.shape[-2:]) for x in (label, predicted, known)]
  count, *sides = maps[0].shape
  sizes = np.broadcast_to(sides, (count, 2)) if sizes is None else np.asarray(sizes)
  if sizes.shape != (count, 2) or np.any(sizes < 1) or np.any(sizes > sides):
    raise ValueError(
      f"sizes {sizes.tolist()} of {count} maps of {sides[0]}x{sides[1]}; expected a height and a "
      "width for each, inside the maps"
    )
  for (height, width), *image in zip(sizes, *maps, strict=True):
    yield tuple(x[:height, :width] for x in image)


def _correspondences(
  true: np.ndarray, guess: np.ndarray, known: np.ndarray, classes: int, reach: int | float
) -> np.ndarray:
  """(3, c): pairs, predicted and true boundary pixels of one image."""
  counts = np.zeros((3, classes), np.int64)
  for c, *lines in boundaries(true, guess, known):
    counts[:, c] = correspond(*lines, reach), lines[1].shape[1], lines[0].shape[1]
  return counts


def _closest(
  true: np.ndarray, guess: np.ndarray, known: np.ndarray, classes: int, reach: int | float
) -> np.ndarray:
  """(3, c): precision, recall and F of one image; NaN for classes without a true boundary."""
  scores = np.full((3, classes), np.nan)
  for c, *lines in boundaries(true, guess, known):
    if lines[0].size:
      scores[:, c] = _closeness(*lines, reach)
  return scores


def _closeness(
  true: np.ndarray, guess: np.ndarray, reach: int | float
) -> tuple[float, float, float]:
  """Precision, recall and F of two contours' places; NaN where there is nothing to divide by."""
  hits_true, hits_guess = covered(true, guess, reach)
  recall, precision = (
    hits / line.shape[1] if line.size else math.nan
    for hits, line in ((hits_true, true), (hits_guess, guess))
  )
  if hits_true and hits_guess:
    return precision, recall, 2 * precision * recall / (precision + recall)
  return precision, recall, 0.0 if true.size or guess.size else math.nan


def _present(true: np.ndarray, guess: np.ndarray, known: np.ndarray) -> np.ndarray:
  """The classes of the labeled pixels, in truth or prediction."""
  return np.flatnonzero(np.bincount(np.concatenate([true[known], guess[known]])))


def _agreed(one: Any, other: Any) -> Tolerance:
  if one.tolerance != other.tolerance:
    raise ValueError(f"cannot merge tolerances of {one.tolerance} and {other.tolerance}")
  return one.tolerance


def _f(matched: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
  return ratio(2 * matched, predicted + true)
