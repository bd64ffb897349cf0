"""Convolution as a sum over taps, for kernels whose dilation is large beside the map.

Most taps then lie in the padding, and XLA multiplies zeros.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.ops.cpu.matmul import multiply_channels
from asmjax.ops.masked_mean import promote_to_float32
from asmjax.ops.windows import ConvOptions, conv_output_size


def applies(x: Array, kernel: Array, options: ConvOptions) -> bool:
  """Tells whether the taps of a dilated kernel lie at least a third of the map apart.

  A third was found by timing atrous convolutions against XLA's. Symbolic sizes, as of an export,
  count as large.
  """
  del kernel
  if options.groups > 1 or options.stride > 1 or options.dilation == 1:
    return False
  size = x.shape[1:3]
  return not any(map(is_symbolic_dim, size)) and 3 * options.dilation >= max(size)


@functools.partial(jax.checkpoint, static_argnums=(2,))
def conv2d(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k l c d"], options: ConvOptions
) -> Float[Array, "n h2 w2 d"]:
  """Adds up the products of each tap with the part of the map that it meets, without padding.

  Sums are float32 or wider. The backward pass cuts the parts out again instead of keeping them.
  """
  height, width = conv_output_size(x.shape[1:3], kernel.shape, options)
  (top, _), (left, _) = options.padding
  rows = list(_find_overlaps(x.shape[1], kernel.shape[0], top, height, options.dilation))
  columns = list(_find_overlaps(x.shape[2], kernel.shape[1], left, width, options.dilation))
  total, dtype = 0, promote_to_float32(x).dtype
  for i, in_rows, above_below in rows:
    for j, in_columns, left_right in columns:
      product = multiply_channels(x[:, in_rows, in_columns], kernel[i, j], dtype)
      total += jnp.pad(product, ((0, 0), above_below, left_right, (0, 0)))
  return jnp.asarray(total).astype(x.dtype)


def _find_overlaps(
  side: int, taps: int, padding: int, outputs: int, dilation: int
) -> Iterator[tuple[int, slice, tuple[int, int]]]:
  """Yields the taps along an axis that meet the map of `side` pixels anywhere.

  With each, the pixels of the map that it meets, and the numbers of outputs before and after those
  to which these pixels contribute.
  """
  for tap in range(taps):
    shift = tap * dilation - padding
    first, last = max(0, -shift), min(outputs, side - shift)
    if first < last:
      yield tap, slice(first + shift, last + shift), (first, outputs - last)
