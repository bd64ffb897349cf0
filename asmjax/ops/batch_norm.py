"""Batch normalization that touches each value as few times as possible."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.layer import Layer
from asmjax.ops.masked_mean import promote_to_float32


class BatchNorm(Layer):
  """Batch normalization (Ioffe and Szegedy 2015) as one product and one sum per value.

  The same as `flax.linen.BatchNorm`, with the same variables, except that centered values are
  never written, nor kept for the backward pass.

  Attributes:
    use_running_average: Whether running statistics normalize, or those of the batch.
    momentum: Share of the running statistics that each step keeps; the default is Flax's.
    epsilon: Number added to the variance; the default is Flax's and PyTorch's.
    dtype: Type of the result; None means that of the input and the parameters together.
    axis_name: Name of the mapped axis whose devices share their statistics; None for one each.
  """

  use_running_average: bool
  momentum: float = 0.99
  epsilon: float = 1e-5
  dtype: Any = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Normalizes each channel; updates the running statistics if they are not used.

    Statistics are computed in float32 or better.
    """
    shape = x.shape[-1:]
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    values = promote_to_float32(x)
    if self.use_running_average:
      mean, var = running_mean.value, running_var.value
    else:
      mean, var = self._compute_statistics(values)
      if not self.is_initializing():
        keep = self.momentum
        running_mean.value = keep * running_mean.value + (1 - keep) * mean
        running_var.value = keep * running_var.value + (1 - keep) * var
    slope = scale * lax.rsqrt(var + self.epsilon)
    offset = bias - mean * slope
    # Ranks are made equal by hand, so that rank promotion may be an error.
    leading = range(x.ndim - 1)
    y = values * jnp.expand_dims(slope, leading) + jnp.expand_dims(offset, leading)
    return y.astype(canonicalize_dtype(x, scale, bias, dtype=self.dtype))

  def _compute_statistics(self, x: Array) -> tuple[Array, Array]:
    """Computes the mean and the biased variance of each channel, over all devices of the axis."""
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)])
    if self.axis_name is not None and not self.is_initializing():
      moments = lax.pmean(moments, self.axis_name)
    mean, mean_square = moments
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0)
