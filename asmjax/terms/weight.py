"""Weights of terms: a number, or a schedule of the training's progress."""

import dataclasses
import re

import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.utils.ranges import Fraction, NonNegative, check_ranges

SHAPES = ("exponential", "linear")


@dataclasses.dataclass(frozen=True)
class Ramp:
  """Weight that goes from one value to another over a part of the training, and stays there.

  An `optax.Schedule` of progress t/T in place of the step.

  A decay 10^(-t/T) is `Ramp(1.0, 0.1)`. A term that sets in after a warm-up of a tenth of the
  training is `Ramp(0.0, 1.0, shape="linear", begin=0.1, end=0.3)`.

  Attributes:
    start: Weight until `begin`.
    stop: Weight from `end` on.
    shape: "exponential", start * (stop / start)^p, or "linear", where p goes from 0 to 1.
    begin: Part t/T of the training that is done when the weight begins to change.
    end: Part t/T of the training that is done when it no longer changes.

  Raises:
    ValueError: An exponential weight that is not positive, an unknown shape, or parts of the
      training that are not in order.
  """

  start: NonNegative
  stop: NonNegative
  shape: str = "exponential"
  begin: Fraction = 0.0
  end: Fraction = 1.0

  def __post_init__(self):
    if self.shape not in SHAPES:
      raise ValueError(f"unknown shape {self.shape!r} of a weight; known: {', '.join(SHAPES)}")
    if self.shape == "exponential" and min(self.start, self.stop) <= 0:
      raise ValueError(f"an exponential weight must be positive, not {self}")
    if not 0 <= self.begin < self.end <= 1:
      raise ValueError(f"{self}: expected 0 <= begin < end <= 1")
    check_ranges(self)

  def __call__(self, progress: Array | float) -> Float[Array, ""]:
    """Returns the weight when the part `progress` = t/T of the training is done."""
    part = jnp.clip((progress - self.begin) / (self.end - self.begin), 0.0, 1.0)
    if self.shape == "linear":
      return self.start + (self.stop - self.start) * part
    return self.start * (self.stop / self.start) ** part


Weight = NonNegative | Ramp


def evaluate_weight(weight: Weight, progress: Array | float) -> Float[Array, ""] | float:
  """Returns the weight's value when the part `progress` = t/T of the training is done."""
  return weight(progress) if callable(weight) else weight


def parse_weight(text: str) -> float | dict[str, float | str]:
  """Reads a weight as it stands on a command line, as the value of its key in a config.

  Args:
    text: A number, or "SHAPE(START, STOP)" or "SHAPE(START, STOP, BEGIN, END)".

  Raises:
    ValueError: Anything else.

  Examples:
    >>> parse_weight("0.5"), parse_weight("linear(0, 1, 0.1, 0.3)")
    (0.5, {'start': 0.0, 'stop': 1.0, 'shape': 'linear', 'begin': 0.1, 'end': 0.3})
  """
  match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", text)
  message = (
    f"weight {text!r}; expected a number, or {' or '.join(SHAPES)} with (start, stop) or "
    "(start, stop, begin, end)"
  )
  try:
    if not match:
      return float(text)
    numbers = [float(number) for number in match[2].split(",")]
  except ValueError as error:
    raise ValueError(message) from error
  if match[1] not in SHAPES or len(numbers) not in (2, 4):
    raise ValueError(message)
  start, stop, begin, end = (*numbers, 0.0, 1.0)[:4]
  try:
    return dataclasses.asdict(Ramp(start, stop, match[1], begin, end))
  except ValueError as error:
    raise ValueError(f"weight {text!r}: {error}") from error
