"""Resizing on device, with half-pixel centres."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from asmjax.moments import at_least_single


def bilinear(x: Float[ArrayLike, "n h w c"], size: tuple[int, int]) -> Float[Array, "n h2 w2 c"]:
  """Bilinear resize to `size` (h2, w2), without antialiasing; exact doubling takes a cheap path."""
  x = jnp.asarray(x)
  if x.shape[1:3] == tuple(size):
    return x
  if (2 * x.shape[1], 2 * x.shape[2]) == tuple(size):
    return double(double(x, 1), 2)
  return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)


def nearest(
  x: Shaped[ArrayLike, "n h w ..."], size: tuple[int, int]
) -> Shaped[Array, "n h2 w2 ..."]:
  """The nearest pixel, for labels and other values that must not be mixed."""
  x = jnp.asarray(x)
  if x.shape[1:3] == tuple(size):
    return x
  return jax.image.resize(x, (x.shape[0], *size, *x.shape[3:]), "nearest")


def mean_of_bins(x: Float[ArrayLike, "n h w c"], bins: int) -> Float[Array, "n b b c"]:
  """Means over the cells of a grid of `bins` x `bins` that covers the map, of any size.

  Cell i of an axis of length h goes from floor(i h / bins) to ceil((i + 1) h / bins), so that cells
  may share a row or column.
  """
  x = jnp.asarray(x)
  for axis in (1, 2):
    last = x.shape[axis]
    cells = [(i * last // bins, -(-(i + 1) * last // bins)) for i in range(bins)]
    means = [
      jnp.mean(lax.slice_in_dim(x, start, stop, axis=axis), axis, keepdims=True)
      for start, stop in cells
    ]
    x = jnp.concatenate(means, axis)
  return x


def mean_of_cells(x: Float[ArrayLike, "n h w c"], side: int) -> Float[Array, "n h2 w2 c"]:
  """Means of `side` x `side` pixels, of fewer in the cells at the border that reach beyond it.

  The grid is centred, and has 1/side of the size, rounded up. At least single precision is added
  up in.
  """
  x = jnp.asarray(x)
  pads = ((0, 0), *lax.padtype_to_pads(x.shape[1:3], (side,) * 2, (side,) * 2, "SAME"), (0, 0))

  def total(x: Array) -> Array:
    n, h, w, c = (padded := jnp.pad(x, pads)).shape
    return padded.reshape(n, h // side, side, w // side, side, c).sum((2, 4))

  whole = at_least_single(x)
  count = total(jnp.ones((1, *x.shape[1:3], 1), whole.dtype))
  return (total(whole) / count).astype(x.dtype)


def double(x: Array, axis: int) -> Array:
  """Bilinear doubling along an axis: each new pixel is 3/4 the nearer and 1/4 the farther one."""
  last = x.shape[axis]
  part = lambda start, stop: lax.slice_in_dim(x, start, stop, axis=axis)
  before = jnp.concatenate([part(0, 1), part(0, last - 1)], axis)
  after = jnp.concatenate([part(1, last), part(last - 1, last)], axis)
  pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
  return pairs.reshape(*x.shape[:axis], 2 * last, *x.shape[axis + 1 :])
