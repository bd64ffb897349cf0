"""Losses of the discriminator and of the generator, and the inputs of the discriminator."""

import math

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from scipy.optimize import minimize

from asmjax.losses.adversarial import (
  class_color_product,
  discriminator_accuracy,
  discriminator_loss,
  generator_loss,
  gradient_penalty,
  soften_one_hot,
)
from tests.oracles import critics as reference_critics


def examples(seed=0, shape=(2, 3, 4, 1)):
  rng = np.random.default_rng(seed)
  mask = (rng.random(shape) < 0.6).astype(np.float32)
  return (rng.normal(size=shape) * 3).astype(np.float32), mask


def simplexes(count=40, classes=4, seed=0):
  """Softmax outputs from undecided to almost sure, and a true class for each."""
  rng = np.random.default_rng(seed)
  sharpness = np.geomspace(0.1, 8, count)[:, None]
  predicted = np.array(jax.nn.softmax(rng.normal(size=(count, classes)) * sharpness))
  truth = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]
  return truth[None, None], predicted.astype(np.float32)[None, None]


def slope(loss, logit):
  return float(jax.grad(lambda z: loss(z.reshape(1, 1, 1, 1)).mean())(jnp.float32(logit)))


def oracle(logits, target, mask):
  losses = [reference_critics.binary_cross_entropy(z, target) for z in logits[mask > 0].tolist()]
  return math.fsum(losses) / len(losses)


@pytest.mark.parametrize(
  "real, smoothing, target",
  [(True, 0.0, 1.0), (True, 0.1, 0.9), (False, 0.0, 0.0), (False, 0.1, 0.0)],
)
def test_discriminator_loss_is_the_cross_entropy_smoothed_on_the_real_side_alone(
  real, smoothing, target
):
  logits, mask = examples()
  loss = discriminator_loss(logits, real=real, label_smoothing=smoothing, mask=mask)
  np.testing.assert_allclose(loss.mean(), oracle(logits, target, mask), rtol=1e-5)
  assert loss.count == mask.sum()


def test_generator_loss_is_the_cross_entropy_with_the_other_target():
  logits, mask = examples()
  np.testing.assert_allclose(
    generator_loss(logits, mask=mask).mean(), oracle(logits, 1, mask), 1e-5
  )
  np.testing.assert_allclose(
    generator_loss(logits, saturating=True, mask=mask).mean(), -oracle(logits, 0, mask), 1e-5
  )


def test_adversarial_losses_count_every_logit_without_a_mask():
  logits, _ = examples()
  for loss in (
    lambda z, **k: discriminator_loss(z, real=True, **k),
    generator_loss,
    lambda z, **k: discriminator_accuracy(z, real=False, **k),
  ):
    assert loss(logits) == loss(logits, mask=np.ones_like(logits))


@pytest.mark.parametrize("logit", [-3.0, -0.1, 0.0, 2.0])
def test_adversarial_losses_have_the_published_slopes(logit):
  a = 1 / (1 + math.exp(-logit))
  assert slope(lambda z: discriminator_loss(z, real=True), logit) == pytest.approx(a - 1, rel=1e-5)
  assert slope(lambda z: discriminator_loss(z, real=False), logit) == pytest.approx(a, rel=1e-5)
  assert slope(generator_loss, logit) == pytest.approx(a - 1, rel=1e-5)
  assert slope(lambda z: generator_loss(z, saturating=True), logit) == pytest.approx(-a, rel=1e-5)


@pytest.mark.parametrize("saturating", [False, True])
def test_generator_loss_descends_to_higher_logits_and_discriminator_losses(saturating):
  logits = jnp.array(examples()[0])
  moved = logits - jax.grad(lambda z: generator_loss(z, saturating=saturating).mean())(logits)
  assert np.all(moved > logits)
  assert (
    discriminator_loss(moved, real=False).mean() > discriminator_loss(logits, real=False).mean()
  )


def test_generator_loss_has_no_slope_at_sure_logits_if_it_saturates():
  assert abs(slope(generator_loss, -20.0)) > 0.99
  assert abs(slope(lambda z: generator_loss(z, saturating=True), -20.0)) < 1e-8


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.3])
def test_discriminator_loss_is_least_at_the_log_odds_of_a_smoothed_target(smoothing):
  loss = lambda z: discriminator_loss(z, real=True, label_smoothing=smoothing)
  best = math.log((1 - smoothing) / smoothing)
  assert slope(loss, best) == pytest.approx(0, abs=1e-6)
  assert slope(loss, best - 0.1) < 0 < slope(loss, best + 0.1)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_adversarial_losses_are_linear_at_sure_logits(logit):
  z = jnp.full((1, 1, 1, 1), logit)
  for smoothing in (0.0, 0.25):
    slope_size = (1 - smoothing) if logit < 0 else smoothing
    value = discriminator_loss(z, real=True, label_smoothing=smoothing).mean()
    np.testing.assert_allclose(value, slope_size * 1e4, rtol=1e-5)
  np.testing.assert_allclose(discriminator_loss(z, real=False).mean(), max(logit, 0))
  for loss in (
    lambda z: discriminator_loss(z, real=True),
    lambda z: discriminator_loss(z, real=False),
    generator_loss,
    lambda z: generator_loss(z, saturating=True),
  ):
    assert abs(slope(loss, logit)) in (0, 1)


def test_adversarial_losses_ignore_masked_logits():
  logits = jnp.array([1.0, jnp.inf, jnp.nan, -2.0]).reshape(1, 2, 2, 1)
  mask = jnp.isfinite(logits).astype(jnp.float32)
  for loss in (
    lambda z: discriminator_loss(z, real=True, mask=mask),
    lambda z: generator_loss(z, mask=mask),
    lambda z: discriminator_accuracy(z, real=True, mask=mask),
  ):
    assert loss(logits) == loss(jnp.where(mask > 0, logits, 7.0)) and loss(logits).count == 2
    value, grads = jax.value_and_grad(lambda z, loss=loss: loss(z).mean())(jnp.ones_like(logits))
    assert np.isfinite(value) and np.all(grads[mask == 0] == 0)


def test_adversarial_losses_are_zero_where_nothing_counts():
  logits, mask = examples()
  assert discriminator_loss(logits, real=True, mask=0 * mask).mean() == 0
  assert generator_loss(logits, mask=0 * mask).mean() == 0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_discriminator_loss_refuses_an_impossible_smoothing(smoothing):
  with pytest.raises(ValueError, match=r"expected a number in \[0, 1\)"):
    discriminator_loss(np.zeros((1, 1, 1, 1), np.float32), real=True, label_smoothing=smoothing)


def test_discriminator_accuracy_counts_the_right_side_of_zero():
  logits, mask = examples()
  logits[0, 0, 0], mask[0, 0, 0] = 0.0, 1.0
  real, fake = (discriminator_accuracy(logits, real=side, mask=mask) for side in (True, False))
  assert real.total == sum(z > 0 for z in logits[mask > 0])
  assert real.total + fake.total == mask.sum() - 1  # The undecided one is wrong twice.
  assert real.count == fake.count == mask.sum()


def test_class_color_product_agrees_with_the_oracle():
  rng = np.random.default_rng(0)
  structure = rng.random((2, 3, 4, 5)).astype(np.float32)
  image = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
  product = class_color_product(structure, image)
  np.testing.assert_allclose(product, reference_critics.product(structure, image), rtol=1e-6)


def test_class_color_product_of_probabilities_adds_up_to_the_image():
  _, predicted = simplexes()
  image = np.random.default_rng(1).normal(size=(1, 1, 40, 3)).astype(np.float32)
  crossed = np.reshape(class_color_product(predicted, image), (1, 1, 40, 4, 3))
  np.testing.assert_allclose(crossed.sum(-2), image, atol=1e-6)


@pytest.mark.parametrize("mass", [0.3, 0.9, 1.0])
def test_soften_one_hot_agrees_with_the_oracle_and_is_a_distribution(mass):
  truth, predicted = simplexes()
  truth[:, :, ::5] = 0
  labeled = truth.any(-1)
  softened = np.array(soften_one_hot(truth, predicted, min_probability=mass))
  np.testing.assert_allclose(softened, reference_critics.soften(truth, predicted, mass), atol=1e-6)
  np.testing.assert_allclose(softened.sum(-1), labeled, atol=1e-6)
  assert np.all(softened >= 0) and np.all(softened[truth > 0] >= np.float32(mass))


def test_soften_one_hot_keeps_predictions_with_enough_mass_on_the_truth():
  truth, predicted = simplexes()
  enough = (truth * predicted).sum(-1) >= 0.5
  assert 0 < enough.sum() < enough.size
  softened = np.array(soften_one_hot(truth, predicted, min_probability=0.5))
  np.testing.assert_array_equal(softened[enough], predicted[enough])
  np.testing.assert_array_equal(soften_one_hot(truth, predicted, min_probability=1.0), truth)


@pytest.mark.parametrize(
  "divergence",
  [lambda y, s: np.sum(y * np.log(y / s)), lambda y, s: np.sum(s * np.log(s / y))],
  ids=["of_y_from_s", "of_s_from_y"],
)
def test_soften_one_hot_is_the_closest_distribution_with_the_mass_on_the_truth(divergence):
  truth, predicted = simplexes(count=12)
  softened = np.array(soften_one_hot(truth, predicted, min_probability=0.7), np.float64)
  for y, t, s in zip(softened[0, 0], truth[0, 0], predicted[0, 0].astype(np.float64), strict=True):
    closest = minimize(
      divergence,
      0.1 + 0.6 * t,
      args=(s,),
      method="SLSQP",
      options={"ftol": 1e-12},
      bounds=[(0.7 if chosen else 1e-9, 1) for chosen in t],
      constraints={"type": "eq", "fun": lambda y: y.sum() - 1},
    )
    assert closest.success
    assert divergence(y / y.sum(), s) <= closest.fun + 1e-6
    np.testing.assert_allclose(y, closest.x, atol=1e-3)


@pytest.mark.parametrize("mass", [0.9, 1.0])
@pytest.mark.parametrize("sure", [0.0, 0.9, 1 - 2**-24, 1.0])
def test_soften_one_hot_is_finite_up_to_a_sure_prediction(sure, mass):
  truth = np.eye(3, dtype=np.float32)[:1, None, None]
  predicted = jnp.array([sure, 1 - sure, 0.0]).reshape(1, 1, 1, 3)
  softened, pull = jax.vjp(lambda s: soften_one_hot(truth, s, min_probability=mass), predicted)
  np.testing.assert_allclose(softened.sum(), 1, atol=1e-6)
  for k in range(3):
    grads = pull(jnp.eye(3)[k].reshape(softened.shape))[0]
    assert np.all(np.isfinite(grads)) and np.all(np.abs(grads) < 20)


def test_soften_one_hot_has_the_slope_of_its_formula(float64):
  truth, predicted = simplexes(count=8)
  predicted = jnp.array(predicted, jnp.float64)
  jax.test_util.check_grads(
    lambda s: soften_one_hot(truth, s, min_probability=0.6), (predicted,), 1, modes=["rev"]
  )


def test_soften_one_hot_of_unlabeled_pixels_is_zero_with_no_gradient():
  truth, predicted = np.zeros((1, 1, 2, 3), np.float32), np.full((1, 1, 2, 3), np.nan, np.float32)
  truth[0, 0, 0, 1], predicted[0, 0, 0] = 1, 1 / 3
  softened, pull = jax.vjp(lambda s: soften_one_hot(truth, s), predicted)
  assert np.all(softened[0, 0, 1] == 0) and np.all(pull(jnp.ones_like(softened))[0][0, 0, 1] == 0)


@pytest.mark.parametrize("mass", [0.0, -0.5, 1.1, math.nan])
def test_soften_one_hot_refuses_an_impossible_probability(mass):
  with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
    soften_one_hot(*simplexes(), min_probability=mass)


def test_gradient_penalty_of_a_linear_critic_is_half_its_squared_slope():
  rng = np.random.default_rng(0)
  weight = jnp.array(rng.normal(size=(3, 4, 2)))
  x = rng.normal(size=(5, 3, 4, 2)).astype(np.float32)
  critic = lambda x: jnp.sum(x * weight[None], axis=(1, 2, 3)) + 3
  penalty = gradient_penalty(critic, x)
  np.testing.assert_allclose(penalty.mean(), (weight**2).sum() / 2, rtol=1e-5)
  assert penalty.count == 5


def test_gradient_penalty_of_a_quadratic_critic_grows_with_the_structure():
  x = np.random.default_rng(0).normal(size=(5, 3, 4, 2)).astype(np.float32)
  penalty = gradient_penalty(lambda x: 1.5 * x**2, x)  # One logit for each value: slopes of 3 x.
  np.testing.assert_allclose(penalty.total, 4.5 * (x**2).sum(), rtol=1e-5)


def test_gradient_penalty_counts_labeled_pixels_and_examples_that_have_any():
  x = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype(np.float32)
  mask = (np.random.default_rng(1).random((3, 3, 4, 1)) < 0.5).astype(np.float32)
  mask[1] = 0
  penalty = gradient_penalty(lambda x: x**2, x, mask=mask)
  np.testing.assert_allclose(penalty.total, 2 * (mask * x**2).sum(), rtol=1e-5)
  assert penalty.count == 2
  assert gradient_penalty(lambda x: x**2, x, mask=0 * mask).mean() == 0


def test_gradient_penalty_has_a_gradient_for_the_critics_parameters(float64):
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
  rates = jnp.array([0.5, -1.5])

  def penalty(rates):
    return gradient_penalty(lambda x: jnp.sum(jnp.tanh(x @ rates)), x).mean()

  jax.test_util.check_grads(penalty, (rates,), 1, modes=["rev"])
  assert penalty(rates - 0.01 * jax.grad(penalty)(rates)) < penalty(rates)
