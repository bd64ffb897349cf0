"""Convolution of maps that have fewer pixels than the kernel has taps, for CPUs.

There XLA exchanges map and kernel: a 7 x 7 kernel of 512 x 4096 channels on 5 x 5 pixels (the first
fully connected layer of VGG, for images below 225 pixels) takes it 28 seconds on one core.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def convolve_small(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], stride: int = 1, dilation: int = 1
) -> Float[Array, "n h2 w2 d"]:
  """The convolution as one matrix product.

  Zeros are padded as by `asmjax.models.layers.Conv`, so that the output has 1/stride of the size,
  rounded up.

  Args:
    x: map.
    kernel: of any size.
    stride: of both axes.
    dilation: of both axes.
  """
  k, (h, w) = kernel.shape[0], x.shape[1:3]
  before, after = (k - 1) // 2 * dilation, k // 2 * dilation
  padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
  taps = [
    padded[:, i : i + h : stride, j : j + w : stride]
    for i in range(0, k * dilation, dilation) for j in range(0, k * dilation, dilation)
  ]
  return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])
