"""Numbers with a range: annotations, as in `rate: NonNegative = 1e-3`, that values must fit."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
  """Range of a finite number.

  Attributes:
    low: Lower limit.
    high: Upper limit.
    above: Whether the number must be above the lower limit, rather than at least it.
    below: Whether the number must be below the upper limit, rather than at most it.
  """

  low: float = -math.inf
  high: float = math.inf
  above: bool = False
  below: bool = False

  def __contains__(self, value: float) -> bool:
    is_low = value > self.low if self.above else value >= self.low
    is_high = value < self.high if self.below else value <= self.high
    return is_low and is_high and math.isfinite(value)

  def __str__(self) -> str:
    if self.high == math.inf:
      return f"a number above {self.low:g}" if self.above else f"at least {self.low:g}"
    return f"a number in {'(['[not self.above]}{self.low:g}, {self.high:g}{')]'[not self.below]}"

  def check(self, value: float, name: str) -> None:
    """Raises ValueError, with the name, for a value outside of the range."""
    if value not in self:
      raise ValueError(f"{name}={value}; expected {self}")


Count = Annotated[int, Range(0)]
PositiveInt = Annotated[int, Range(1)]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
# A part of something, and one that is not all of it.
Fraction = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]
PositiveFraction = Annotated[float, Range(0, 1, above=True)]


def check_ranges(instance: Any) -> None:
  """Checks the numbers of a dataclass against the ranges of their fields.

  Numbers may also stand in tuples and mappings, or where other types may stand.

  Raises:
    ValueError: A number is outside of its range; the message names the field.
  """
  for name, hint in typing.get_type_hints(type(instance), include_extras=True).items():
    _check(getattr(instance, name, None), hint, name)


def _check(value: Any, hint: Any, name: str) -> None:
  """Checks a value against the ranges in a type hint."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is Annotated:
    for limits in arguments[1:]:
      if isinstance(limits, Range) and isinstance(value, int | float):
        limits.check(value, name)
  elif origin in (typing.Union, types.UnionType):
    for option in arguments:
      _check(value, option, name)
  elif origin is tuple and isinstance(value, tuple | list):
    hints = arguments[:1] * len(value) if arguments[-1] is ... else arguments
    for index, (item, item_hint) in enumerate(zip(value, hints, strict=False)):
      _check(item, item_hint, f"{name}[{index}]")
  elif isinstance(value, Mapping) and len(arguments) == 2:
    for key, item in value.items():
      _check(item, arguments[1], f"{name}[{key!r}]")
