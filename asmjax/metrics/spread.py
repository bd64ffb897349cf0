"""Mean and standard deviation of values that come in parts, and ratios of counts."""

import dataclasses
from typing import Any

import numpy as np

# NumPy turns results without dimensions into scalars.
Values = np.ndarray | np.generic


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
  """Count, mean and standard deviation of values that come in parts (Chan et al. 1979).

  Attributes:
    count: how many values, in any shape.
    average: their mean, 0 without values.
    squares: sum of squared differences from the mean.
  """

  count: Values
  average: Values
  squares: Values

  @classmethod
  def of(cls, values: Any) -> "Spread":
    """The values along the first axis; NaNs are left out."""
    values = np.asarray(values, np.float64)
    count = np.sum(~np.isnan(values), axis=0)
    average = np.nansum(values, axis=0) / np.maximum(count, 1)
    return cls(count, average, np.nansum((values - average) ** 2, axis=0))

  def merge(self, other: "Spread") -> "Spread":
    """The values of both."""
    count = self.count + other.count
    part = other.count / np.maximum(count, 1)
    apart = other.average - self.average
    squares = self.squares + other.squares + apart**2 * self.count * part
    return Spread(count, self.average + apart * part, squares)

  def mean(self) -> Values:
    """Mean; NaN without values."""
    return np.where(self.count > 0, self.average, np.nan)

  def std(self) -> Values:
    """Standard deviation of these values (divided by their number); NaN without values."""
    return np.sqrt(ratio(self.squares, self.count))


def ratio(part: Any, whole: Any) -> np.ndarray:
  """`part / whole`, NaN where `whole` is 0."""
  whole = np.asarray(whole)
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def mean_of_known(values: np.ndarray) -> float:
  """Mean of what is not NaN; NaN of nothing."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")
