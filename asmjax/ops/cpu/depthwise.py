"""Depthwise convolution as a sum of shifted products.

XLA runs a convolution of as many groups as channels one group at a time on CPUs. Its sum over taps,
written out, is one fused loop.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import promote_to_float32
from asmjax.ops.windows import ConvOptions, conv_output_size


def applies(x: Array, kernel: Array, options: ConvOptions) -> bool:
  """Tells whether each channel has a kernel of its own."""
  del x
  return kernel.shape[2:] == (1, options.groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k l 1 c"], options: ConvOptions
) -> Float[Array, "n h2 w2 c"]:
  """Convolves each channel with its own kernel; sums are float32 or wider."""
  return _convolve(x, kernel, options)


def _convolve(x: Array, kernel: Array, options: ConvOptions) -> Array:
  weights = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
  inputs = _shift_inputs(promote_to_float32(x), kernel, options)
  products = [inputs * weight for inputs, weight in zip(inputs, weights, strict=True)]
  return functools.reduce(jnp.add, products).astype(x.dtype)


def _forward(x: Array, kernel: Array, options: ConvOptions):
  return conv2d(x, kernel, options), (x, kernel)


def _backward(options: ConvOptions, residuals: tuple[Array, Array], cotangent: Array):
  x, kernel = residuals
  (x_cotangent,) = jax.linear_transpose(lambda x: _convolve(x, kernel, options), x)(cotangent)
  return x_cotangent, _sum_kernel_cotangent(x, cotangent, kernel, options)


conv2d.defvjp(_forward, _backward)


def _sum_kernel_cotangent(x: Array, cotangent: Array, kernel: Array, options: ConvOptions) -> Array:
  """Sums products row by row: of a whole map XLA would store all of them before it adds."""
  rows, columns, _, channels = kernel.shape
  stride, dilation, width = options.stride, options.dilation, cotangent.shape[2]
  padded = _pad(promote_to_float32(x), options)

  def add_row(total: Array, i: Array) -> tuple[Array, None]:
    row = lax.dynamic_index_in_dim(cotangent, i, 1, keepdims=False)
    input_rows = [
      lax.dynamic_index_in_dim(padded, i * stride + a * dilation, 1, keepdims=False)
      for a in range(rows)
    ]
    products = [
      jnp.sum(_take_every(inputs, 1, b * dilation, width, stride) * row, (0, 1))
      for inputs in input_rows
      for b in range(columns)
    ]
    return total + jnp.stack(products), None

  zeros = jnp.zeros((rows * columns, channels), padded.dtype)
  total, _ = lax.scan(add_row, zeros, jnp.arange(cotangent.shape[1]))
  return total.reshape(kernel.shape).astype(kernel.dtype)


def _shift_inputs(x: Array, kernel: Array, options: ConvOptions) -> list[Array]:
  """Cuts out what each tap of the kernel is multiplied by, (n, h2, w2, c)."""
  height, width = conv_output_size(x.shape[1:3], kernel.shape, options)
  padded, (stride, dilation) = _pad(x, options), (options.stride, options.dilation)
  rows = [_take_every(padded, 1, a * dilation, height, stride) for a in range(kernel.shape[0])]
  return [
    _take_every(row, 2, b * dilation, width, stride) for row in rows for b in range(kernel.shape[1])
  ]


def _pad(x: Array, options: ConvOptions) -> Array:
  return jnp.pad(x, ((0, 0), *options.padding, (0, 0)))


def _take_every(x: Array, axis: int, start: int, count: int, stride: int) -> Array:
  return lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
