"""Masked means that are divided last, so that they add up over devices, steps and shards."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Num


class MaskedMean(NamedTuple):
  """A sum and the number of things summed; `count` 0 means "nothing there", and a mean of 0."""

  sum: Num[Array, "..."]
  count: Num[Array, "..."]

  @classmethod
  def over(cls, values: ArrayLike, valid: ArrayLike) -> "MaskedMean":
    """MaskedMean of `values` where `valid`, of the same shape, is 1.

    A value that is not finite where `valid` is 0 does not spoil the sum. At least single precision
    is summed and counted in: bfloat16 has no number between 71168 and 71680.
    """
    values = promote_to_float32(values)
    valid = jnp.asarray(valid, values.dtype)
    return cls(jnp.sum(jnp.where(valid > 0, values * valid, 0)), jnp.sum(valid))

  def __add__(self, other: "MaskedMean") -> "MaskedMean":
    """The moments of both together."""
    return MaskedMean(self.sum + other.sum, self.count + other.count)

  def mean(self) -> Array:
    """Sum by count; 0 where the count is 0."""
    return self.sum / jnp.where(self.count > 0, self.count, 1)


def promote_to_float32(x: ArrayLike) -> Num[Array, "..."]:
  """`x` in single precision or better: sums and counts are not kept in bfloat16."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
