"""Masked means that are divided last, so that they add up over devices, steps and shards."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Num


class MaskedMean(NamedTuple):
  """Sum of values and their number, whose quotient is the mean; the mean of nothing is 0.

  Attributes:
    total: Sum of the values, in float32 or wider.
    count: Number of values, or the sum of their weights.
  """

  total: Num[Array, "..."]
  count: Num[Array, "..."]

  @classmethod
  def from_values(cls, values: ArrayLike, mask: ArrayLike | None = None) -> "MaskedMean":
    """Sums `values`, each times its mask.

    Sums and counts are float32 or wider: bfloat16 has no number between 71168 and 71680.

    Args:
      values: Values to average; where `mask` is 0 they need not be finite.
      mask: Weight of each value, of the same shape, mostly 0 or 1; 1 by default.
    """
    values = promote_to_float32(values)
    mask = jnp.ones_like(values) if mask is None else jnp.asarray(mask, values.dtype)
    return cls(jnp.sum(jnp.where(mask > 0, values * mask, 0)), jnp.sum(mask))

  def __add__(self, other: "MaskedMean") -> "MaskedMean":
    """Joins the values of both."""
    return MaskedMean(self.total + other.total, self.count + other.count)

  def mean(self) -> Array:
    """Divides the total by the count; the result is 0 where the count is 0."""
    return self.total / jnp.where(self.count > 0, self.count, 1)


def promote_to_float32(x: ArrayLike) -> Num[Array, "..."]:
  """Casts to float32, or leaves what is wider: sums and counts are not kept in bfloat16."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
