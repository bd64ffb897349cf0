"""Depthwise convolution as shifted products, for CPUs.

There XLA runs a convolution of as many groups as channels one group at a time. Its sum over taps,
written out, is one fused loop.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import promote_to_float32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int = 1, dilation: int = 1
) -> Float[Array, "n h2 w2 c"]:
  """The convolution of each channel with a kernel of its own.

  Zeros are padded as by `asmjax.models.layers.Conv`, so that the output has 1/stride of the size,
  rounded up. At least single precision is computed in.

  Args:
    x: map.
    kernel: for each channel.
    stride: of both axes.
    dilation: of both axes.
  """
  return _convolve(x, kernel, stride, dilation)


def _convolve(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
  taps = _taps(promote_to_float32(x), kernel.shape[0], stride, dilation)
  weights = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
  return sum(tap * weight for tap, weight in zip(taps, weights, strict=True)).astype(x.dtype)


def _forward(x: Array, kernel: Array, stride: int, dilation: int):
  return convolve_depthwise(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, saved: tuple[Array, Array], cotangent: Array):
  x, kernel = saved
  (of_x,) = jax.linear_transpose(lambda x: _convolve(x, kernel, stride, dilation), x)(cotangent)
  return of_x, _of_kernel(x, cotangent, kernel, stride, dilation)


convolve_depthwise.defvjp(_forward, _backward)


def _of_kernel(x: Array, cotangent: Array, kernel: Array, stride: int, dilation: int) -> Array:
  """The kernel's cotangent, row by row: of a whole map XLA would store all products to add them."""
  k, w2 = kernel.shape[0], cotangent.shape[2]
  padded = _padded(promote_to_float32(x), k, dilation)

  def add_row(total: Array, i: Array) -> tuple[Array, None]:
    row = lax.dynamic_index_in_dim(cotangent, i, 1, keepdims=False)
    seen = [
      lax.dynamic_index_in_dim(padded, i * stride + a * dilation, 1, keepdims=False)
      for a in range(k)
    ]
    products = [
      jnp.sum(_every(each, 1, b * dilation, w2, stride) * row, (0, 1))
      for each in seen
      for b in range(k)
    ]
    return total + jnp.stack(products), None

  nothing = jnp.zeros((k * k, kernel.shape[-1]), padded.dtype)
  total, _ = lax.scan(add_row, nothing, jnp.arange(cotangent.shape[1]))
  return total.reshape(kernel.shape).astype(kernel.dtype)


def _taps(x: Array, k: int, stride: int, dilation: int) -> list[Array]:
  """What each tap of the kernel sees, (n, h2, w2, c)."""
  padded, sizes = _padded(x, k, dilation), [-(-side // stride) for side in x.shape[1:3]]
  rows = [_every(padded, 1, a * dilation, sizes[0], stride) for a in range(k)]
  return [_every(row, 2, b * dilation, sizes[1], stride) for row in rows for b in range(k)]


def _padded(x: Array, k: int, dilation: int) -> Array:
  pad = ((k - 1) // 2 * dilation, k // 2 * dilation)
  return jnp.pad(x, ((0, 0), pad, pad, (0, 0)))


def _every(x: Array, axis: int, start: int, count: int, stride: int) -> Array:
  return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
