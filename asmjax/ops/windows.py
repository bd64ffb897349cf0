"""How kernels and windows slide over maps: sizes, paddings and options of convolutions."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Pixels of padding (above, below) and (left, right).
Padding = tuple[tuple[int, int], tuple[int, int]]


class ConvOptions(NamedTuple):
  """How the kernel of a convolution slides over a map.

  Attributes:
    padding: Rows of zeros (above, below) and columns of zeros (left, right).
    stride: Pixels from one output to the next, along both axes.
    dilation: Pixels from one tap of the kernel to the next, along both axes.
    groups: Number of equal parts of the channels, each convolved separately.
  """

  padding: Padding
  stride: int = 1
  dilation: int = 1
  groups: int = 1


def spatial_size(x: Array) -> tuple[int, int]:
  """Returns (h, w) of maps (n, h, w, ...)."""
  return x.shape[1], x.shape[2]


def same_padding(kernel: Sequence[int], dilation: int) -> Padding:
  """Returns the padding with which a kernel (k, l, ...) of stride 1 keeps the size of its input.

  The odd pixel of an even kernel goes below and to the right. Unlike TensorFlow's "SAME" it does
  not depend on the stride, so that released PyTorch weights mean the same.
  """
  top, left = ((taps - 1) // 2 * dilation for taps in kernel[:2])
  bottom, right = (taps // 2 * dilation for taps in kernel[:2])
  return (top, bottom), (left, right)


def conv_output_size(
  size: Sequence[int], kernel: Sequence[int], options: ConvOptions
) -> tuple[int, int]:
  """Computes (h, w) of the convolution of a map of `size` (h, w) with a kernel (k, l, ...)."""
  height, width = (
    (side + sum(padding) - (taps - 1) * options.dilation - 1) // options.stride + 1
    for side, taps, padding in zip(size, kernel[:2], options.padding, strict=True)
  )
  return height, width


def is_pointwise(kernel: Sequence[int], options: ConvOptions) -> bool:
  """Tells whether a kernel (k, l, c, d) multiplies the channels of each pixel by one matrix."""
  unpadded = not any(map(any, options.padding))
  return tuple(kernel[:2]) == (1, 1) and options.groups == 1 and unpadded


def pad_map(x: Float[Array, "n h w c"], padding: Padding) -> Float[Array, "n h2 w2 c"]:
  """Adds zeros (above, below) and (left, right); negative numbers take rows or columns away."""
  sides = ((0, 0), *padding, (0, 0))
  return lax.pad(x, jnp.zeros((), x.dtype), [(*side, 0) for side in sides])


def cut_taps(
  padded: Float[Array, "n h w c"],
  kernel: Sequence[int],
  options: ConvOptions,
  size: tuple[int, int],
) -> list[Float[Array, "n h2 w2 c"]]:
  """Slices the input of each of the k x l taps of a kernel, the taps of its first row first.

  Args:
    padded: Maps with their padding.
    kernel: Shape of the kernel.
    options: Options of the convolution, whose padding is not used.
    size: Size (h2, w2) of the result of the convolution.
  """

  def cut(x: Array, axis: int, tap: int) -> Array:
    start, count = tap * options.dilation, size[axis - 1]
    return lax.slice_in_dim(
      x, start, start + (count - 1) * options.stride + 1, options.stride, axis
    )

  rows = [cut(padded, 1, tap) for tap in range(kernel[0])]
  return [cut(row, 2, tap) for row in rows for tap in range(kernel[1])]
