"""1x1 convolution as a product of two matrices."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.ops.windows import ConvOptions, is_pointwise


def applies(x: Array, kernel: Array, options: ConvOptions) -> bool:
  """Tells whether a convolution is a matrix product."""
  del x
  return is_pointwise(kernel.shape, options)


def conv2d(
  x: Float[Array, "n h w c"], kernel: Float[Array, "1 1 c d"], options: ConvOptions
) -> Float[Array, "n h2 w2 d"]:
  """Multiplies the channels of every `options.stride`-th pixel by the kernel."""
  stride = options.stride
  return multiply_channels(x[:, ::stride, ::stride], kernel[0, 0])


def multiply_channels(
  x: Float[Array, "*n c"], matrix: Float[Array, "c d"], dtype: Any = None
) -> Float[Array, "*n d"]:
  """Multiplies the channels of all pixels by a matrix, as one product of two matrices.

  To differentiate the product of an array of more than two axes by the matrix, XLA first transposes
  the cotangent on CPUs, which takes several times as long as the product itself.

  Args:
    x: Maps.
    matrix: Matrix.
    dtype: Type in which products are summed; None means that of both.
  """
  y = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix, preferred_element_type=dtype)
  return y.reshape(*x.shape[:-1], matrix.shape[-1])
