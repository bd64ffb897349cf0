"""The contrastive loss against loops over all pairs, and finite differences."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from asmjax.losses.embedding import contrastive_loss
from asmjax.losses.neighborhood import offsets
from tests.oracles import critics as reference_critics

CLASSES = 3
NEIGHBORHOODS = [(3, "corners"), (5, "corners"), (5, "full")]


def example(seed=0, shape=(2, 5, 6), width=4, dtype=np.float32):
  """Features in loose clusters, so that some distances are on either side of the margin."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, CLASSES, shape).astype(np.int32)
  label[rng.random(shape) < 0.2] = 255
  label[0, 0, 1] = -1
  features = 1 + 0.3 * rng.normal(size=(*shape, width))
  return features.astype(dtype), label


compiled_loss = functools.partial(
  jax.jit(contrastive_loss, static_argnames=("classes", "size", "neighbors", "margin")),
  classes=CLASSES,
)


def total(features, label, **options):
  """The loss as it is trained on: the two means, added."""
  loss = compiled_loss(features, label, **options)
  return loss.same.mean() + loss.different.mean()


def check_against_oracle(features, label, size, neighbors, margin):
  """Compares sums and counts with the oracle's, and returns the loss."""
  loss = compiled_loss(features, label, size=size, neighbors=neighbors, margin=margin)
  pairs = offsets(size, neighbors)
  expected = reference_critics.contrastive(features, label, CLASSES, pairs, margin)
  for mean, (value, count) in zip(loss, expected, strict=True):
    # The oracle meets each pair from both ends.
    assert 2 * mean.count == count
    np.testing.assert_allclose(2 * mean.total, value, rtol=1e-4, atol=1e-6)
  return loss


@pytest.mark.parametrize("size, neighbors", NEIGHBORHOODS)
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_contrastive_loss_agrees_with_the_oracle(size, neighbors, margin):
  loss = check_against_oracle(*example(), size, neighbors, margin)
  assert loss.same.total > 0 and loss.different.total > 0


def test_contrastive_loss_of_one_class_has_no_pair_of_different_classes():
  features, label = example()
  loss = check_against_oracle(features, 0 * label, 3, "full", 0.2)
  assert loss.different.count == 0 and loss.different.mean() == 0 < loss.same.mean()


def test_contrastive_loss_of_a_checkerboard_has_equal_classes_on_diagonals_alone():
  features, label = example()
  label = np.indices(label.shape).sum(0).astype(np.int32) % 2
  loss = check_against_oracle(features, label, 3, "full", 1.0)
  assert loss.same.count == 2 * 2 * 4 * 5 and loss.different.count == 2 * (4 * 6 + 5 * 5)


@pytest.mark.parametrize("shape, num_pairs", [((1, 1, 1), 0), ((1, 1, 3), 3), ((1, 3, 1), 3)])
def test_contrastive_loss_has_no_pairs_across_the_border(shape, num_pairs):
  features, label = example(shape=(1, 3, 3))
  _, h, w = shape
  label = np.abs(label[:, :h, :w]) % CLASSES
  loss = check_against_oracle(features[:, :h, :w], label, 5, "full", 0.2)
  assert loss.same.count + loss.different.count == num_pairs


@pytest.mark.parametrize("ids", [-1, CLASSES])
def test_contrastive_loss_of_unlabeled_images_is_zero_with_no_gradient(ids):
  features, label = example()
  value, grads = jax.value_and_grad(total)(features, np.full_like(label, ids))
  assert value == 0 and np.all(grads == 0)


def test_contrastive_loss_gives_ignored_pixels_no_gradient_whatever_their_features():
  features, label = example()
  ignored = (label < 0) | (label >= CLASSES)
  loss = jax.value_and_grad(functools.partial(total, label=label, neighbors="full", margin=2.0))
  value, grads = loss(features)
  infinite_value, infinite_grads = loss(np.where(ignored[..., None], np.inf, features))
  assert np.all(grads[ignored] == 0) and np.all(np.any(grads[~ignored] != 0, -1))
  assert value == infinite_value
  np.testing.assert_array_equal(grads, infinite_grads)


@pytest.mark.parametrize("size, neighbors", NEIGHBORHOODS)
def test_contrastive_loss_has_the_gradient_of_finite_differences(float64, size, neighbors):
  features, label = example(shape=(1, 4, 4), dtype=np.float64)
  loss = functools.partial(total, label=label, size=size, neighbors=neighbors, margin=0.5)
  jax.test_util.check_grads(loss, (jnp.array(features),), 1, modes=["rev"])


def test_contrastive_loss_pulls_one_class_together_and_two_apart():
  features = jnp.array([[1.0, 0.0], [1.0, 0.1]]).reshape(1, 1, 2, 2)
  cosine = lambda f: float(np.prod([np.dot(*f[0, 0])] + [1 / np.linalg.norm(v) for v in f[0, 0]]))
  for label, sign in (([[[0, 0]]], 1), ([[[0, 1]]], -1)):
    moved = features - 0.01 * jax.grad(total)(features, jnp.array(label))
    assert sign * (cosine(moved) - cosine(features)) > 0


@pytest.mark.parametrize("label", [[[0, 0]], [[0, 1]]])
def test_contrastive_loss_has_no_gradient_at_equal_and_at_zero_features(label):
  one, zero = jnp.array([0.6, 0.8, 0.0]), jnp.zeros(3)
  pairs = jnp.array([(one, one), (one, zero), (zero, one), (zero, zero)])[:, None]
  grads = jax.grad(functools.partial(total, margin=2.0))(pairs, jnp.array([label] * len(pairs)))
  np.testing.assert_allclose(grads, 0, atol=1e-6)


def test_contrastive_loss_puts_zero_at_distance_1_from_all_features():
  features = np.zeros((1, 1, 2, 3), np.float32)
  features[0, 0, 0, 1] = 5
  assert total(features, np.array([[[0, 0]]])) == 1
  np.testing.assert_allclose(total(features, np.array([[[0, 1]]]), margin=1.5), 0.5)


def test_contrastive_loss_keeps_small_distances():
  features = np.array([[1.0, 0.0], [1.0, 1e-5]], np.float32).reshape(1, 1, 2, 2)
  loss = lambda f: total(f, jnp.array([[[0, 0]]]))
  np.testing.assert_allclose(loss(features), 1e-10, rtol=1e-4)
  np.testing.assert_allclose(jax.grad(loss)(features)[0, 0, 1, 1], 2e-5, rtol=1e-4)


def test_contrastive_loss_is_invariant_to_lengths_and_flips():
  features, label = example()
  expected = total(features, label, size=5, neighbors="full")
  scale = np.random.default_rng(1).uniform(0.1, 10, (*label.shape, 1)).astype(np.float32)
  same = [(features * scale, label)]
  same += [(np.flip(features, axis), np.flip(label, axis)) for axis in (1, 2, (1, 2))]
  for flipped in same:
    np.testing.assert_allclose(total(*flipped, size=5, neighbors="full"), expected, rtol=1e-4)


def test_contrastive_loss_needs_no_more_memory_for_a_larger_neighborhood():
  features = jax.ShapeDtypeStruct((1, 24, 24, 32), jnp.float32)
  label = jnp.zeros((1, 24, 24), int)

  def memory(size):
    loss = functools.partial(total, label=label, size=size, neighbors="full")
    return jax.jit(jax.grad(loss)).lower(features).compile().memory_analysis().temp_size_in_bytes

  padding = ((24 + 6) / (24 + 2)) ** 2
  assert memory(7) < 1.1 * padding * memory(3)  # 24 directions against 4.


@pytest.mark.parametrize(
  "options, message", [({"size": 4}, "odd size"), ({"neighbors": "some"}, "known: corners, full")]
)
def test_contrastive_loss_refuses_impossible_neighborhoods(options, message):
  with pytest.raises(ValueError, match=message):
    total(*example(), **options)


def test_contrastive_loss_has_the_same_counts_for_any_integer_type_and_precision():
  rng = np.random.default_rng(3)
  label = rng.integers(0, 3, (1, 20, 30)).astype(np.uint8)
  label[rng.random(label.shape) < 0.2] = 255
  features = jnp.array(rng.normal(size=(1, 20, 30, 4)), jnp.float32)
  expected = contrastive_loss(features, label.astype(np.int32), classes=3)
  for dtype in (jnp.float32, jnp.bfloat16):
    loss = contrastive_loss(features.astype(dtype), label, classes=3)
    for mean, expected_mean in zip(loss, expected, strict=True):
      assert mean.count == expected_mean.count
      np.testing.assert_allclose(mean.total, expected_mean.total, rtol=2e-2)
