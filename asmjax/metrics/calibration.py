"""Calibration: whether a pixel that is classified with confidence p is right in a part p of cases.

Bin m of M holds the confidences in ((m - 1) / M, m / M]; the first one holds 0, too. The bounds are
rounded to the confidences' own precision and compared, as in the code of Guo et al., so that 0.2 in
single precision, which is a little more than 1/5, is in the third of 15 bins whatever the precision
of the sums. Torchmetrics closes its bins below instead.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer

from asmjax.metrics.base import Metric
from asmjax.metrics.moments import ratio
from asmjax.utils.shapes import check_shapes

# Bins of Guo et al. 2017, Table 1.
_NUM_BINS = 15


def count_calibration(
  probabilities: Float[ArrayLike, "n h w c"],
  targets: Integer[ArrayLike, "n h w"],
  *,
  num_bins: int = _NUM_BINS,
) -> tuple[Float[Array, "b"], Int[Array, "b"], Int[Array, "b"]]:
  """Sums what calibration is computed from, on device.

  Args:
    probabilities: Probability of each class; the largest is the confidence, its class the
      prediction.
    targets: True class ids; pixels with an id outside [0, c) are left out.
    num_bins: Number b of equal bins of confidence, 15 by default.

  Returns:
    By bin: the float32 sum of confidences, and the int32 numbers of right pixels and of all
    pixels. `Calibration` takes them in this order.

  Raises:
    ValueError: The shapes do not fit.
  """
  probabilities, label = jnp.asarray(probabilities), jnp.asarray(targets)
  check_shapes(probabilities=(probabilities, "*shape c"), targets=(label, "*shape"))
  num_classes, columns = probabilities.shape[-1], label.shape[-1]
  confidence = jnp.max(probabilities, -1).astype(jnp.float32)
  bins = jnp.searchsorted(_upper_bounds(num_bins, np.float32), confidence, method="compare_all")
  bins = jnp.where((label >= 0) & (label < num_classes), bins, num_bins).reshape(-1, columns)
  # Row by row first: a single sum over millions of pixels loses the digits of a confidence.
  rows = bins.shape[0]
  cells = bins + (num_bins + 1) * jnp.arange(rows, dtype=jnp.int32)[:, None]

  def sum_by_bin(values: Array) -> Array:
    sums = jnp.bincount(cells.ravel(), values.ravel(), length=rows * (num_bins + 1))
    return sums.reshape(rows, num_bins + 1).sum(0)[:-1]

  right = (jnp.argmax(probabilities, -1) == label).astype(jnp.int32)
  return sum_by_bin(confidence), sum_by_bin(right), sum_by_bin(jnp.ones_like(right))


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration(Metric):
  """Confidence and accuracy by bin of confidence (Guo et al. 2017, Sec. 2) over any pixels.

  Attributes:
    confidence: Sum of the confidences by bin, float64 (b,).
    hits: Number of right pixels by bin, int64 (b,).
    counts: Number of pixels by bin, int64 (b,).

  Examples:
    >>> score = Calibration.from_batch([[0.9, 0.1], [0.9, 0.1]], [0, 1])
    >>> print(round(score.expected_error(), 3), score.mean_confidence(), score.accuracy())
    0.4 0.9 0.5
  """

  confidence: np.ndarray
  hits: np.ndarray
  counts: np.ndarray

  @classmethod
  def empty(cls, num_bins: int = _NUM_BINS) -> "Calibration":
    """Creates the state of no pixels."""
    return cls(np.zeros(num_bins), np.zeros(num_bins, np.int64), np.zeros(num_bins, np.int64))

  @classmethod
  def from_batch(
    cls, predictions: Any, targets: Any, *, num_bins: int = _NUM_BINS
  ) -> "Calibration":
    """Computes the bins of any pixels on the host.

    Args:
      predictions: Probabilities of the classes, (..., c).
      targets: True class ids (...); others than [0, c) are left out.
      num_bins: Number of equal bins of confidence, 15 by default.

    Raises:
      ValueError: The shapes do not fit.
    """
    probabilities, label = np.asarray(predictions), np.asarray(targets)
    check_shapes(predictions=(probabilities, "*shape c"), targets=(label, "*shape"))
    bounds = _upper_bounds(
      num_bins, np.float64 if probabilities.dtype == np.float64 else np.float32
    )
    probabilities = probabilities.astype(np.float64)
    labeled = (label >= 0) & (label < probabilities.shape[-1])
    probabilities, label = probabilities[labeled], label[labeled]
    confidence = probabilities.max(-1)
    bins = np.searchsorted(bounds, confidence)
    right = probabilities.argmax(-1) == label
    return cls(
      np.bincount(bins, confidence, num_bins),
      np.bincount(bins[right], minlength=num_bins),
      np.bincount(bins, minlength=num_bins),
    )

  def merge(self, other: "Calibration") -> "Calibration":
    """Adds the pixels of both; ValueError if they differ in the number of bins."""
    if self.counts.shape != other.counts.shape:
      raise ValueError(
        f"{self.counts.size} bins of confidence do not merge with {other.counts.size}"
      )
    return Calibration(
      self.confidence + other.confidence, self.hits + other.hits, self.counts + other.counts
    )

  def gaps(self) -> np.ndarray:
    """Computes confidence minus accuracy by bin: above 0 if too sure; NaN for an empty bin."""
    return ratio(self.confidence - self.hits, self.counts)

  def expected_error(self) -> float:
    """Computes ECE (Eq. 3), the mean of |gap| over pixels; NaN without any pixel."""
    return self._per_pixel(np.abs(self.confidence - self.hits))

  def maximum_error(self) -> float:
    """Computes MCE (Eq. 5), the largest |gap| of a bin; NaN without any pixel."""
    gaps = np.abs(self.gaps()[self.counts > 0])
    return float(gaps.max()) if gaps.size else np.nan

  def mean_confidence(self) -> float:
    """Computes the mean confidence of all pixels; NaN without any."""
    return self._per_pixel(self.confidence)

  def accuracy(self) -> float:
    """Computes the part of all pixels that are right; NaN without any."""
    return self._per_pixel(self.hits)

  def compute(self) -> dict[str, float]:
    """Computes calibration errors and the mean confidence."""
    return {
      "calibration_error": self.expected_error(),
      "maximum_calibration_error": self.maximum_error(),
      "mean_confidence": self.mean_confidence(),
    }

  @property
  def protocol(self) -> str:
    """Description of how the numbers are computed."""
    return (
      f"confidence (the largest class probability) in {self.counts.size} equal bins, closed "
      "above, over all labeled pixels of the split"
    )

  def _per_pixel(self, sums: np.ndarray) -> float:
    return float(ratio(sums.sum(), self.counts.sum()))


def _upper_bounds(num_bins: int, dtype: type) -> np.ndarray:
  """Returns the upper bounds (b - 1,) of all bins but the last, which holds the rest."""
  return (np.arange(1, num_bins) / num_bins).astype(dtype)
