"""Losses on regions, boundaries and skeletons against their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import (
  boundary_loss,
  cl_dice_loss,
  dice_loss,
  generalized_dice_loss,
  lovasz_hinge,
  lovasz_softmax,
  region_mutual_information_loss,
  signed_distance,
  soft_skeleton,
  tversky_loss,
)
from tests.oracles import regions as oracle

CLASSES, SIZE = 4, (12, 16)

LOSSES = {
  "dice": dice_loss,
  "generalized_dice": generalized_dice_loss,
  "tversky": functools.partial(tversky_loss, gamma=0.75),
  "lovasz_softmax": lovasz_softmax,
  "boundary": boundary_loss,
  "cl_dice": cl_dice_loss,
  "region_mutual_information": functools.partial(region_mutual_information_loss, stride=2),
}


def example(seed=0, n=3):
  """Blocky labels, of which the last image has two classes, probabilities near them, and a mask."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, CLASSES, (n, SIZE[0] // 4, SIZE[1] // 4)).repeat(4, 1).repeat(4, 2)
  label[-1] %= 2
  near = 3 * np.eye(CLASSES)[label] + rng.normal(scale=2, size=(n, *SIZE, CLASSES))
  p = np.array(jax.nn.softmax(near), np.float32)
  label[rng.random(label.shape) < 0.1] = 255
  return p, label.astype(np.int32), (rng.random((n, *SIZE, 1)) > 0.1).astype(np.float32)


@functools.cache
def compiled(name):
  """A loss's mean with its moments, and the mean's gradient."""

  def mean(p, label, mask):
    moments = LOSSES[name](p, label, mask=mask)
    return moments.mean(), moments

  return jax.jit(jax.value_and_grad(mean, has_aux=True))


def value_and_gradient(name):
  def function(*arguments):
    (value, _), gradient = compiled(name)(*arguments)
    return value, gradient

  return function


@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("squared", [False, True])
def test_dice_loss_agrees_with_the_oracle(squared, classes):
  p, label, mask = example()
  options = {"squared": squared, "smooth": 0.5, "classes": classes}
  expected = oracle.dice(p, label, mask, **options)
  np.testing.assert_allclose(dice_loss(p, label, mask=mask, **options).mean(), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma, classes", [(1.0, "all"), (0.75, "present")])
def test_tversky_loss_agrees_with_the_oracle(gamma, classes):
  p, label, mask = example()
  options = {"alpha": 0.3, "beta": 0.7, "gamma": gamma, "smooth": 0.5, "classes": classes}
  expected = oracle.tversky(p, label, mask, **options)
  loss = tversky_loss(p, label, mask=mask, **options)
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_tversky_loss_with_equal_weights_is_the_dice_loss():
  p, label, mask = example()
  even = tversky_loss(p, label, mask=mask, alpha=0.5, beta=0.5, smooth=1.0)
  np.testing.assert_allclose(even.mean(), dice_loss(p, label, mask=mask, smooth=2.0).mean(), 1e-6)


@pytest.mark.parametrize("loss", [dice_loss, tversky_loss, generalized_dice_loss, cl_dice_loss])
def test_classes_that_are_nowhere_have_no_loss_and_a_finite_gradient_without_smoothing(loss):
  label = np.zeros((2, 6, 6), np.int32)
  label[:, 2] = 1
  label[1] = 255  # No pixel of the second image counts.
  p = np.eye(3, dtype=np.float32)[np.minimum(label, 2)]
  value, gradient = jax.value_and_grad(lambda p: loss(p, label, smooth=0.0).mean())(p)
  assert value == pytest.approx(0, abs=1e-6)
  assert np.all(np.isfinite(gradient))


def test_generalized_dice_loss_agrees_with_the_oracle():
  p, label, mask = example()
  loss = generalized_dice_loss(p, label, mask=mask)
  expected = oracle.generalized_dice(p, label, mask, smooth=1e-5)
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


@pytest.mark.parametrize("classes", ["present", "all"])
def test_lovasz_softmax_agrees_with_the_integral_over_level_sets(classes):
  p, label, mask = example()
  loss = lovasz_softmax(p, label, mask=mask, classes=classes)
  expected = oracle.lovasz_softmax(p, label, mask, classes=classes)
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_lovasz_hinge_agrees_with_the_integral_over_level_sets():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, *SIZE)).astype(np.float32)
  label = rng.choice([0, 1, 255], (3, *SIZE), p=(0.5, 0.3, 0.2)).astype(np.int32)
  mask = (rng.random((3, *SIZE, 1)) > 0.1).astype(np.float32)
  expected = oracle.lovasz_hinge(logits, label, mask)
  np.testing.assert_allclose(lovasz_hinge(logits, label, mask=mask).mean(), expected, rtol=1e-5)


def test_lovasz_softmax_of_decided_predictions_is_one_minus_the_iou():
  p, label, _ = example()
  decided = np.eye(CLASSES, dtype=np.float32)[p.argmax(-1)]
  counted = label < CLASSES
  expected = [
    1 - ((a == c) & (b == c) & k).sum() / (((a == c) | (b == c)) & k).sum()
    for a, b, k in zip(p.argmax(-1), label, counted, strict=True)
    for c in np.unique(b[k])
  ]
  np.testing.assert_allclose(lovasz_softmax(decided, label).mean(), np.mean(expected), rtol=1e-6)


def test_signed_distance_agrees_with_scipy():
  rng = np.random.default_rng(0)
  regions = rng.random((3, 9, 13, 3)) < np.array([0.02, 0.5, 0.95])
  regions[0, ..., 0], regions[1, ..., 2] = False, True
  np.testing.assert_allclose(signed_distance(regions), oracle.signed_distance(regions), atol=1e-5)


def test_boundary_loss_agrees_with_the_oracle():
  p, label, mask = example()
  counted = (label < CLASSES) & (mask[..., 0] > 0)
  regions = counted[..., None] & (label[..., None] == np.arange(CLASSES))
  values = (p * oracle.signed_distance(regions))[counted]
  np.testing.assert_allclose(boundary_loss(p, label, mask=mask).mean(), values.mean(), rtol=1e-4)


def test_boundary_loss_grows_with_the_distance_of_an_error():
  label = np.zeros((1, 8, 16), np.int32)
  label[0, 2:6, 2:6] = 1
  losses, loss = [], jax.jit(lambda p: boundary_loss(p, label).mean())
  for column in (6, 9, 13):
    predicted = label.copy()
    predicted[0, 3, column] = 1
    losses.append(float(loss(np.eye(2, dtype=np.float32)[predicted])))
  assert losses == sorted(losses) and losses[0] < losses[-1]


def test_soft_skeleton_agrees_with_grey_morphology():
  maps = np.random.default_rng(0).random((2, 9, 11, 2)).astype(np.float32)
  found = np.asarray(soft_skeleton(maps, 2))
  for index in np.ndindex(2, 2):
    n, c = index
    np.testing.assert_allclose(
      found[n, ..., c], oracle.soft_skeleton(maps[n, ..., c], 2), atol=1e-6
    )


def test_cl_dice_loss_sees_a_broken_line_where_dice_sees_three_pixels():
  label = np.zeros((1, 9, 24), np.int32)
  label[0, 3:6, 2:22] = 1
  broken, eroded = label.copy(), label.copy()
  broken[0, 3:6, 11] = 0
  eroded[0, 3, 5:8] = 0
  both = jax.jit(
    lambda p: [loss(p, label, smooth=0.1).mean() for loss in (dice_loss, cl_dice_loss)]
  )
  of_broken, of_eroded = (
    jax.device_get(both(np.eye(2, dtype=np.float32)[each])) for each in (broken, eroded)
  )
  assert of_broken[0] == pytest.approx(of_eroded[0], rel=1e-5)
  assert of_broken[1] > of_eroded[1]


def test_region_mutual_information_loss_agrees_with_explicit_covariances():
  p, label, _ = example()
  label %= CLASSES  # No pixel is left out: cells are then plain means.
  g = np.eye(CLASSES)[label]
  cells = lambda x: np.float64(x).reshape(len(x), 6, 2, 8, 2, CLASSES).mean((2, 4))
  expected = [
    oracle.region_mutual_information(cells(p)[n, ..., c], cells(g)[n, ..., c], 3, 5e-4)
    for n, c in np.ndindex(len(p), CLASSES)
  ]
  loss = region_mutual_information_loss(p, label, stride=2)
  np.testing.assert_allclose(loss.mean(), np.mean(expected), rtol=2e-5)


@pytest.mark.parametrize("width", [8, 64])
def test_region_mutual_information_loss_of_smooth_maps_survives_single_precision(width):
  """Neighbors of smooth maps are almost equal, and their covariance is almost singular."""
  size = 64
  ahead = size / 3 - np.hypot(*(np.indices((size, size)) - size / 2))  # Of the rim of a disc.
  q = 1 / (1 + np.exp(-ahead * width / size))
  p = np.stack([1 - q, q], axis=-1)
  label = np.int32(ahead > 0)
  g = np.eye(2)[label]
  expected = [oracle.region_mutual_information(p[..., c], g[..., c], 3, 5e-4) for c in range(2)]
  loss = lambda p: region_mutual_information_loss(p, label[None], stride=1).mean()
  value, gradient = jax.value_and_grad(loss)(np.float32(p[None]))
  np.testing.assert_allclose(value, np.mean(expected), rtol=1e-4)
  assert np.all(np.isfinite(gradient))


def test_region_mutual_information_loss_has_the_gradient_of_the_explicit_formula(float64):
  p, label, _ = example(n=1)
  label %= CLASSES
  p = np.float64(p)

  def explicit(p):
    total = 0.0
    for c in range(CLASSES):
      views = lambda x: jnp.stack(
        [x[y : y + SIZE[0] - 2, z : z + SIZE[1] - 2].ravel() for y in range(3) for z in range(3)]
      )
      x, y = views(p[0, ..., c]), views(jnp.float64(label[0] == c))
      x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
      inverse = jnp.linalg.inv(x @ x.T + 5e-4 * jnp.eye(9))
      residual = y @ y.T - y @ x.T @ inverse @ x @ y.T
      total += jnp.linalg.slogdet(residual + 5e-4 * jnp.eye(9))[1] / 18
    return total / CLASSES

  loss = lambda p: region_mutual_information_loss(p, label, stride=1).mean()
  gradients = jax.jit(lambda p: [jax.grad(each)(p) for each in (loss, explicit)])
  np.testing.assert_allclose(*gradients(p), rtol=1e-6, atol=1e-10)


def test_region_mutual_information_loss_is_finite_for_perfect_predictions():
  label = np.indices((64, 64)).sum(0)[None] // 9 % CLASSES
  p = np.eye(CLASSES, dtype=np.float32)[label]
  loss = jax.jit(
    jax.value_and_grad(lambda p: region_mutual_information_loss(p, label, stride=1).mean())
  )
  value, gradient = loss(p)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))
  assert value < loss(0.9 * p + np.float32(0.025))[0] < loss(np.full_like(p, 0.25))[0]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_on_regions_pull_towards_the_truth(name):
  """A step against the gradient lowers the loss, and predicting the truth is better than either."""
  p, label, mask = example()
  function = value_and_gradient(name)
  value, gradient = function(p, label, mask)
  length = 1e-3 / max(float(np.abs(gradient).max()), 1e-12)
  assert function(p - length * gradient, label, mask)[0] < value
  one_hot = np.eye(256, dtype=np.float32)[label][..., :CLASSES]
  assert function(np.where(label[..., None] < CLASSES, one_hot, p), label, mask)[0] < value


@pytest.mark.parametrize("name", LOSSES)
def test_losses_on_regions_ignore_pixels_that_do_not_count(name):
  p, label, mask = example()
  function = value_and_gradient(name)
  expected = function(p, label, mask)
  ignored = (label == 255) | (mask[..., 0] == 0)
  p[ignored] = np.random.default_rng(1).random((ignored.sum(), CLASSES))
  jax.tree.map(np.testing.assert_array_equal, function(p, label, mask), expected)
  assert np.all(expected[1][ignored] == 0) and np.any(expected[1] != 0)
  blank = function(p, np.full_like(label, 255), mask)
  assert blank[0] == 0 and np.all(blank[1] == 0)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_on_regions_add_up_over_images(name):
  """A batch counts as a third of three, each of one of its images three times."""
  together, *parts = (
    compiled(name)(*(x[list(images)] for x in example()))[0][1]
    for images in ((0, 1, 2), (0, 0, 0), (1, 1, 1), (2, 2, 2))
  )
  close = lambda a, *each: np.testing.assert_allclose(3 * a, sum(each), rtol=1e-5)
  jax.tree.map(close, together, *parts)


def test_losses_on_regions_refuse_unknown_classes():
  p, label, _ = example()
  with pytest.raises(ValueError, match="unknown classes 'some'; known: present, all"):
    dice_loss(p, label, classes="some")
  with pytest.raises(ValueError, match=r"no region of 3 x 3 cells of 8 pixels"):
    region_mutual_information_loss(p, label, stride=8)
