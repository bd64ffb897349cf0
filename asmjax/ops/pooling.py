"""Maxima and means over windows and cells of maps."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.ops.dispatch import find_cpu_kernel
from asmjax.ops.masked_mean import promote_to_float32
from asmjax.ops.windows import Padding


def max_pool(
  x: Float[Array, "n h w c"], window: int, stride: int, padding: str | Padding = "SAME"
) -> Float[Array, "n h2 w2 c"]:
  """Computes the maximum of each window.

  Args:
    x: Maps.
    window: Side of the window, in pixels.
    stride: Pixels from one window to the next, along both axes.
    padding: Pixels (above, below) and (left, right) that are never a maximum; or "SAME" or
      "VALID", as in `jax.lax.padtype_to_pads`.
  """
  if cpu_kernel := find_cpu_kernel("max_pool", x, window, stride, padding):
    return cpu_kernel(x, window, stride, padding)
  # Flax takes both kinds of padding, but infers the type from its default.
  return nn.max_pool(x, (window,) * 2, (stride,) * 2, cast(Any, padding))


def adaptive_avg_pool(x: Float[ArrayLike, "n h w c"], bins: int) -> Float[Array, "n b b c"]:
  """Averages over the cells of a grid of `bins` x `bins` that covers maps of any size.

  As `torch.nn.functional.adaptive_avg_pool2d`: cell i of an axis of length h goes from
  floor(i h / bins) to ceil((i + 1) h / bins), so that cells may share a row or a column.
  """
  x = jnp.asarray(x)
  for axis in (1, 2):
    side = x.shape[axis]
    if is_symbolic_dim(side):
      x = _average_unknown(x, axis, bins)
      continue
    cells = [(i * side // bins, -(-(i + 1) * side // bins)) for i in range(bins)]
    means = [
      jnp.mean(lax.slice_in_dim(x, start, stop, axis=axis), axis, keepdims=True)
      for start, stop in cells
    ]
    x = jnp.concatenate(means, axis)
  return x


def _average_unknown(x: Array, axis: int, bins: int) -> Array:
  """Averages over the cells of an axis whose length an export does not know.

  As a product, since ends of slices that are quotients of a symbol take minutes to compare.
  """
  side, cells = x.shape[axis], jnp.arange(bins)[:, None]
  first, last = cells * side // bins, -(-(cells + 1) * side // bins)
  places = jnp.arange(side)[None]
  is_inside = ((first <= places) & (places < last)).astype(promote_to_float32(x).dtype)
  weights = is_inside / is_inside.sum(1, keepdims=True)
  pooled = jnp.tensordot(weights, promote_to_float32(x), (1, axis), precision="highest")
  return jnp.moveaxis(pooled, 0, axis).astype(x.dtype)


def avg_pool(x: Float[ArrayLike, "n h w c"], side: int) -> Float[Array, "n h2 w2 c"]:
  """Averages over cells of `side` x `side` pixels, of fewer where a cell exceeds the map.

  The grid of cells is centered and has 1/side of the size, rounded up. Sums are float32 or wider.
  """
  x = jnp.asarray(x)
  padding = lax.padtype_to_pads(x.shape[1:3], (side,) * 2, (side,) * 2, "SAME")

  def sum_cells(x: Array) -> Array:
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    n, h, w, c = padded.shape
    return padded.reshape(n, h // side, side, w // side, side, c).sum((2, 4))

  values = promote_to_float32(x)
  count = sum_cells(jnp.ones((1, *x.shape[1:3], 1), values.dtype))
  return (sum_cells(values) / count).astype(x.dtype)
