"""Weights of terms: a number, or a schedule over the training."""

import dataclasses

from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Exponential:
  """From `start` to `end` along start * (end / start)^(t / T).

  A decay 10^(-t/T) is `Exponential(1.0, 0.1)`.

  Raises:
    ValueError: an end that is not positive.
  """

  start: float
  end: float

  def __post_init__(self):
    if self.start <= 0 or self.end <= 0:
      raise ValueError(f"an exponential weight needs positive ends, not {self}")

  def __call__(self, progress: Array | float) -> Float[Array, ""] | float:
    """The weight when the part `progress` = t / T of the training is done."""
    return self.start * (self.end / self.start) ** progress


Weight = float | Exponential


def at(weight: Weight, progress: Array | float) -> Float[Array, ""] | float:
  """The weight's value when the part `progress` = t / T of the training is done."""
  return weight(progress) if callable(weight) else weight
