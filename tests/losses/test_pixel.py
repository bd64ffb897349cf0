"""Pixel losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import (
  class_balance_weights,
  cross_entropy,
  effective_number_weights,
  focal_loss,
  inverse_frequency_weights,
  mark_hard_pixels,
  negative_cosine,
  weigh_classes,
)
from tests.oracles import arrays as reference


def example(seed=0):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 5, (2, 3, 4)).astype(np.int32)
  label[rng.random(label.shape) < 0.3] = 255
  return rng.normal(size=(2, 3, 4, 4)).astype(np.float32) * 5, label


SHARES = np.array([0.4, 0.3, 0.2, 0.1], np.float32)


def balance(label, shares):
  """The weights of Jamali-Rad & Szabo 2022, pixel by pixel."""
  weights = np.zeros(label.shape)
  for index, row, column in np.ndindex(label.shape):
    c = label[index, row, column]
    if 0 <= c < len(shares):
      labeled = np.sum((label[index] >= 0) & (label[index] < len(shares)))
      weights[index, row, column] = shares[c] / (np.sum(label[index] == c) / labeled)
  return weights


def test_cross_entropy_agrees_with_the_oracle():
  logits, label = example()
  loss = cross_entropy(logits, label)
  np.testing.assert_allclose(loss.mean(), reference.cross_entropy(logits, label), rtol=1e-6)
  assert loss.count == np.sum(label < 4)


def test_cross_entropy_has_the_known_gradient_and_none_at_ignored_pixels():
  logits, label = example()
  grads = jax.grad(lambda x: cross_entropy(x, label).mean())(jnp.array(logits))
  ignored = label >= 4
  assert np.all(grads[ignored] == 0)
  expected = jax.nn.softmax(logits) - np.eye(256)[label][..., :4]
  np.testing.assert_allclose(grads[~ignored], expected[~ignored] / np.sum(~ignored), atol=1e-6)


def test_cross_entropy_takes_classes_that_are_ruled_out_and_any_logits_where_ignored():
  logits, label = example()
  label = np.where(label == 3, 2, label)
  ruled_out = np.where(np.arange(4) == 3, -np.inf, logits)
  ruled_out[label > 3] = np.nan
  for loss in (cross_entropy, focal_loss):
    compute = lambda x, loss=loss: loss(x, label).mean()
    value, grads = jax.value_and_grad(compute)(jnp.array(ruled_out, jnp.float32))
    expected, of_three = jax.value_and_grad(compute)(jnp.array(logits[..., :3]))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grads[..., :3], of_three, atol=1e-7)
    assert np.all(grads[..., 3] == 0)


def test_cross_entropy_counts_the_mask_alone():
  logits, label = example()
  mask = np.zeros((2, 3, 4, 1), np.float32)
  mask[0] = 1
  narrowed = np.where(mask[..., 0] > 0, label, 255)
  loss = cross_entropy(logits, label, mask=mask)
  np.testing.assert_allclose(loss.mean(), reference.cross_entropy(logits, narrowed), rtol=1e-6)


def test_cross_entropy_of_unlabeled_images_is_zero_even_for_infinite_logits():
  logits = jnp.full((1, 2, 2, 3), jnp.inf)
  label = jnp.full((1, 2, 2), 255)
  loss = jax.value_and_grad(lambda x: cross_entropy(x, label).mean())
  value, grads = loss(jnp.ones((1, 2, 2, 3)))
  assert value == 0 and np.all(grads == 0)
  assert cross_entropy(logits, label).mean() == 0


def test_cross_entropy_is_invariant_to_a_shift_of_the_logits():
  logits, label = example()
  np.testing.assert_allclose(
    cross_entropy(logits + 100, label).mean(), cross_entropy(logits, label).mean(), rtol=1e-4
  )


@pytest.mark.parametrize("seed", range(4))
def test_class_balance_weights_agree_with_the_oracle(seed):
  _, label = example(seed)
  label[0, 0, 0] = -1
  np.testing.assert_allclose(
    class_balance_weights(label, SHARES), balance(label, SHARES), rtol=1e-6
  )


def test_class_balance_weights_of_a_class_add_up_to_its_share():
  label = np.array([[[0, 0, 0, 1, 2, 3]], [[2, 2, 2, 1, 255, 4]]], np.int32)
  weights = np.asarray(class_balance_weights(label, SHARES))
  for image, image_weights, labeled in ((label[0], weights[0], 6), (label[1], weights[1], 4)):
    for c in set(image.flat) & {0, 1, 2, 3}:
      np.testing.assert_allclose(image_weights[image == c].sum(), labeled * SHARES[c], rtol=1e-6)
  np.testing.assert_allclose(weights.sum(axis=(1, 2)), [6, 4 * (0.2 + 0.3)], rtol=1e-6)
  assert np.all(weights[1][label[1] >= 4] == 0)


def test_class_balance_weights_of_an_average_image_are_1():
  label = np.array([[[0] * 4 + [1] * 3 + [2] * 2 + [3, 255]]], np.int32)
  np.testing.assert_allclose(class_balance_weights(label, SHARES), label != 255, rtol=1e-6)


def test_class_balance_weights_are_invariant_to_the_images_size():
  _, label = example()
  larger = label.repeat(3, axis=1).repeat(2, axis=2)
  expected = np.asarray(class_balance_weights(label, SHARES)).repeat(3, axis=1).repeat(2, axis=2)
  np.testing.assert_allclose(class_balance_weights(larger, SHARES), expected, rtol=1e-6)


@pytest.mark.parametrize("label", [255, -1, 2])
def test_class_balance_weights_are_finite_if_classes_are_absent(label):
  weights = class_balance_weights(
    np.full((1, 2, 2), label, np.int32), np.array([0.0, 0.0, 1.0, 0.0])
  )
  np.testing.assert_array_equal(weights, np.full((1, 2, 2), float(label == 2)))
  absent_in_training = class_balance_weights(
    np.full((1, 2, 2), 1, np.int32), np.array([0.0, 0.0, 1.0, 0.0])
  )
  np.testing.assert_array_equal(absent_in_training, np.zeros((1, 2, 2)))


def test_class_balance_weights_make_the_loss_invariant_to_the_size_of_classes():
  logits, _ = example()
  logits = logits[:1]
  label = np.array([[[0, 0, 1, 2], [3, 1, 0, 2], [255, 0, 1, 3]]], np.int32)
  means = lambda x, y: [
    float(
      cross_entropy(x, np.where(y == c, y, 255), weights=class_balance_weights(y, SHARES)).total
    )
    / np.sum(y < 4)
    for c in range(4)
  ]
  flat = lambda x: x.reshape(1, 1, 12, *x.shape[3:])
  often = np.repeat(np.arange(12), np.where(label.ravel() == 1, 5, 1))
  more = flat(logits)[:, :, often], flat(label)[:, :, often]
  assert more[1].size == 12 + 3 * 4
  np.testing.assert_allclose(means(*more), means(logits, label), rtol=1e-5)
  unweighted = lambda x, y: float(cross_entropy(x, y).mean())
  assert abs(unweighted(*more) - unweighted(logits, label)) > 0.01


def test_cross_entropy_weighs_losses_and_gradients_but_not_the_count():
  logits, label = example()
  weights = class_balance_weights(label, SHARES)
  loss = cross_entropy(logits, label, weights=weights)
  weighted_losses = [
    balance(label, SHARES)[index] * reference.cross_entropy(logits[index][None], label[index][None])
    for index in np.ndindex(label.shape)
  ]
  np.testing.assert_allclose(loss.total, np.sum(weighted_losses), rtol=1e-5)
  assert loss.count == np.sum(label < 4)
  mean = lambda x: cross_entropy(x, label, weights=weights).mean()
  expected = (jax.nn.softmax(logits) - np.eye(256)[label][..., :4]) * weights[..., None]
  np.testing.assert_allclose(
    jax.grad(mean)(jnp.array(logits)), expected / np.sum(label < 4), atol=1e-6
  )


def test_cross_entropy_with_weights_ignores_infinite_logits_of_unlabeled_pixels():
  logits, label = example()
  logits[label >= 4] = np.inf
  value, grads = jax.value_and_grad(
    lambda x: cross_entropy(x, label, weights=class_balance_weights(label, SHARES)).mean()
  )(jnp.where(np.isinf(logits), 0, logits))
  with_infinities = cross_entropy(
    logits, label, weights=class_balance_weights(label, SHARES)
  ).mean()
  assert value == with_infinities > 0 and np.all(grads[label >= 4] == 0)


def log_softmax(logits):
  logits = np.float64(logits)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_cross_entropy_with_label_smoothing_is_that_of_the_smoothed_distribution():
  logits, label = example()
  labeled = label < 4
  truth = 0.9 * np.eye(4)[label[labeled]] + 0.1 / 4
  expected = -(truth * log_softmax(logits)[labeled]).sum(-1).mean()
  loss = cross_entropy(logits, label, label_smoothing=0.1)
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_agrees_with_the_oracle(gamma):
  logits, label = example()
  labeled = label < 4
  log_p = np.take_along_axis(log_softmax(logits)[labeled], label[labeled][:, None], 1)[:, 0]
  weights = np.random.default_rng(1).random(label.shape).astype(np.float32)
  expected = -(weights[labeled] * (1 - np.exp(log_p)) ** gamma * log_p).mean()
  loss = focal_loss(logits, label, weights=weights, gamma=gamma)
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_focal_loss_without_focus_is_the_cross_entropy():
  logits, label = example()
  np.testing.assert_allclose(
    focal_loss(logits, label, gamma=0.0).mean(), cross_entropy(logits, label).mean(), rtol=1e-6
  )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_a_finite_gradient_where_predictions_are_sure(gamma):
  logits = jnp.array([[[[200.0, 0.0], [-200.0, 0.0]]]])
  gradient = jax.grad(lambda x: focal_loss(x, jnp.zeros((1, 1, 2), int), gamma=gamma).total)(logits)
  np.testing.assert_allclose(gradient[0, 0], [[0, 0], [-1, 1]], atol=1e-6)


def test_focal_loss_attends_to_pixels_that_are_wrong():
  logits, label = example()
  of = lambda loss: np.abs(jax.grad(lambda x: loss(x, label).total)(jnp.array(logits))).sum(-1)
  p = np.exp(np.take_along_axis(log_softmax(logits), np.where(label < 4, label, 0)[..., None], -1))
  ratio = (of(focal_loss) / np.maximum(of(cross_entropy), 1e-30))[label < 4]
  order = np.argsort(p[..., 0][label < 4])
  assert ratio[order][:4].min() > ratio[order][-4:].max()


def mark_hard(logits, label, mask, threshold, min_part):
  """Pixel by pixel: below the threshold, or among the first of those in order."""
  hard = np.zeros(label.shape, bool)
  p = np.exp(log_softmax(logits))
  for image, ids in enumerate(label):
    pixels = [i for i in np.ndindex(ids.shape) if 0 <= ids[i] < 4 and mask[image][i]]
    pixels.sort(key=lambda i, image=image, ids=ids: p[image][i][ids[i]])
    for rank, i in enumerate(pixels):
      first = rank < np.ceil(min_part * len(pixels))
      hard[image][i] = first or p[image][i][ids[i]] < threshold
  return hard


@pytest.mark.parametrize("threshold, min_part", [(0.7, 0.0), (1e-9, 0.3), (0.05, 0.5), (0.9, 1.0)])
def test_mark_hard_pixels_agrees_with_the_oracle(threshold, min_part):
  logits, label = example()
  mask = (np.random.default_rng(1).random((*label.shape, 1)) > 0.2).astype(np.float32)
  expected = mark_hard(logits, label, mask[..., 0] > 0, threshold, min_part)
  found = mark_hard_pixels(logits, label, mask=mask, threshold=threshold, min_part=min_part)
  np.testing.assert_array_equal(found[..., 0], expected)


def test_mark_hard_pixels_is_a_mask_without_a_gradient():
  logits, label = example()
  marked = mark_hard_pixels(logits, label, min_part=0.25)
  loss = lambda x: cross_entropy(x, label, mask=mark_hard_pixels(x, label, min_part=0.25)).mean()
  expected = jax.grad(lambda x: cross_entropy(x, label, mask=marked).mean())(jnp.array(logits))
  np.testing.assert_array_equal(jax.grad(loss)(jnp.array(logits)), expected)
  assert not np.any(mark_hard_pixels(logits, np.full_like(label, 255), min_part=0.25))


def test_inverse_frequency_weights_make_classes_count_alike():
  weights = inverse_frequency_weights(jnp.array([0.5, 0.3, 0.2, 0.0]))
  np.testing.assert_allclose(weights * jnp.array([0.5, 0.3, 0.2, 0.0]), [0.25, 0.25, 0.25, 0])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1 - 1e-6])
def test_effective_number_weights_agree_with_the_formula(beta):
  counts = np.array([3, 50, 100000])
  weights = (1 - beta) / (1 - np.float64(beta) ** counts)
  expected = 3 * weights / weights.sum()
  found = effective_number_weights(counts, beta=beta)
  np.testing.assert_allclose(found, expected, rtol=2e-3 if beta > 0.999 else 1e-5)
  assert effective_number_weights(np.array([0, 5]), beta=beta)[0] == 0


def test_weigh_classes_gives_each_pixel_the_weight_of_its_class():
  label = np.array([[[0, 2, 1], [255, -1, 3]]])
  np.testing.assert_array_equal(
    weigh_classes(label, jnp.array([1.0, 2.0, 3.0])), [[[1, 3, 2], [0, 0, 0]]]
  )


def test_negative_cosine_has_no_gradient_where_normals_are_unknown():
  vectors = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
  mask = np.ones((2, 3, 4, 1), np.float32)
  mask[:, 1] = 0
  targets = np.where(mask > 0, vectors[::-1], np.nan)
  gradient = jax.grad(lambda x: negative_cosine(x, targets, mask=mask).mean())(vectors)
  assert np.isfinite(gradient).all() and not gradient[:, 1].any() and gradient[:, 0].all()
