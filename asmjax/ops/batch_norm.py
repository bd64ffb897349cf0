"""Batch normalization that touches each value as few times as possible."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import promote_to_float32


class BatchNorm(nn.Module):
  """Batch normalization (Ioffe and Szegedy 2015) as one product and one sum a value.

  The same as `flax.linen.BatchNorm`, with the same variables, except that centered values are
  never written, nor kept for the backward pass.

  Attributes:
    use_running_average: of the statistics, instead of the batch's.
    momentum: what is kept of the running statistics at every step.
    epsilon: added to the variance.
    dtype: of the result; None: that of the input and the parameters together.
    axis_name: the mapped axis whose devices share their statistics.
  """

  use_running_average: bool
  momentum: float = 0.99
  epsilon: float = 1e-5
  dtype: Any = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """The normalized values; updates the running statistics if they are not used."""
    shape = x.shape[-1:]
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    wide = promote_to_float32(x)
    if self.use_running_average:
      center, spread = mean.value, variance.value
    else:
      center, spread = self._moments(wide)
      if not self.is_initializing():
        for running, found in ((mean, center), (variance, spread)):
          running.value = self.momentum * running.value + (1 - self.momentum) * found
    slope = scale * lax.rsqrt(spread + self.epsilon)
    slope, offset = (
      jnp.expand_dims(each, range(x.ndim - 1)) for each in (slope, bias - center * slope)
    )
    y = wide * slope + offset
    return y.astype(nn.dtypes.canonicalize_dtype(x, scale, bias, dtype=self.dtype))

  def _moments(self, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)])
    if self.axis_name is not None and not self.is_initializing():
      moments = lax.pmean(moments, self.axis_name)
    center, square = moments
    return center, jnp.maximum(square - jnp.square(center), 0)
