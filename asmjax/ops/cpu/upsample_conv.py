"""3x3 convolution of a map that is bilinearly doubled first, at a quarter of the products.

Doubling and convolving are linear, so they may change places: multiply the small map with all
nine taps, then double, shift and add the nine products.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.cpu.matmul import convolve_pointwise
from asmjax.ops.resize import double


def convolve_doubled(
  x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "n 2*h 2*w f"]:
  """The convolution of `bilinear(x, (2 h, 2 w))` with one pixel of zero padding."""
  taps = kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
  return _join(_join(convolve_pointwise(x, taps), 1), 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _join(products: Array, axis: int) -> Array:
  """Three groups of channels, doubled along `axis`, shifted by 1, 0 and -1 pixel and added."""
  first, middle, last = (double(part, axis) for part in jnp.split(products, 3, -1))
  return _shift(first, axis, 1) + middle + _shift(last, axis, -1)


def _join_forward(products: Array, axis: int) -> tuple[Array, None]:
  return _join(products, axis), None


def _join_backward(axis: int, _: None, cotangent: Array) -> tuple[Array]:
  """The transpose, written as a gather: the scatter that autodiff makes takes twice as long."""
  even, odd = (lax.slice_in_dim(cotangent, start, None, 2, axis) for start in (0, 1))
  shifted = ((odd, _shift(even, axis, -1)), (even, odd), (_shift(odd, axis, 1), even))
  return (jnp.concatenate([_halve(*pair, axis) for pair in shifted], -1),)


_join.defvjp(_join_forward, _join_backward)


def _halve(even: Array, odd: Array, axis: int) -> Array:
  """The transpose of `double`, from the even and the odd pixels."""
  last = even.shape[axis]
  part = lambda x, start, stop: lax.slice_in_dim(x, start, stop, axis=axis)
  before = jnp.concatenate([part(even, 0, 1), part(odd, 0, last - 1)], axis)
  after = jnp.concatenate([part(even, 1, last), part(odd, last - 1, last)], axis)
  return 0.75 * (even + odd) + 0.25 * (before + after)


def _shift(x: Array, axis: int, by: int) -> Array:
  """Moves `x` by `by` pixels along `axis`; zeros come in."""
  pads = [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
  return lax.pad(x, jnp.zeros((), x.dtype), pads)
