"""Contrast of neighboring pixels' features."""

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


def total(features, label, **options):
  """The loss as it is trained on: the two means, added."""
  contrast = contrastive_loss(features, label, classes=CLASSES, **options)
  return contrast.same.mean() + contrast.different.mean()


def agrees(features, label, size, neighbors, margin):
  found = contrastive_loss(
    features, label, classes=CLASSES, size=size, neighbors=neighbors, margin=margin
  )
  around = offsets(size, neighbors)
  expected = reference_critics.contrastive(features, label, CLASSES, around, margin)
  for moments, (value, count) in zip(found, expected, strict=True):
    # The oracle meets each pair from both ends.
    assert 2 * moments.count == count
    np.testing.assert_allclose(2 * moments.total, value, rtol=1e-4, atol=1e-6)
  return found


@pytest.mark.parametrize("size, neighbors", NEIGHBORHOODS)
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_contrastive_agrees_with_the_oracle(size, neighbors, margin):
  found = agrees(*example(), size, neighbors, margin)
  assert found.same.total > 0 and found.different.total > 0


def test_one_class_has_no_pair_of_different_classes():
  features, label = example()
  found = agrees(features, 0 * label, 3, "full", 0.2)
  assert found.different.count == 0 and found.different.mean() == 0 < found.same.mean()


def test_on_a_checkerboard_only_diagonals_are_of_the_same_class():
  features, label = example()
  label = np.indices(label.shape).sum(0).astype(np.int32) % 2
  found = agrees(features, label, 3, "full", 1.0)
  assert found.same.count == 2 * 2 * 4 * 5 and found.different.count == 2 * (4 * 6 + 5 * 5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 3, 1)])
def test_neighbors_outside_the_image_are_no_pairs(shape):
  features, label = example(shape=(1, 3, 3))
  _, h, w = shape
  agrees(features[:, :h, :w], np.abs(label[:, :h, :w]) % CLASSES, 5, "full", 0.2)


@pytest.mark.parametrize("ids", [-1, CLASSES])
def test_nothing_labeled_gives_zero_with_no_gradient(ids):
  features, label = example()
  value, grads = jax.value_and_grad(total)(features, np.full_like(label, ids))
  assert value == 0 and np.all(grads == 0)


def test_an_ignored_pixel_has_exactly_no_gradient_whatever_its_features():
  features, label = example()
  ignored = (label < 0) | (label >= CLASSES)
  loss = jax.value_and_grad(functools.partial(total, label=label, neighbors="full", margin=2.0))
  value, grads = loss(features)
  spoilt = np.where(ignored[..., None], np.inf, features)
  again, spoilt_grads = loss(spoilt)
  assert np.all(grads[ignored] == 0) and np.all(np.any(grads[~ignored] != 0, -1))
  assert value == again
  np.testing.assert_array_equal(grads, spoilt_grads)


@pytest.mark.parametrize("size, neighbors", NEIGHBORHOODS)
def test_gradients_agree_with_finite_differences(float64, size, neighbors):
  features, label = example(shape=(1, 4, 4), dtype=np.float64)
  loss = functools.partial(total, label=label, size=size, neighbors=neighbors, margin=0.5)
  jax.test_util.check_grads(loss, (jnp.array(features),), 1, modes=["rev"])


def test_descent_pulls_one_class_together_and_two_apart():
  features = jnp.array([[1.0, 0.0], [1.0, 0.1]]).reshape(1, 1, 2, 2)
  cosine = lambda f: float(np.prod([np.dot(*f[0, 0])] + [1 / np.linalg.norm(v) for v in f[0, 0]]))
  for label, sign in (([[[0, 0]]], 1), ([[[0, 1]]], -1)):
    moved = features - 0.01 * jax.grad(total)(features, jnp.array(label))
    assert sign * (cosine(moved) - cosine(features)) > 0


@pytest.mark.parametrize("label", [[[0, 0]], [[0, 1]]])
def test_equal_and_zero_features_have_zero_gradient(label):
  one, zero = jnp.array([0.6, 0.8, 0.0]), jnp.zeros(3)
  pairs = jnp.array([(one, one), (one, zero), (zero, one), (zero, zero)])[:, None]
  grads = jax.grad(functools.partial(total, margin=2.0))(pairs, jnp.array([label] * len(pairs)))
  np.testing.assert_allclose(grads, 0, atol=1e-6)


def test_a_zero_vector_is_at_distance_1_from_every_other():
  features = np.zeros((1, 1, 2, 3), np.float32)
  features[0, 0, 0, 1] = 5
  assert total(features, np.array([[[0, 0]]])) == 1
  np.testing.assert_allclose(total(features, np.array([[[0, 1]]]), margin=1.5), 0.5)


def test_small_distances_keep_their_size():
  features = np.array([[1.0, 0.0], [1.0, 1e-5]], np.float32).reshape(1, 1, 2, 2)
  loss = lambda f: total(f, jnp.array([[[0, 0]]]))
  np.testing.assert_allclose(loss(features), 1e-10, rtol=1e-4)
  np.testing.assert_allclose(jax.grad(loss)(features)[0, 0, 1, 1], 2e-5, rtol=1e-4)


def test_the_loss_sees_neither_the_length_of_features_nor_a_flip():
  features, label = example()
  expected = total(features, label, size=5, neighbors="full")
  scale = np.random.default_rng(1).uniform(0.1, 10, (*label.shape, 1)).astype(np.float32)
  same = [(features * scale, label)]
  same += [(np.flip(features, axis), np.flip(label, axis)) for axis in (1, 2, (1, 2))]
  for flipped in same:
    np.testing.assert_allclose(total(*flipped, size=5, neighbors="full"), expected, rtol=1e-4)


@pytest.mark.parametrize("size, neighbors", NEIGHBORHOODS)
def test_sampling_every_direction_is_the_whole(size, neighbors):
  features, label = example()
  contrast = functools.partial(
    contrastive_loss, features, label, classes=CLASSES, size=size, neighbors=neighbors
  )
  drawn = contrast(num_sampled=len(offsets(size, neighbors)) // 2, rng=jax.random.key(0))
  for found, expected in zip(drawn, contrast(), strict=True):
    assert found.count == expected.count
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-6)


def test_a_draw_is_of_distinct_directions_and_scaled_by_their_number_is_unbiased():
  features, label = example(shape=(1, 6, 6))
  contrast = functools.partial(
    contrastive_loss, features, label, classes=CLASSES, neighbors="full", size=5
  )
  draws = jax.jit(jax.vmap(lambda key: contrast(num_sampled=3, rng=key)))(
    jax.random.split(jax.random.key(0), 1000)
  )
  for drawn, whole in zip(jax.tree.leaves(draws), jax.tree.leaves(contrast()), strict=True):
    error = 12 / 3 * np.std(drawn) / np.sqrt(len(drawn))
    assert abs(12 / 3 * np.mean(drawn) - whole) < 4 * error
    assert error < 0.05 * whole


def test_a_draw_without_replacement_visits_no_direction_twice():
  label = jnp.zeros((1, 1, 3), int)  # Only left and right are inside: 2 pairs in all.
  features = jnp.ones((1, 1, 3, 2))
  keys = jax.random.split(jax.random.key(1), 50)
  pairs = jax.vmap(
    lambda key: contrastive_loss(features, label, classes=1, num_sampled=3, rng=key).same.count
  )(keys)
  assert set(np.unique(pairs)) == {0, 2}


def test_neither_pass_holds_more_memory_for_a_larger_neighborhood():
  features = jax.ShapeDtypeStruct((1, 24, 24, 32), jnp.float32)
  label = jnp.zeros((1, 24, 24), int)

  def held(size):
    loss = functools.partial(total, label=label, size=size, neighbors="full")
    return jax.jit(jax.grad(loss)).lower(features).compile().memory_analysis().temp_size_in_bytes

  padding = ((24 + 6) / (24 + 2)) ** 2
  assert held(7) < 1.1 * padding * held(3)  # 24 directions against 4.


@pytest.mark.parametrize(
  "options, message",
  [
    ({"size": 4}, "odd size"),
    ({"neighbors": "some"}, "known: corners, full"),
    ({"num_sampled": 5, "rng": jax.random.key(0)}, "5 directions sampled of the 4"),
    ({"num_sampled": -1, "rng": jax.random.key(0)}, "-1 directions"),
    ({"num_sampled": 2}, "without a key"),
  ],
)
def test_what_cannot_be_sampled_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    total(*example(), **options)


def test_labels_of_any_integer_type_and_low_precision_give_the_same_counts():
  rng = np.random.default_rng(3)
  label = rng.integers(0, 3, (1, 20, 30)).astype(np.uint8)
  label[rng.random(label.shape) < 0.2] = 255
  features = jnp.array(rng.normal(size=(1, 20, 30, 4)), jnp.float32)
  expected = contrastive_loss(features, label.astype(np.int32), classes=3)
  for each in (features, features.astype(jnp.bfloat16)):
    found = contrastive_loss(each, label, classes=3)
    assert [moments.count for moments in found] == [moments.count for moments in expected]
    for moments, wanted in zip(found, expected, strict=True):
      np.testing.assert_allclose(moments.total, wanted.total, rtol=2e-2)
