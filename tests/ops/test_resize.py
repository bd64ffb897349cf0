"""Resizing against slow versions and PyTorch; lines that stay; means over cells of a grid."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.ops import (
  adaptive_avg_pool,
  avg_pool,
  downsample,
  downsample_image,
  find_stride,
  resize_bilinear,
  resize_nearest,
  upsample,
)
from tests.oracles import arrays as reference

GRIDS = (((1, 5), 3), ((2, 9), 6), ((6, 12), 6), ((7, 13), 3), ((9, 5), 1), ((4, 6), 2))


@pytest.fixture(scope="module")
def pooled():
  """Maps, numbers of bins, and the means."""
  rng = np.random.default_rng(0)
  maps = [rng.normal(size=(2, *size, 3)).astype(np.float32) for size, _ in GRIDS]
  bins = [count for _, count in GRIDS]
  means = jax.jit(lambda maps: [adaptive_avg_pool(*pair) for pair in zip(maps, bins, strict=True)])(
    maps
  )
  return list(zip(maps, bins, means, strict=True))


def test_adaptive_avg_pool_averages_each_cell_and_leaves_no_pixel_out(pooled):
  for x, bins, means in pooled:
    assert means.shape == (2, bins, bins, 3)
    (h, w), num_cells = x.shape[1:3], np.zeros(x.shape[1:3])
    for i, j in np.ndindex(bins, bins):
      rows = slice(i * h // bins, int(np.ceil((i + 1) * h / bins)))
      columns = slice(j * w // bins, int(np.ceil((j + 1) * w / bins)))
      num_cells[rows, columns] += 1
      np.testing.assert_allclose(
        means[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6
      )
    assert num_cells.min() >= 1
    if h % bins == w % bins == 0:
      assert num_cells.max() == 1


def test_adaptive_avg_pool_is_that_of_pytorch(pooled):
  torch = pytest.importorskip("torch", reason="the pooling to compare with is PyTorch's")
  for x, bins, means in pooled:
    expected = torch.nn.functional.adaptive_avg_pool2d(
      torch.from_numpy(x.transpose(0, 3, 1, 2)), bins
    )
    np.testing.assert_allclose(means, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_adaptive_avg_pool_sums_in_float32():
  x = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
  means = adaptive_avg_pool(x, 2)
  assert means.dtype == jnp.bfloat16
  np.testing.assert_array_equal(means, x[:, :2, :2])


@pytest.mark.parametrize("size, side", [((8, 12), 4), ((7, 9), 4), ((3, 2), 4), ((5, 6), 1)])
def test_avg_pool_has_the_gradients_of_flax(size, side, float64):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3))
  pooled = lambda x: nn.avg_pool(x, (side,) * 2, (side,) * 2, "SAME", count_include_pad=False)
  cotangent = rng.normal(size=jax.eval_shape(pooled, x).shape)

  @jax.jit
  def both(x):
    for_both = [jax.vjp(f, x) for f in (lambda x: avg_pool(x, side), pooled)]
    return [(y, *back(cotangent)) for y, back in for_both]

  results, expected = both(x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), results, expected)
  low = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
  np.testing.assert_array_equal(avg_pool(low, 32), low[:, :2, :2])


@pytest.mark.parametrize("dtype, most", [(jnp.float32, 3e-7), (jnp.bfloat16, 2**-8)])
def test_avg_pool_of_maps_and_cells_is_exact_up_to_rounding(dtype, most):
  x = jnp.asarray(6 * np.random.default_rng(0).random((1, 33, 33, 8)), dtype)
  adaptive, cells, pooled = jax.jit(
    lambda x: (adaptive_avg_pool(x, 1), avg_pool(x, 33), jnp.mean(x, (1, 2), keepdims=True))
  )(x)
  values = np.asarray(x, np.float64)
  exact = [math.fsum(values[..., c].ravel()) / 33**2 for c in range(8)]
  for means in (adaptive, cells, pooled):  # The last is how MobileNet and DeepLab pool.
    assert means.shape == (1, 1, 1, 8) and means.dtype == dtype
    np.testing.assert_allclose(np.asarray(means, np.float64).ravel(), exact, rtol=most)


# Of [[0, 1, 3], [6, 10, 15]], by torch.nn.functional.interpolate (2.13.0), align_corners=True.
TORCH = {
  (4, 7): [
    [0, 1 / 3, 2 / 3, 1, 5 / 3, 7 / 3, 3],
    [2, 8 / 3, 10 / 3, 4, 5, 6, 7],
    [4, 5, 6, 7, 25 / 3, 29 / 3, 11],
    [6, 22 / 3, 26 / 3, 10, 35 / 3, 40 / 3, 15],
  ],
  (3, 5): [[0, 0.5, 1, 2, 3], [3, 4.25, 5.5, 7.25, 9], [6, 8, 10, 12.5, 15]],
  (2, 4): [[0, 2 / 3, 5 / 3, 3], [6, 26 / 3, 35 / 3, 15]],
  (5, 3): [[0, 1, 3], [1.5, 3.25, 6], [3, 5.5, 9], [4.5, 7.75, 12], [6, 10, 15]],
  (1, 2): [[0, 3]],
}


@pytest.mark.parametrize("size", TORCH)
def test_resize_bilinear_aligns_corners_as_torch_does(size):
  x = np.float32([[0, 1, 3], [6, 10, 15]])[None, ..., None]
  resized, single = jax.jit(
    lambda x: (
      resize_bilinear(x, size, align_corners=True),
      resize_bilinear(x[:, :, :1], (3, 3), align_corners=True),
    )
  )(x)
  np.testing.assert_allclose(resized[0, ..., 0], TORCH[size], rtol=1e-6, atol=1e-6)
  np.testing.assert_allclose(single[0, ..., 0], np.array([[0, 3, 6]]).T.repeat(3, 1), rtol=1e-6)


@pytest.mark.parametrize(
  "stride, size", [(2, (9, 13)), (2, (8, 12)), (4, (9, 14)), (8, (33, 40)), (16, (17, 31))]
)
def test_upsample_puts_output_i_on_pixel_stride_times_i_whatever_the_size(stride, size):
  x = np.random.default_rng(0).normal(size=(2, *(-(-side // stride) for side in size), 3))
  x = x.astype(np.float32)
  upsampled = jax.jit(lambda x: upsample(x, size, align_corners=True))(x)
  np.testing.assert_allclose(upsampled, reference.upsample(x, size, stride), rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(upsampled[:, ::stride, ::stride], x)
  if all(side % stride == 1 for side in size):
    np.testing.assert_allclose(
      upsampled, resize_bilinear(x, size, align_corners=True), rtol=1e-5, atol=1e-6
    )


def test_upsample_has_the_gradient_of_its_definition(float64):
  size, stride = (9, 14), 4
  x = np.random.default_rng(0).normal(size=(1, 3, 4, 2))
  cotangent = np.random.default_rng(1).normal(size=(1, *size, 2))
  back = jax.jit(lambda c: jax.vjp(lambda x: upsample(x, size, align_corners=True), x)[1](c))
  units = np.eye(x.size).reshape(x.size, *x.shape[1:])
  expected = np.tensordot(reference.upsample(units, size, stride), cotangent[0], 3)
  np.testing.assert_allclose(back(cotangent)[0].ravel(), expected, rtol=1e-10)


def test_find_stride_finds_the_only_power_of_two_that_fits():
  for side in range(1, 200):
    for stride in (1, 2, 4, 8, 16, 32):
      pixels = -(-side // stride)
      result = find_stride(side, pixels)
      assert result == stride if pixels > 1 else result <= stride
  with pytest.raises(ValueError, match="map of 5 pixels .* aligned corners with an image of 12"):
    upsample(jnp.zeros((1, 5, 5, 1)), (12, 9), align_corners=True)
  with pytest.raises(ValueError, match="map of 4 pixels .* with an image of 9"):
    downsample(jnp.zeros((1, 9, 9)), (3, 4), align_corners=True)


def center_of_mass(profile):
  return np.sum(np.arange(len(profile)) * profile) / np.sum(profile)


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("align_corners", [True, False])
def test_downsample_and_upsample_leave_a_line_where_it_is(stride, align_corners):
  """Of half-pixel centers the pixel that is read, of an even number, is half a pixel beyond."""
  for more in {0, int(align_corners)}:
    side = 6 * stride + more
    line = stride if align_corners else stride + stride // 2
    label = np.zeros((1, side, side), np.int32)
    label[:, :, line] = 1
    small = downsample(label, (-(-side // stride),) * 2, align_corners=align_corners)
    assert np.sum(small[0, 0]) == 1
    grow = jax.jit(
      functools.partial(upsample, jnp.float32(small)[..., None], (side, side)),
      static_argnames="align_corners",
    )
    center, center_if_crossed = (
      center_of_mass(grow(align_corners=aligned)[0, 0, :, 0])
      for aligned in (align_corners, not align_corners)
    )
    np.testing.assert_allclose(center, line - (0 if align_corners else 0.5), atol=1e-3)
    # Read by the other convention, it moves.
    assert abs(center_if_crossed - line) > stride / 8


@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("align_corners", [True, False])
def test_downsample_image_averages_around_the_places_of_the_pixels(stride, align_corners):
  """The value of a slope is that at the place; a constant stays."""
  pixels, side = 6, 6 * stride - (stride - 1) * align_corners
  down, across = np.indices((side, side), np.uint8)
  image = np.stack([down, across, np.full_like(down, 77)], -1)[None]
  averaged = downsample_image(image, (pixels, pixels), align_corners=align_corners)
  assert averaged.dtype == jnp.uint8
  places = stride * np.arange(pixels) + (0 if align_corners else (stride - 1) / 2)
  expected = np.stack([*np.meshgrid(places, places, indexing="ij"), np.full((pixels,) * 2, 77)], -1)
  np.testing.assert_allclose(averaged[0, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=0.51)
  assert (averaged[..., 2] == 77).all()


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (7, 11), (2, 3)])
def test_resize_bilinear_has_half_pixel_centers(size):
  x = np.random.default_rng(0).normal(size=(2, 4, 3, 5)).astype(np.float32)
  expected, resized = jax.jit(
    lambda x: (
      jax.image.resize(x, (2, *size, 5), "bilinear", antialias=False),
      resize_bilinear(x, size),
    )
  )(x)
  np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=1e-6)


def test_resize_bilinear_keeps_constants_and_its_transpose_keeps_sums():
  resized, back = jax.jit(lambda x: jax.vjp(lambda x: resize_bilinear(x, (10, 8)), x))(
    np.ones((1, 5, 4, 2), np.float32)
  )
  np.testing.assert_allclose(resized, 1, rtol=1e-6)
  (grads,) = jax.jit(back)(np.ones((1, 10, 8, 2), np.float32))
  np.testing.assert_allclose(np.sum(grads), 10 * 8 * 2, rtol=1e-6)


@pytest.mark.parametrize("size", [(2, 3), (8, 12), (3, 5)])
def test_resize_nearest_takes_the_pixel_under_the_center(size):
  label = np.random.default_rng(0).integers(0, 9, (2, 4, 6)).astype(np.int32)
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(size, label.shape[1:], strict=True)
  )
  np.testing.assert_array_equal(resize_nearest(label, size), label[:, rows[:, None], columns[None]])
