"""Structure matching distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import layer_distances, matching_distance, matching_hinge
from asmjax.losses.matching import NORMALIZATIONS, min_norm, pool_mask
from tests.oracles import arrays as reference


def features(seed=0, shape=(2, 3, 4, 5)):
  rng = np.random.default_rng(seed)
  a, b = rng.normal(size=(2, *shape)).astype(np.float32)
  return a, b, (rng.random((*shape[:-1], 1)) < 0.6).astype(np.float32)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_matching_distance_agrees_with_the_oracle(normalize):
  a, b, mask = features()
  distance = matching_distance(a, b, mask=mask, normalize=normalize)
  expected = reference.matching_distance(a, b, mask[..., 0], normalize)
  np.testing.assert_allclose(distance.mean(), expected, rtol=1e-5)
  assert distance.count == mask.sum()


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_matching_distance_is_symmetric_and_zero_for_equal_features(normalize):
  a, b, _ = features()
  forward, backward = (
    matching_distance(x, y, normalize=normalize).mean() for x, y in ((a, b), (b, a))
  )
  np.testing.assert_allclose(forward, backward, rtol=1e-6)
  assert matching_distance(a, a, normalize=normalize).mean() == 0


@pytest.mark.parametrize("normalize, bound", [("pixel", 4.0), ("image", 2.0)])
def test_matching_distance_is_bounded_if_normalized_and_half_of_it_if_orthogonal(normalize, bound):
  a, b, mask = features()
  distance = lambda x, y: matching_distance(x, y, mask=mask, normalize=normalize).mean()
  np.testing.assert_allclose(distance(a, -a), bound, rtol=1e-5)
  assert NORMALIZATIONS[normalize] == bound / 2
  x, y = (np.zeros_like(a) for _ in range(2))
  x[..., 0] = y[..., 1] = np.linalg.norm(a, axis=-1)
  np.testing.assert_allclose(distance(x, y), bound / 2, rtol=1e-5)
  for scale in (1e-1, 1.0, 1e3):
    assert 0 < distance(scale * a, b) < bound


def test_matching_distance_is_invariant_to_scale_if_normalized():
  """Of either map by the pixel, of both together by the image."""
  a, b, mask = features()
  distance = lambda x, y, how: matching_distance(x, y, mask=mask, normalize=how).mean()
  pixel, image = distance(a, b, "pixel"), distance(a, b, "image")
  np.testing.assert_allclose(distance(7 * a, 0.1 * b, "pixel"), pixel, rtol=1e-5)
  np.testing.assert_allclose(distance(70 * a, 70 * b, "image"), image, rtol=1e-5)
  # Hence a critic gains nothing by its weights' size: the slope along them is 0.
  slope = jax.grad(lambda s: distance(s * a, s * b, "image"))(2.0)
  np.testing.assert_allclose(slope, 0, atol=1e-5)


@pytest.mark.parametrize("normalize", ["pixel", "image"])
def test_matching_distance_has_small_gradients_at_features_near_zero(normalize):
  """They are at most 1 / 0.01, the length below which nothing is stretched."""
  zero, one = jnp.zeros((1, 1, 1, 3)), jnp.array([[[[0.6, 0.0, 0.8]]]])
  distance = lambda x, y: matching_distance(x, y, normalize=normalize).mean()
  for near in (zero, zero + 1e-6, zero.at[..., 0].set(1e-3)):
    for slope in jax.grad(distance, (0, 1))(near, one):
      assert np.linalg.norm(slope) <= 201
  assert np.linalg.norm(jax.grad(distance)(1e-3 * one, -1e-3 * one)) <= 401


def test_matching_distance_refuses_an_unknown_normalization():
  with pytest.raises(ValueError, match="unknown normalize 'batch'; known: none, pixel, image"):
    matching_distance(*features()[:2], normalize="batch")


def test_matching_distance_is_summed_and_counted_in_float32():
  """bfloat16 would make 71680 of the count."""
  a = jnp.zeros((1, 8, 8933, 1), jnp.bfloat16)
  for loss in (matching_distance, matching_hinge):
    distance = loss(a + 1, a, normalize="none")
    assert distance.total.dtype == distance.count.dtype == jnp.float32 and distance.count == 71464


def test_min_norm_is_that_of_the_masked_pixels_and_has_no_gradient():
  a, _, mask = features()
  mask[0] = 0
  norms = np.where(mask[..., 0] > 0, np.linalg.norm(a, axis=-1), np.inf)
  norm = min_norm(a, mask=mask)
  assert norm.count == 1
  np.testing.assert_allclose(norm.mean(), norms[1].min(), rtol=1e-6)
  slope = jax.grad(lambda x: min_norm(x, mask=mask).mean())(jnp.zeros_like(a))
  assert np.all(slope == 0)


def test_matching_hinge_falls_with_the_distance_up_to_the_margin():
  truth = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
  rotated = lambda angle: jnp.array([np.cos(angle), np.sin(angle)]).reshape(1, 1, 1, 2)
  hinge = lambda angle: float(matching_hinge(rotated(angle), truth, margin=0.8).mean())
  assert hinge(0.0) == pytest.approx(0.8)
  assert hinge(0.3) > hinge(0.5) > 0  # The distance is 2 - 2 cos(angle).
  assert hinge(1.0) == 0
  slope = jax.grad(lambda x: matching_hinge(x, truth, margin=0.8).mean())(rotated(1.0))
  assert np.all(slope == 0)


def test_matching_distance_and_hinge_are_zero_where_nothing_counts():
  a, b, mask = features()
  for loss in (matching_distance, matching_hinge):
    value, grads = jax.value_and_grad(lambda x, f=loss: f(x, b, mask=0 * mask).mean())(a)
    assert value == 0 and np.all(grads == 0)


def test_layer_distances_measures_the_named_layers_alone():
  a, b, mask = features()
  maps = ({"conv1": a, "conv2": a}, {"conv1": b, "conv2": a}, ("conv2", "conv1"))
  distances = layer_distances(*maps, masks={"conv1": mask, "conv2": mask})
  assert list(distances) == ["conv2", "conv1"] and distances["conv2"].mean() == 0
  np.testing.assert_allclose(distances["conv1"].mean(), matching_distance(a, b, mask=mask).mean())


@pytest.mark.parametrize("count_partial_cells", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (2, 3), (8, 12), (1, 1)])
def test_pool_mask_agrees_with_the_oracle(count_partial_cells, size):
  mask = (np.random.default_rng(0).random((3, 8, 12, 1)) < 0.7).astype(np.float32)
  pooled = pool_mask(mask, size, count_partial_cells=count_partial_cells)
  np.testing.assert_array_equal(pooled, reference.pool_mask(mask, size, count_partial_cells))


@pytest.mark.parametrize("side", range(1, 40))
def test_pool_mask_meets_the_size_of_stride_2_layers_for_every_size(side):
  mask, size = jnp.ones((1, side, side, 1)), side
  for _ in range(4):
    size = -(-size // 2)
    pooled = pool_mask(mask, (size, size), count_partial_cells=False)
    np.testing.assert_array_equal(pooled, np.ones((1, size, size, 1)))
