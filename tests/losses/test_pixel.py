"""Pixel losses."""

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.losses import cross_entropy
from tests import reference


def example(seed=0):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 5, (2, 3, 4)).astype(np.int32)
  label[rng.random(label.shape) < 0.3] = 255
  return rng.normal(size=(2, 3, 4, 4)).astype(np.float32) * 5, label


def test_cross_entropy_agrees_with_the_oracle_and_ignores_ids_outside_the_classes():
  logits, label = example()
  loss = cross_entropy(logits, label)
  np.testing.assert_allclose(loss.mean(), reference.cross_entropy(logits, label), rtol=1e-6)
  assert loss.count == np.sum(label < 4)


def test_ignored_pixels_have_exactly_no_gradient_and_others_the_known_one():
  logits, label = example()
  grads = jax.grad(lambda x: cross_entropy(x, label).mean())(jnp.array(logits))
  ignored = label >= 4
  assert np.all(grads[ignored] == 0)
  expected = jax.nn.softmax(logits) - np.eye(256)[label][..., :4]
  np.testing.assert_allclose(grads[~ignored], expected[~ignored] / np.sum(~ignored), atol=1e-6)


def test_a_valid_mask_narrows_what_counts():
  logits, label = example()
  valid = np.zeros((2, 3, 4, 1), np.float32)
  valid[0] = 1
  narrowed = np.where(valid[..., 0] > 0, label, 255)
  loss = cross_entropy(logits, label, valid=valid)
  np.testing.assert_allclose(loss.mean(), reference.cross_entropy(logits, narrowed), rtol=1e-6)


def test_nothing_labelled_gives_zero_with_finite_gradients_even_for_infinite_logits():
  logits = jnp.full((1, 2, 2, 3), jnp.inf)
  label = jnp.full((1, 2, 2), 255)
  loss = jax.value_and_grad(lambda x: cross_entropy(x, label).mean())
  value, grads = loss(jnp.ones((1, 2, 2, 3)))
  assert value == 0 and np.all(grads == 0)
  assert cross_entropy(logits, label).mean() == 0


def test_the_loss_is_invariant_to_a_shift_of_the_logits():
  logits, label = example()
  np.testing.assert_allclose(
    cross_entropy(logits + 100, label).mean(), cross_entropy(logits, label).mean(), rtol=1e-4
  )
