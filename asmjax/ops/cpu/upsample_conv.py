"""3x3 convolution of a bilinearly doubled map, at a quarter of the multiplications.

Doubling and convolving are linear, so they may change places: multiply the small map by all nine
taps, then double, shift and add the nine products.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.cpu.matmul import multiply_channels
from asmjax.ops.resize import double_axis
from asmjax.ops.windows import ConvOptions, same_padding


def applies(x: Array, kernel: Array, size: tuple[int, int], options: ConvOptions) -> bool:
  """Tells whether the map is doubled and the kernel 3x3, with neither stride nor dilation."""
  doubled = (2 * x.shape[1], 2 * x.shape[2]) == size
  return (
    doubled and kernel.shape[:2] == (3, 3) and options == ConvOptions(same_padding(kernel.shape, 1))
  )


def upsample_conv2d(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "3 3 c f"],
  size: tuple[int, int],
  options: ConvOptions,
) -> Float[Array, "n 2*h 2*w f"]:
  """Convolves the map, bilinearly resized to `size`, with one pixel of zero padding."""
  del size, options
  taps = kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
  return _double_and_add(_double_and_add(multiply_channels(x, taps), 1), 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _double_and_add(products: Array, axis: int) -> Array:
  """Doubles three groups of channels along `axis`, shifts them by 1, 0 and -1 pixel, adds them."""
  first, middle, last = (double_axis(part, axis) for part in jnp.split(products, 3, -1))
  return _shift(first, axis, 1) + middle + _shift(last, axis, -1)


def _forward(products: Array, axis: int) -> tuple[Array, None]:
  return _double_and_add(products, axis), None


def _backward(axis: int, _: None, cotangent: Array) -> tuple[Array]:
  """Transposes by gathering: the scatter of automatic differentiation takes twice as long."""
  even, odd = (lax.slice_in_dim(cotangent, start, None, 2, axis) for start in (0, 1))
  shifted = ((odd, _shift(even, axis, -1)), (even, odd), (_shift(odd, axis, 1), even))
  return (jnp.concatenate([_halve(*pair, axis) for pair in shifted], -1),)


_double_and_add.defvjp(_forward, _backward)


def _halve(even: Array, odd: Array, axis: int) -> Array:
  """Applies the transpose of `double_axis` to the even and the odd pixels of a cotangent."""
  side = even.shape[axis]
  part = lambda x, start, stop: lax.slice_in_dim(x, start, stop, axis=axis)
  before = jnp.concatenate([part(even, 0, 1), part(odd, 0, side - 1)], axis)
  after = jnp.concatenate([part(even, 1, side), part(odd, side - 1, side)], axis)
  return 0.75 * (even + odd) + 0.25 * (before + after)


def _shift(x: Array, axis: int, by: int) -> Array:
  """Moves `x` by `by` pixels along `axis`; zeros come in."""
  pads = [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
  return lax.pad(x, jnp.zeros((), x.dtype), pads)
