"""Layers that all networks share: convolution and normalisation."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.models.doubling import convolve_doubled
from asmjax.resize import bilinear

# The mapped axis over which a step is spread; synchronised batch norm averages over it.
DEVICES = "devices"

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Conv(nn.Module):
  """k x k convolution with (k - 1) // 2 pixels of zero padding above and left, k // 2 elsewhere.

  So the output has 1/stride of the size, rounded up.

  A 1x1 kernel is applied as a matrix product, which the CPU differentiates about twice as fast.

  Attributes:
    features: output channels.
    kernel: k.
    stride: of both axes.
    dilation: of both axes; the padding grows with it.
    bias: add a bias.
    dtype: compute type; parameters are float32.
    groups: equal parts of the channels, each convolved on its own; as many as there are channels
      make a depthwise convolution.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  dilation: int = 1
  bias: bool = True
  dtype: Any = None
  groups: int = 1

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], low: Float[Array, "n _ _ d"] | None = None
  ) -> Float[Array, "n h2 w2 features"]:
    """Convolves `x`, or the concatenation of `low`, bilinearly resized to the size of x, and `x`.

    The latter is what decoders do with a skip `x`. Where the result is the same and cheaper,
    neither the resized map nor the concatenation is computed.
    """
    channels = x.shape[-1] + (0 if low is None else low.shape[-1])
    shape = (self.kernel, self.kernel, channels // self.groups, self.features)
    kernel = self.param("kernel", he_normal, shape)
    bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
    x, low, kernel, bias = nn.dtypes.promote_dtype(x, low, kernel, bias, dtype=self.dtype)
    y = self._convolve(x, kernel) if low is None else self._join(low, x, kernel)
    return y if bias is None else y + jnp.expand_dims(bias, (0, 1, 2))

  def _join(self, low: Array, x: Array, kernel: Array) -> Array:
    size = x.shape[1:3]
    if self.groups > 1:
      return self._convolve(jnp.concatenate([bilinear(low, size), x], -1), kernel)
    of_low, of_x = jnp.split(kernel, [low.shape[-1]], axis=2)
    if (self.kernel, self.stride) == (1, 1):
      return bilinear(self._convolve(low, of_low), size) + self._convolve(x, of_x)
    doubles = (2 * low.shape[1], 2 * low.shape[2]) == size
    plain = (self.kernel, self.stride, self.dilation) == (3, 1, 1)
    if doubles and plain and jax.default_backend() == "cpu":
      return convolve_doubled(low, of_low) + self._convolve(x, of_x)
    return self._convolve(jnp.concatenate([bilinear(low, size), x], -1), kernel)

  def _convolve(self, x: Array, kernel: Array) -> Array:
    if (self.kernel, self.groups) == (1, 1):
      return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
    before, after = (self.kernel - 1) // 2 * self.dilation, self.kernel // 2 * self.dilation
    return lax.conv_general_dilated(
      x, kernel, (self.stride,) * 2, ((before, after),) * 2,
      rhs_dilation=(self.dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=self.groups,
    )


NORMS = {
  "none": lambda **_: lambda x: x,
  "batch": functools.partial(nn.BatchNorm, momentum=0.99),
  "sync_batch": functools.partial(nn.BatchNorm, momentum=0.99, axis_name=DEVICES),
  "group": lambda use_running_average, **kwargs: nn.GroupNorm(**kwargs),
}


def norm(kind: str, *, train: bool, name: str, dtype: Any = None) -> Any:
  """A normalisation layer.

  Args:
    kind: "none", "batch" (statistics of each device's own share), "sync_batch" (statistics of
      the global batch) or "group" (32 groups).
    train: use the batch's statistics and update the running ones.
    name: of the module.
    dtype: compute type.

  Raises:
    ValueError: an unknown kind.
  """
  if kind not in NORMS:
    raise ValueError(f"unknown norm {kind!r}; known: {sorted(NORMS)}")
  return NORMS[kind](use_running_average=not train, name=name, dtype=dtype)
