"""Convolution by 1x1 kernels."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def convolve_pointwise(
  x: Float[Array, "*n c"], kernel: Float[Array, "c d"], dtype: Any = None
) -> Float[Array, "*n d"]:
  """The product with a matrix, of all pixels at once.

  To differentiate that of an array of more than two axes by the kernel, XLA first lays the
  cotangent out anew for a CPU, which takes several times as long as the product.

  Args:
    x: map.
    kernel: matrix.
    dtype: that products are added up in; None: that of both.
  """
  y = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel, preferred_element_type=dtype)
  return y.reshape(*x.shape[:-1], kernel.shape[-1])
