"""Means over the cells of a grid, cell by cell and as in PyTorch."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.resize import mean_of_bins, mean_of_cells

GRIDS = (((1, 5), 3), ((2, 9), 6), ((6, 12), 6), ((7, 13), 3), ((9, 5), 1), ((4, 6), 2))


@pytest.fixture(scope="module")
def pooled():
  """Maps, numbers of bins, and the means."""
  rng = np.random.default_rng(0)
  maps = [rng.normal(size=(2, *size, 3)).astype(np.float32) for size, _ in GRIDS]
  bins = [count for _, count in GRIDS]
  found = jax.jit(lambda maps: [mean_of_bins(*each) for each in zip(maps, bins, strict=True)])(maps)
  return list(zip(maps, bins, found, strict=True))


def test_every_cell_is_the_mean_of_its_pixels_and_no_pixel_is_left_out(pooled):
  for x, bins, found in pooled:
    assert found.shape == (2, bins, bins, 3)
    (h, w), seen = x.shape[1:3], np.zeros(x.shape[1:3])
    for i, j in np.ndindex(bins, bins):
      rows = slice(i * h // bins, int(np.ceil((i + 1) * h / bins)))
      columns = slice(j * w // bins, int(np.ceil((j + 1) * w / bins)))
      seen[rows, columns] += 1
      np.testing.assert_allclose(
        found[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6
      )
    assert seen.min() >= 1
    if h % bins == w % bins == 0:
      assert seen.max() == 1


def test_it_is_pytorchs_adaptive_pooling(pooled):
  torch = pytest.importorskip("torch", reason="the pooling to compare with is PyTorch's")
  for x, bins, found in pooled:
    expected = torch.nn.functional.adaptive_avg_pool2d(
      torch.from_numpy(x.transpose(0, 3, 1, 2)), bins
    )
    np.testing.assert_allclose(
      found, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6
    )


def test_means_are_added_up_in_single_precision():
  x = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
  found = mean_of_bins(x, 2)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, x[:, :2, :2])


@pytest.mark.parametrize("size, side", [((8, 12), 4), ((7, 9), 4), ((3, 2), 4), ((5, 6), 1)])
def test_means_of_cells_are_flaxs_and_their_gradients_too(size, side, float64):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3))
  pooled = lambda x: nn.avg_pool(x, (side,) * 2, (side,) * 2, "SAME", count_include_pad=False)
  cotangent = rng.normal(size=pooled(x).shape)
  for_both = [jax.vjp(f, x) for f in (lambda x: mean_of_cells(x, side), pooled)]
  found, expected = ((y, *back(cotangent)) for y, back in for_both)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
  low = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
  np.testing.assert_array_equal(mean_of_cells(low, 32), low[:, :2, :2])


@pytest.mark.parametrize("dtype, most", [(jnp.float32, 3e-7), (jnp.bfloat16, 2**-8)])
def test_means_of_whole_maps_and_cells_are_exact_up_to_rounding(dtype, most):
  x = jnp.asarray(6 * np.random.default_rng(0).random((1, 33, 33, 8)), dtype)
  whole, cells, pooled = jax.jit(
    lambda x: (mean_of_bins(x, 1), mean_of_cells(x, 33), jnp.mean(x, (1, 2), keepdims=True))
  )(x)
  values = np.asarray(x, np.float64)
  exact = [math.fsum(values[..., c].ravel()) / 33**2 for c in range(8)]
  for found in (whole, cells, pooled):  # The last is how MobileNet and DeepLab pool.
    assert found.shape == (1, 1, 1, 8) and found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float64).ravel(), exact, rtol=most)
