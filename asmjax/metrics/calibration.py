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
from jaxtyping import Array, Float, Int


def count_calibration(
  probabilities: Float[ArrayLike, "n h w c"], label: Int[ArrayLike, "n h w"], *, bins: int = 15
) -> tuple[Float[Array, "b"], Int[Array, "b"], Int[Array, "b"]]:
  """The sums that calibration is computed from, on device.

  Args:
    probabilities: of each class; the largest is the confidence, its class the prediction.
    label: true class ids; pixels with an id outside [0, c) are left out.
    bins: number of equal bins of confidence, b.

  Returns:
    By bin: the float32 sum of confidences, and the int32 numbers of right pixels and of all
    pixels. `Calibration` takes them in this order.
  """
  probabilities, label = jnp.asarray(probabilities), jnp.asarray(label)
  classes, columns = probabilities.shape[-1], label.shape[-1]
  confidence = jnp.max(probabilities, -1).astype(jnp.float32)
  place = jnp.searchsorted(_bounds(bins, np.float32), confidence, method="compare_all")
  place = jnp.where((label >= 0) & (label < classes), place, bins).reshape(-1, columns)
  # Row by row first: a single sum over millions of pixels loses the digits of a confidence.
  rows = place.shape[0]
  place = place + (bins + 1) * jnp.arange(rows, dtype=jnp.int32)[:, None]

  def total(values: Array) -> Array:
    sums = jnp.bincount(place.ravel(), values.ravel(), length=rows * (bins + 1))
    return sums.reshape(rows, bins + 1).sum(0)[:-1]

  right = (jnp.argmax(probabilities, -1) == label).astype(jnp.int32)
  return total(confidence), total(right), total(jnp.ones_like(right))


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
  """Confidence and accuracy by bin of confidence (Guo et al. 2017, Sec. 2) over any pixels.

  Attributes:
    confidence: float64 (b,), sum of the confidences.
    hits: int64 (b,), number of right pixels.
    counts: int64 (b,), number of pixels.

  Example:
    >>> score = Calibration.of([[0.9, 0.1], [0.9, 0.1]], [0, 1])
    >>> print(round(score.expected_error(), 3), score.mean_confidence(), score.accuracy())
    0.4 0.9 0.5
  """

  confidence: np.ndarray
  hits: np.ndarray
  counts: np.ndarray

  @classmethod
  def empty(cls, bins: int = 15) -> "Calibration":
    """No pixels."""
    return cls(np.zeros(bins), np.zeros(bins, np.int64), np.zeros(bins, np.int64))

  @classmethod
  def of(cls, probabilities: Any, label: Any, *, bins: int = 15) -> "Calibration":
    """The bins of `probabilities` (..., c) and `label` (...); see `count_calibration`."""
    probabilities, label = np.asarray(probabilities), np.asarray(label)
    bounds = _bounds(bins, np.float64 if probabilities.dtype == np.float64 else np.float32)
    probabilities = probabilities.astype(np.float64)
    known = (label >= 0) & (label < probabilities.shape[-1])
    probabilities, label = probabilities[known], label[known]
    confidence = probabilities.max(-1)
    place = np.searchsorted(bounds, confidence)
    right = probabilities.argmax(-1) == label
    return cls(
      np.bincount(place, confidence, bins),
      np.bincount(place[right], minlength=bins),
      np.bincount(place, minlength=bins),
    )

  def merge(self, other: "Calibration") -> "Calibration":
    """The pixels of both.

    Raises:
      ValueError: they differ in the number of bins.
    """
    if self.counts.shape != other.counts.shape:
      raise ValueError(
        f"{self.counts.size} bins of confidence do not merge with {other.counts.size}"
      )
    return Calibration(
      self.confidence + other.confidence, self.hits + other.hits, self.counts + other.counts
    )

  def gaps(self) -> np.ndarray:
    """Mean confidence minus accuracy by bin: above 0 if too sure; NaN for an empty bin."""
    return np.where(
      self.counts > 0, (self.confidence - self.hits) / np.maximum(self.counts, 1), np.nan
    )

  def expected_error(self) -> float:
    """ECE (Eq. 3): mean of |gap| over pixels; NaN without any pixel."""
    return self._per_pixel(np.abs(self.confidence - self.hits))

  def maximum_error(self) -> float:
    """MCE (Eq. 5): the largest |gap| of a bin that holds pixels; NaN without any pixel."""
    known = self.counts > 0
    return float(np.abs(self.gaps()[known]).max()) if known.any() else float("nan")

  def mean_confidence(self) -> float:
    """Mean confidence of all pixels; NaN without any pixel."""
    return self._per_pixel(self.confidence)

  def accuracy(self) -> float:
    """Part of all pixels that are right; NaN without any pixel."""
    return self._per_pixel(self.hits)

  def compute(self) -> dict[str, float]:
    """Metrics by name."""
    return {
      "calibration_error": self.expected_error(),
      "maximum_calibration_error": self.maximum_error(),
      "mean_confidence": self.mean_confidence(),
    }

  @property
  def protocol(self) -> str:
    """What the numbers mean."""
    return (
      f"confidence (the largest class probability) in {self.counts.size} equal bins, closed "
      "above, over all labeled pixels of the split"
    )

  def _per_pixel(self, sums: np.ndarray) -> float:
    pixels = self.counts.sum()
    return float(sums.sum() / pixels) if pixels else float("nan")


def _bounds(bins: int, dtype: type) -> np.ndarray:
  """Upper bounds (b - 1,) of all bins but the last, which holds what is left."""
  return (np.arange(1, bins) / bins).astype(dtype)
