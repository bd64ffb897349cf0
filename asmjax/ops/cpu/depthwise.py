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
from asmjax.ops.windows import ConvOptions, conv_output_size, cut_taps, pad_map


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
  padded = pad_map(promote_to_float32(x), options.padding)
  size = conv_output_size(x.shape[1:3], kernel.shape, options)
  taps = cut_taps(padded, kernel.shape, options, size)
  products = [inputs * weight for inputs, weight in zip(taps, weights, strict=True)]
  return functools.reduce(jnp.add, products).astype(x.dtype)


def _forward(x: Array, kernel: Array, options: ConvOptions):
  return conv2d(x, kernel, options), (x, kernel)


def _backward(options: ConvOptions, residuals: tuple[Array, Array], cotangent: Array):
  x, kernel = residuals
  if options.stride == 1:
    # JAX's own transpose pads the product of each tap, and its loop checks for each value whether
    # it lies in the padding; this one pads once.
    x_cotangent = conv2d(cotangent, kernel[::-1, ::-1], _transposed_options(options, kernel))
  else:
    (x_cotangent,) = jax.linear_transpose(lambda x: _convolve(x, kernel, options), x)(cotangent)
  return x_cotangent, _sum_kernel_cotangent(x, cotangent, kernel, options)


conv2d.defvjp(_forward, _backward)


def _transposed_options(options: ConvOptions, kernel: Array) -> ConvOptions:
  """Returns the options with which the rotated kernel is the transpose of one of stride 1."""
  reach = [(size - 1) * options.dilation for size in kernel.shape[:2]]
  (top, bottom), (left, right) = options.padding
  padding = (reach[0] - top, reach[0] - bottom), (reach[1] - left, reach[1] - right)
  return options._replace(padding=padding)


def _sum_kernel_cotangent(x: Array, cotangent: Array, kernel: Array, options: ConvOptions) -> Array:
  """Sums products row by row: of a whole map XLA would store all of them before it adds."""
  padded = pad_map(promote_to_float32(x), options.padding)
  span = (kernel.shape[0] - 1) * options.dilation + 1

  def add_row(total: Array, i: Array) -> tuple[Array, None]:
    inputs = lax.dynamic_slice_in_dim(padded, i * options.stride, span, 1)
    row = lax.dynamic_slice_in_dim(cotangent, i, 1, 1)
    taps = cut_taps(inputs, kernel.shape, options, (1, cotangent.shape[2]))
    return total + jnp.stack([jnp.sum(inputs * row, (0, 1, 2)) for inputs in taps]), None

  zeros = jnp.zeros((kernel.shape[0] * kernel.shape[1], kernel.shape[-1]), padded.dtype)
  total, _ = lax.scan(add_row, zeros, jnp.arange(cotangent.shape[1]))
  return total.reshape(kernel.shape).astype(kernel.dtype)
