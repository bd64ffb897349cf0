"""Resizing on device, and where the pixels of a network's maps lie in the image.

There are two conventions, and the `align_corners` of a predictor is that of its maps.

- False: half-pixel centers. Pixel i of a map at stride S stands for the cell of the S pixels from
  S i on, whose center is S i + (S - 1) / 2, as after pools of 2x2. Sizes of S k fit.
- True: pixel i of the map stands for pixel S i, as after 3x3 convolutions of stride 2 with a pixel
  of padding on either side. Sizes of S k + 1 fit: the map's corners lie on those of the image.

A map that is read by the wrong convention is shifted by (S - 1) / 2 pixels.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped, UInt8

from asmjax.ops.windows import spatial_size

# Strides that a map with aligned corners may have; every halving of the size is rounded up.
_STRIDES = tuple(2**i for i in range(16))


def resize_bilinear(
  x: Float[ArrayLike, "n h w c"], size: tuple[int, int], *, align_corners: bool = False
) -> Float[Array, "n h2 w2 c"]:
  """Resizes bilinearly, without antialiasing, as `torch.nn.functional.interpolate` does.

  Exact doubling, and with aligned corners any whole factor, takes a cheap path.

  Args:
    x: Maps.
    size: Size (h2, w2) of the result.
    align_corners: Whether the centers of the corner pixels stay where they are, or their outer
      edges.
  """
  x = jnp.asarray(x)
  if spatial_size(x) == size:
    return x
  if align_corners:
    return _stretch(_stretch(x, 1, size[0]), 2, size[1])
  if (2 * x.shape[1], 2 * x.shape[2]) == size:
    return double_axis(double_axis(x, 1), 2)
  return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)


def resize_nearest(
  x: Shaped[ArrayLike, "n h w ..."], size: tuple[int, int]
) -> Shaped[Array, "n h2 w2 ..."]:
  """Resizes by taking the nearest pixel, for labels and other values that must not be mixed."""
  x = jnp.asarray(x)
  if x.shape[1:3] == tuple(size):
    return x
  return jax.image.resize(x, (x.shape[0], *size, *x.shape[3:]), "nearest")


def upsample(
  x: Float[ArrayLike, "n h w c"], size: tuple[int, int], *, align_corners: bool
) -> Float[Array, "n h2 w2 c"]:
  """Enlarges a network's map to the size of the image, or of a map at a smaller stride, bilinearly.

  With aligned corners pixel i of the map lies on pixel S i at any size. Of sizes that are not
  S k + 1 the last pixels, fewer than S, lie beyond the map and repeat its border.

  Args:
    x: Maps at stride S of `size`, rounded up.
    size: Size (h2, w2) of the result.
    align_corners: Convention of the network; see `asmjax.ops.resize`.

  Raises:
    ValueError: Corners are aligned, and the map's stride is no power of two.
  """
  if not align_corners:
    return resize_bilinear(x, size)
  x = jnp.asarray(x)
  for axis, side in zip((1, 2), size, strict=True):
    factor = find_stride(side, x.shape[axis])
    x = lax.slice_in_dim(_interpolate(x, axis, factor), 0, side, axis=axis)
  return x


def downsample(
  x: Shaped[ArrayLike, "n h w ..."], size: tuple[int, int], *, align_corners: bool
) -> Shaped[Array, "n h2 w2 ..."]:
  """Reads labels, or other values that must not be mixed, where the pixels of a network's map lie.

  With aligned corners pixel i of the map reads pixel S i at any size.

  Args:
    x: Values at the image's size.
    size: Size (h2, w2) of the map.
    align_corners: Convention of the network; see `asmjax.ops.resize`.

  Raises:
    ValueError: Corners are aligned, and the map's stride is no power of two.
  """
  if not align_corners:
    return resize_nearest(x, size)
  x = jnp.asarray(x)
  rows, columns = map(find_stride, x.shape[1:3], size)
  return x[:, ::rows, ::columns]


def downsample_image(
  image: UInt8[ArrayLike, "n h w c"], size: tuple[int, int], *, align_corners: bool
) -> UInt8[Array, "n h2 w2 c"]:
  """Averages an image around the places where the pixels of a network's map lie, to whole numbers.

  Neighbors count by a triangle whose half width is the stride (bilinear with antialiasing).

  Args:
    image: Images.
    size: Size (h2, w2) of the map.
    align_corners: Convention of the network; see `asmjax.ops.resize`.

  Raises:
    ValueError: Corners are aligned, and the map's stride is no power of two.
  """
  image = jnp.asarray(image)
  if image.shape[1:3] == tuple(size):
    return image
  n, *sides, c = image.shape
  scale = [new / old for new, old in zip(size, sides, strict=True)]
  translation = [0.0, 0.0]
  if align_corners:
    scale = [1 / find_stride(*pair) for pair in zip(sides, size, strict=True)]
    translation = [(1 - factor) / 2 for factor in scale]
  averaged = jax.image.scale_and_translate(
    image.astype(jnp.float32),
    (n, *size, c),
    (1, 2),
    jnp.array(scale),
    jnp.array(translation),
    "linear",
    antialias=True,
  )
  return jnp.round(averaged).astype(jnp.uint8)


def find_stride(side: int, pixels: int) -> int:
  """Finds the power of two that is the stride of a map with aligned corners along one axis.

  There is only one unless the map has one pixel; then it is the smallest.

  Args:
    side: Pixels of the image along the axis; both numbers may be symbols of an export.
    pixels: Pixels of the map along the axis.

  Raises:
    ValueError: No power of two fits.
  """
  for stride in _STRIDES:
    if (side - 1) // stride + 1 == pixels:
      return stride
  raise ValueError(
    f"a map of {pixels} pixels along an axis cannot have aligned corners with an image of {side}; "
    f"expected {side} over a power of two, rounded up"
  )


def double_axis(x: Array, axis: int) -> Array:
  """Doubles bilinearly along an axis: a new pixel is 3/4 the nearer and 1/4 the farther one."""
  side = x.shape[axis]
  part = lambda start, stop: lax.slice_in_dim(x, start, stop, axis=axis)
  before = jnp.concatenate([part(0, 1), part(0, side - 1)], axis)
  after = jnp.concatenate([part(1, side), part(side - 1, side)], axis)
  pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
  return pairs.reshape(*x.shape[:axis], 2 * side, *x.shape[axis + 1 :])


def _interpolate(x: Array, axis: int, factor: int) -> Array:
  """Interpolates `factor` times as many pixels, from each pixel on; the border is repeated."""
  after = jnp.concatenate(
    [lax.slice_in_dim(x, 1, None, axis=axis), lax.slice_in_dim(x, -1, None, axis=axis)], axis
  )
  fraction = jnp.arange(factor, dtype=x.dtype) / factor
  fraction = jnp.expand_dims(fraction, [i for i in range(x.ndim + 1) if i != axis + 1])
  start, step = jnp.expand_dims(x, axis + 1), jnp.expand_dims(after - x, axis + 1)
  return (start + fraction * step).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def _stretch(x: Array, axis: int, side: int) -> Array:
  """Resizes bilinearly along an axis, with the first and the last pixel on those of x."""
  last = x.shape[axis] - 1
  if last == 0:
    return jnp.repeat(x, side, axis)
  if side > 1 and (side - 1) % last == 0:
    return lax.slice_in_dim(_interpolate(x, axis, (side - 1) // last), 0, side, axis=axis)
  positions = jnp.arange(side, dtype=jnp.float32)[:, None] * (last / jnp.maximum(side - 1, 1))
  weights = jnp.maximum(1 - jnp.abs(positions - jnp.arange(last + 1, dtype=jnp.float32)[None]), 0)
  y = jnp.tensordot(x, weights.astype(x.dtype), (axis, 1), precision=lax.Precision.HIGHEST)
  return jnp.moveaxis(y, -1, axis)
