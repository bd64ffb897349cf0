"""Structure matching distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import layer_distances, matching_distance, matching_hinge
from asmjax.losses.matching import pooled_valid
from tests import reference


def features(seed=0, shape=(2, 3, 4, 5)):
  rng = np.random.default_rng(seed)
  a, b = rng.normal(size=(2, *shape)).astype(np.float32)
  return a, b, (rng.random((*shape[:-1], 1)) < 0.6).astype(np.float32)


@pytest.mark.parametrize("normalise", [False, True])
def test_distance_agrees_with_the_oracle(normalise):
  a, b, valid = features()
  found = matching_distance(a, b, valid=valid, normalise=normalise)
  expected = reference.matching_distance(a, b, valid[..., 0], normalise)
  np.testing.assert_allclose(found.mean(), expected, rtol=1e-5)
  assert found.count == valid.sum()


@pytest.mark.parametrize("normalise", [False, True])
def test_distance_is_symmetric_zero_on_the_diagonal_and_bounded_if_normalised(normalise):
  a, b, _ = features()
  there, back = (matching_distance(x, y, normalise=normalise).mean() for x, y in ((a, b), (b, a)))
  np.testing.assert_allclose(there, back, rtol=1e-6)
  assert matching_distance(a, a, normalise=normalise).mean() == 0
  np.testing.assert_allclose(
    matching_distance(a, -a, normalise=True).mean(), 4.0, rtol=1e-5
  )


def test_normalised_distance_does_not_see_scale():
  a, b, _ = features()
  np.testing.assert_allclose(
    matching_distance(7 * a, 0.1 * b, normalise=True).mean(),
    matching_distance(a, b, normalise=True).mean(), rtol=1e-5,
  )


def test_normalising_a_zero_vector_keeps_gradients_finite():
  zero, one = jnp.zeros((1, 1, 1, 3)), jnp.ones((1, 1, 1, 3))
  grads = jax.grad(lambda x: matching_distance(x, one, normalise=True).mean())(zero)
  assert np.all(np.isfinite(grads))


def test_the_hinge_falls_with_the_distance_up_to_the_margin_and_no_further():
  truth = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
  turned = lambda angle: jnp.array([np.cos(angle), np.sin(angle)]).reshape(1, 1, 1, 2)
  hinge = lambda angle: float(matching_hinge(turned(angle), truth, margin=0.8).mean())
  assert hinge(0.0) == pytest.approx(0.8)
  assert hinge(0.3) > hinge(0.5) > 0  # The distance is 2 - 2 cos(angle).
  assert hinge(1.0) == 0
  slope = jax.grad(lambda x: matching_hinge(x, truth, margin=0.8).mean())(turned(1.0))
  assert np.all(slope == 0)


def test_nothing_valid_gives_zero_with_finite_gradients():
  a, b, valid = features()
  for loss in (matching_distance, matching_hinge):
    value, grads = jax.value_and_grad(lambda x, f=loss: f(x, b, valid=0 * valid).mean())(a)
    assert value == 0 and np.all(grads == 0)


def test_layer_distances_measures_the_named_layers_alone():
  a, b, valid = features()
  maps = ({"conv1": a, "conv2": a}, {"conv1": b, "conv2": a}, ("conv2", "conv1"))
  found = layer_distances(*maps, valid={"conv1": valid, "conv2": valid})
  assert list(found) == ["conv2", "conv1"] and found["conv2"].mean() == 0
  np.testing.assert_allclose(found["conv1"].mean(), matching_distance(a, b, valid=valid).mean())


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (2, 3), (8, 12), (1, 1)])
def test_pooled_valid_agrees_with_the_oracle(partly, size):
  valid = (np.random.default_rng(0).random((3, 8, 12, 1)) < 0.7).astype(np.float32)
  found = pooled_valid(valid, size, partly=partly)
  np.testing.assert_array_equal(found, reference.pooled_valid(valid, size, partly))


@pytest.mark.parametrize("side", range(1, 40))
def test_pooled_valid_meets_the_size_of_stride_2_layers_for_every_size(side):
  valid, size = jnp.ones((1, side, side, 1)), side
  for _ in range(4):
    size = -(-size // 2)
    assert pooled_valid(valid, (size, size), partly=False).shape == (1, size, size, 1)
