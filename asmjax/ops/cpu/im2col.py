"""Convolution of maps that are small beside the kernel, for CPUs.

XLA is slow there. Where a map has fewer pixels than the kernel has taps it exchanges the two (a
7 x 7 kernel of 512 x 4096 channels on 5 x 5 pixels takes it 28 seconds on one core); where the
kernel is larger than all that it is applied to, it reorders the kernel for each gradient; and where
dilation takes most taps into the padding, it multiplies zeros.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.ops.cpu.matmul import convolve_pointwise
from asmjax.ops.masked_mean import promote_to_float32

# Zeros above and below, left and right.
Pads = tuple[tuple[int, int], tuple[int, int]]


def is_small(shape: Sequence[int], kernel: Sequence[int], outputs: Sequence[int]) -> bool:
  """Whether a map has fewer pixels than the kernel taps, or the kernel more weights than patches.

  Args:
    shape: (n, h, w, c) of the map.
    kernel: (k, l, c, d).
    outputs: (h2, w2).

  Returns:
    Whether `convolve_small` is faster; not, of sizes that nobody knows yet.
  """
  n, h, w, _ = shape
  pixels, patches = h * w, n * outputs[0] * outputs[1]
  exceeds = lambda size, other: not is_symbolic_dim(other) and size > other
  return exceeds(kernel[0] * kernel[1], pixels) or exceeds(kernel[3], patches)


def is_far(shape: Sequence[int], dilation: int) -> bool:
  """Whether the taps of a dilated kernel lie at least a third of the map apart.

  Args:
    shape: (n, h, w, c) of the map.
    dilation: of both axes.

  Returns:
    Whether `convolve_far` is faster; not, of sizes that nobody knows yet.
  """
  return (
    dilation > 1
    and not any(is_symbolic_dim(side) for side in shape[1:3])
    and (3 * dilation >= max(shape[1:3]))
  )


def convolve_small(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k l c d"],
  pads: Pads,
  stride: int = 1,
  dilation: int = 1,
) -> Float[Array, "n h2 w2 d"]:
  """The convolution as one matrix product of all patches.

  Args:
    x: map.
    kernel: of any size.
    pads: zeros that are added around the map.
    stride: of both axes.
    dilation: of both axes.
  """
  h2, w2 = sizes(x.shape, kernel.shape, pads, 1, dilation)
  padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  taps = [
    padded[:, i : i + h2 : stride, j : j + w2 : stride]
    for i in range(0, kernel.shape[0] * dilation, dilation)
    for j in range(0, kernel.shape[1] * dilation, dilation)
  ]
  return convolve_pointwise(jnp.concatenate(taps, -1), kernel.reshape(-1, kernel.shape[-1]))


@functools.partial(jax.checkpoint, static_argnums=(2, 3))
def convolve_far(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k l c d"], pads: Pads, dilation: int
) -> Float[Array, "n h2 w2 d"]:
  """The convolution as a sum over taps, each times the part of the map that it sees.

  Padding is not multiplied. The sum is of single precision at least, and the gradients cut the
  parts out again instead of keeping them.

  Args:
    x: map.
    kernel: of any size.
    pads: zeros that are added around the map.
    dilation: of both axes.
  """
  size = sizes(x.shape, kernel.shape, pads, 1, dilation)
  total, dtype = 0, promote_to_float32(x).dtype
  rows, columns = (
    list(_seen(x.shape[1 + axis], kernel.shape[axis], pads[axis][0], size[axis], dilation))
    for axis in (0, 1)
  )
  for i, in_rows, above_below in rows:
    for j, in_columns, left_right in columns:
      part = convolve_pointwise(x[:, in_rows, in_columns], kernel[i, j], dtype)
      total += jnp.pad(part, ((0, 0), above_below, left_right, (0, 0)))
  return total.astype(x.dtype)


def sizes(
  shape: Sequence[int], kernel: Sequence[int], pads: Pads, stride: int, dilation: int
) -> tuple[int, int]:
  """Height and width of a convolution's result."""
  return tuple(
    (side + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
    for side, taps, pad in zip(shape[1:3], kernel[:2], pads, strict=True)
  )


def _seen(
  side: int, taps: int, before: int, outputs: int, dilation: int
) -> Iterator[tuple[int, slice, tuple[int, int]]]:
  """Taps along an axis that see any of the map: which part, and the outputs before and after it."""
  for tap in range(taps):
    shift = tap * dilation - before
    first, last = max(0, -shift), min(outputs, side - shift)
    if first < last:
      yield tap, slice(first + shift, last + shift), (first, outputs - last)
