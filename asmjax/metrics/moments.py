"""Mean and standard deviation of values that come in parts, and ratios of counts."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class RunningMoments:
  """Number, mean and squared deviations of values that come in parts (Chan et al. 1979).

  Attributes:
    count: Number of values, in any shape.
    average: Mean of the values, 0 without any.
    squares: Sum of squared differences from the mean.
  """

  count: np.ndarray
  average: np.ndarray
  squares: np.ndarray

  @classmethod
  def from_values(cls, values: Any) -> "RunningMoments":
    """Computes the moments along the first axis; NaNs are left out."""
    values = np.asarray(values, np.float64)
    count = np.sum(~np.isnan(values), axis=0)
    average = np.nansum(values, axis=0) / np.maximum(count, 1)
    squares = np.nansum((values - average) ** 2, axis=0)
    # NumPy turns results without dimensions into scalars.
    return cls(np.asarray(count), np.asarray(average), np.asarray(squares))

  def __add__(self, other: "RunningMoments") -> "RunningMoments":
    """Joins the values of both."""
    count = self.count + other.count
    part = other.count / np.maximum(count, 1)
    difference = other.average - self.average
    squares = self.squares + other.squares + difference**2 * self.count * part
    average = self.average + difference * part
    return RunningMoments(np.asarray(count), np.asarray(average), np.asarray(squares))

  def mean(self) -> np.ndarray:
    """Returns the mean; NaN without values."""
    return np.where(self.count > 0, self.average, np.nan)

  def std(self) -> np.ndarray:
    """Computes the standard deviation, divided by the number of values; NaN without any."""
    return np.asarray(np.sqrt(ratio(self.squares, self.count)))


def ratio(numerator: Any, denominator: Any) -> np.ndarray:
  """Divides elementwise; NaN where the denominator is 0."""
  denominator = np.asarray(denominator)
  positive = denominator > 0
  return np.where(positive, numerator / np.where(positive, denominator, 1), np.nan)


def nanmean(values: np.ndarray) -> float:
  """Averages what is not NaN; NaN, without NumPy's warning, if there is nothing else."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")
