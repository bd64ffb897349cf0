"""Affinity fields against loops over all entries, finite differences and automatic gradients."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from asmjax.losses.affinity import FLOOR, SizeWeights, affinity_loss
from asmjax.losses.neighborhood import offsets, pad_border
from tests.oracles import affinity as reference_affinity

CLASSES, SIZES, SHAPE = 3, (3, 5), (2, 5, 5)
COMBINATIONS = [
  dict(zip(("neighbors", "ignore", "weight_by"), values, strict=True))
  for values in itertools.product(("corners", "full"), ("pair", "opposite"), ("center", "channel"))
]
DEFAULT = COMBINATIONS[0]


def names(combinations):
  return ["-".join(options.values()) for options in combinations]


every_combination = pytest.mark.parametrize("options", COMBINATIONS, ids=names(COMBINATIONS))
EITHER = [DEFAULT, COMBINATIONS[-1]]
each_option = pytest.mark.parametrize("options", EITHER, ids=names(EITHER))


def maps():
  """Label maps that are hard in one way each."""
  rng = np.random.default_rng(0)
  random = rng.integers(0, CLASSES, SHAPE)
  random[rng.random(SHAPE) < 0.15] = 255
  random[rng.random(SHAPE) < 0.05] = -1
  frame = np.ones(SHAPE, int)
  frame[:, 1:-1, 1:-1] = 0
  y, x = np.indices(SHAPE[1:])
  return {
    "random": random,
    "one class": np.full(SHAPE, 2),
    "all unlabeled": np.stack([np.full(SHAPE[1:], 255), np.full(SHAPE[1:], -1)]),
    "diagonal line": np.stack([y == x, y == 4 - x]).astype(int),
    "at the border": frame,
    "unlabeled border": np.where(frame, 255, random % CLASSES),
    "checkerboard": np.stack([(y + x) % 2, (y + x) % CLASSES]),
    "one labeled pixel": np.where((y == 2) & (x == 3), 1, 255 * np.ones(SHAPE, int)),
  }


LABELS = {name: label.astype(np.int32) for name, label in maps().items()}


def probabilities(seed=0, shape=SHAPE, spread=2.0):
  """Class distributions, some of them sharp."""
  logits = spread * np.random.default_rng(seed).normal(size=(*shape, CLASSES))
  return np.asarray(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))


def extreme_probabilities():
  """As above, with exact zeros and ones."""
  p = probabilities()
  p[0, :2] = np.eye(CLASSES)[np.arange(10).reshape(2, 5) % CLASSES]
  return p


def random_weights(seed=0, sizes=SIZES):
  return SizeWeights(*np.random.default_rng(seed).random((2, CLASSES, len(sizes))))


def ones():
  """Weights that leave the loss as it is, for a function that is compiled with weights."""
  return SizeWeights(*2 * [jnp.ones((CLASSES, len(SIZES)))])


@functools.partial(jax.jit, static_argnames=("sizes", "neighbors", "ignore", "margin", "weight_by"))
def differentiate(probabilities, label, weights=None, *, sizes=SIZES, **options):
  """The loss as it is trained on, its parts, and the gradient by probabilities and weights."""

  def loss(arguments):
    fields = affinity_loss(arguments[0], label, weights=arguments[1], sizes=sizes, **options)
    return fields.mean(), fields

  (value, fields), gradients = jax.value_and_grad(loss, has_aux=True)((probabilities, weights))
  return value, fields, *gradients


def as_float(dtype, *trees):
  return jax.tree.map(lambda x: jnp.asarray(x, dtype), trees)


def check(fields, expected, tolerance):
  """Sums and counts against the oracle's; a tolerance of the mean."""
  for moments, (total, count) in zip(fields, expected, strict=True):
    np.testing.assert_array_equal(moments.count, count)
    np.testing.assert_allclose(
      moments.mean(), total / np.maximum(count, 1), rtol=tolerance, atol=tolerance
    )


@each_option
@pytest.mark.parametrize("name", LABELS)
def test_affinity_loss_agrees_with_the_oracle(name, options):
  p, weights = as_float(np.float32, extreme_probabilities(), random_weights())
  _, fields, *gradients = differentiate(p, LABELS[name], weights, **options)
  expected = reference_affinity.affinity(
    np.asarray(p), LABELS[name], sizes=SIZES, weights=weights, **options
  )
  check(fields, expected, 1e-5)
  assert all(np.all(np.isfinite(gradient)) for gradient in jax.tree.leaves(gradients))


@every_combination
def test_affinity_loss_agrees_with_the_oracle_in_double_precision(options, float64):
  p, weights = extreme_probabilities(), random_weights()
  for label in LABELS.values():
    _, fields, *_ = differentiate(*as_float(float, p), label, *as_float(float, weights), **options)
    assert fields.edge.total.dtype == np.float64
    expected = reference_affinity.affinity(p, label, sizes=SIZES, weights=weights, **options)
    check(fields, expected, 1e-10)


@pytest.mark.parametrize(
  "shape, sizes, neighbors, ignore",
  [
    ((1, 1, 1), (3,), "corners", "pair"),
    ((2, 2, 3), (3, 13), "corners", "opposite"),
    ((2, 2, 3), (5,), "full", "pair"),
  ],
)
def test_affinity_loss_of_images_smaller_than_a_neighborhood_agrees_with_the_oracle(
  shape, sizes, neighbors, ignore
):
  (p,), label = as_float(np.float32, probabilities(1, shape)), np.ones(shape, np.int32)
  label[..., ::2] = 2
  options = {"sizes": sizes, "neighbors": neighbors, "ignore": ignore}
  _, fields, gradient, _ = differentiate(p, label, **options)
  check(fields, reference_affinity.affinity(np.asarray(p), label, **options), 1e-5)
  assert np.all(np.isfinite(gradient))


def test_affinity_loss_of_uniform_distributions_is_the_margin_at_edges_and_else_0():
  p = jnp.full((*SHAPE, CLASSES), 1 / CLASSES, np.float32)
  _, fields, *_ = differentiate(p, LABELS["random"], ones(), **DEFAULT)
  np.testing.assert_allclose(fields.edge.mean(), 3.0, rtol=1e-6)
  np.testing.assert_allclose(fields.non_edge.total, 0, atol=1e-6)


@pytest.mark.parametrize("name", ["one class", "all unlabeled", "one labeled pixel"])
def test_affinity_loss_without_entries_is_zero_with_finite_gradients(name):
  (p,) = as_float(np.float32, extreme_probabilities())
  value, fields, gradient, _ = differentiate(p, LABELS[name], ones(), **DEFAULT)
  np.testing.assert_array_equal(fields.edge, 0)
  assert np.all(fields.edge.mean() == 0) and np.all(np.isfinite(gradient))
  if name != "one class":
    np.testing.assert_array_equal(fields.non_edge, 0)
    assert value == 0 and np.all(gradient == 0)


@every_combination
def test_affinity_loss_has_the_gradient_of_the_oracles_finite_differences(options, float64):
  p, label, step = probabilities(2, spread=3.0), LABELS["random"], 1e-6
  # Off the simplex and on either side of the clip, but not at its kink.
  p[0, 0], p[1, 3] = (0.2 * FLOOR, 0.3, 1 - 0.4 * FLOOR), (0.5, 3 * FLOOR, 1 - 3 * FLOOR)
  *_, by_p, by_weights = differentiate(
    *as_float(float, p), label, *as_float(float, random_weights()), **options
  )
  rng, weights = np.random.default_rng(0), np.stack(random_weights())
  # Small probabilities matter as much as large ones.
  scale = np.minimum(p, np.maximum(1 - p, FLOOR))
  for _ in range(3):
    p_step, weights_step = scale * rng.normal(size=p.shape), rng.normal(size=weights.shape)
    ends = [
      reference_affinity.value(
        p + sign * step * p_step,
        label,
        sizes=SIZES,
        weights=weights + sign * step * weights_step,
        **options,
      )
      for sign in (1, -1)
    ]
    directional = np.sum(by_p * p_step) + np.sum(np.stack(by_weights) * weights_step)
    np.testing.assert_allclose(directional, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)


def differentiable_loss(p, label, weights, *, neighbors, ignore, weight_by, margin=3.0):
  """The loss from tensors of all neighbors (j n h w c), to be differentiated by JAX."""
  reach, hot = max(SIZES), jax.nn.one_hot(label, CLASSES, dtype=bool)
  known = jnp.any(hot, axis=-1, keepdims=True)
  clipped = [jnp.where(x > FLOOR, x, FLOOR) for x in (p, 1 - p)]
  total = 0.0
  for k, size in enumerate(SIZES):
    at = np.array(offsets(size, neighbors))
    divergence = sum(
      a * jnp.log(a / b[None]) for a, b in ((_at(x, at, reach, 1.0), x) for x in clipped)
    )
    valid = known[None] & _at(known, at, reach, False)
    if ignore == "opposite":
      valid &= _at(known, -at, reach, False)
    apart = _at(hot, at, reach, False) != hot[None]
    hinge = jnp.maximum(0, margin - divergence)
    for by_class, chosen, cost in zip(
      weights, (valid & apart, valid & ~apart), (hinge, divergence), strict=True
    ):
      by_class = by_class[:, k]
      center = by_class[jnp.clip(label, 0, CLASSES - 1)][None, ..., None]
      weight = center if weight_by == "center" else by_class.reshape(1, 1, 1, 1, -1)
      total += jnp.sum(jnp.where(chosen, weight * cost, 0)) / jnp.maximum(1, jnp.sum(chosen))
  return total


def _at(x, at, reach, value):
  """(n h w c) at all offsets."""
  wide = pad_border(jnp.moveaxis(x, -1, 0), reach, value)
  cut = lambda start: lax.dynamic_slice(wide, (0, 0, *start), (x.shape[-1], *x.shape[:-1]))
  return jnp.moveaxis(jax.vmap(cut)(at + reach), 1, -1)


@each_option
def test_affinity_loss_has_the_gradient_of_automatic_differentiation(options, float64):
  p, label = as_float(float, extreme_probabilities())[0], LABELS["random"]
  label = np.where(label < 0, 255, label)
  (weights,) = as_float(float, random_weights())
  value, _, *gradients = differentiate(p, label, weights, **options)
  expected_value, expected_gradients = jax.jit(
    jax.value_and_grad(
      lambda p, weights: differentiable_loss(p, label, weights, **options), argnums=(0, 1)
    )
  )(p, weights)
  np.testing.assert_allclose(value, expected_value, rtol=1e-12)
  assert float(jnp.linalg.norm(expected_gradients[0])) > 0.1
  for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@each_option
def test_affinity_loss_is_invariant_to_flips_and_turns(options):
  (p, weights), label = as_float(np.float32, probabilities(), random_weights()), LABELS["random"]
  _, fields, gradient, by_weights = differentiate(p, label, weights, **options)
  for turns, flipped in itertools.product(range(4), (False, True)):
    turn = lambda x: np.rot90(x[:, ::-1] if flipped else x, turns, (1, 2))  # noqa: B023
    _, *turned = differentiate(turn(p), turn(label), weights, **options)
    expected = fields, turn(gradient), by_weights
    for a, b in zip(jax.tree.leaves(turned), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@each_option
def test_affinity_loss_is_invariant_to_the_order_of_classes(options):
  (p, weights), label = as_float(np.float32, probabilities(), random_weights()), LABELS["random"]
  order = np.array([2, 0, 1])  # The new channel i shows the old channel order[i].
  known = (label >= 0) & (label < CLASSES)
  renamed = np.where(known, np.argsort(order)[label % CLASSES], label).astype(np.int32)
  value, fields, gradient, by_weights = differentiate(p, label, weights, **options)
  reordered = differentiate(
    p[..., order], renamed, jax.tree.map(lambda w: w[order], weights), **options
  )
  expected = (value, fields, gradient[..., order], jax.tree.map(lambda w: w[order], by_weights))
  for a, b in zip(jax.tree.leaves(reordered), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_affinity_loss_of_a_batch_adds_up_its_images():
  (p,), label = as_float(np.float32, probabilities()), LABELS["random"]
  losses = lambda *images: differentiate(
    p[np.array(images)], label[np.array(images)], ones(), **DEFAULT
  )[1]
  for batch, first, second in zip(losses(0, 1), losses(0, 0), losses(1, 1), strict=True):
    assert np.all(first.count != second.count)
    np.testing.assert_array_equal(2 * batch.count, (first + second).count)
    np.testing.assert_allclose(2 * batch.total, (first + second).total, rtol=1e-5)


@each_option
def test_affinity_loss_ignores_unlabeled_pixels(options):
  label = LABELS["random"]
  unlabeled = (label < 0) | (label >= CLASSES)
  (p, weights) = as_float(np.float32, extreme_probabilities(), random_weights())
  value, _, gradient, _ = differentiate(p, label, weights, **options)
  assert np.all(gradient[unlabeled] == 0) and np.any(gradient[~unlabeled] != 0)
  changed_p = jnp.where(unlabeled[..., None], p[..., ::-1] / 2, p)
  changed_value, *_ = differentiate(changed_p, label, weights, **options)
  assert changed_value == value


def test_affinity_loss_is_scaled_by_equal_weights():
  (p,), label = as_float(np.float32, probabilities()), LABELS["random"]
  value, _, gradient, _ = differentiate(p, label, **DEFAULT)
  weights = jax.tree.map(lambda w: w / len(SIZES), ones())
  scaled, _, by_p, _ = differentiate(p, label, weights, **DEFAULT)
  np.testing.assert_allclose(len(SIZES) * scaled, value, rtol=1e-6)
  np.testing.assert_allclose(len(SIZES) * by_p, gradient, rtol=1e-5, atol=1e-7)


@each_option
def test_affinity_loss_is_linear_in_the_weights(options):
  (p,), label = as_float(np.float32, probabilities()), LABELS["random"]
  a, b = as_float(np.float32, random_weights(0), random_weights(1))
  both = jax.tree.map(lambda a, b: a + 2 * b, a, b)
  (of_a, *_, slope), (of_b, *_), (of_both, *_, slope_of_both) = (
    differentiate(p, label, w, **options) for w in (a, b, both)
  )
  np.testing.assert_allclose(of_both, of_a + 2 * of_b, rtol=1e-5)
  for x, y in zip(slope, slope_of_both, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-6)
  # Linear without a constant: the value is the slope times the weights.
  dot = sum(jnp.sum(w * s) for w, s in zip(a, slope, strict=True))
  np.testing.assert_allclose(of_a, dot, rtol=1e-5)


@each_option
def test_affinity_loss_falls_with_the_probabilities_and_rises_with_the_weights(options):
  label = LABELS["diagonal line"]
  p, weights = as_float(np.float32, probabilities(spread=0.3), random_weights())
  start, _, by_p, by_weights = differentiate(p, label, weights, **options)
  rate = 0.02 / float(jnp.linalg.norm(by_p))
  lower, *_ = differentiate(p - rate * by_p, label, weights, **options)
  stronger = jax.tree.map(lambda w, slope: w + 0.1 * slope, weights, by_weights)
  higher, *_ = differentiate(p, label, stronger, **options)
  assert lower < start < higher


def test_affinity_loss_of_the_truth_is_zero():
  label = LABELS["checkerboard"]
  truth = np.eye(CLASSES, dtype=np.float32)[label]
  value, fields, gradient, _ = differentiate(truth, label, ones(), **DEFAULT)
  assert value == 0 and np.all(fields.edge.count > 0) and np.all(fields.non_edge.count > 0)
  assert np.all(gradient == 0)


def test_affinity_loss_has_no_gradient_at_edges_beyond_the_margin():
  p = jnp.array([[0.99, 0.01], [0.01, 0.99]]).reshape(1, 1, 2, 2)
  label = np.array([[[0, 1]]], np.int32)
  divergence = 0.98 * np.log(99)
  for margin in (divergence - 0.1, divergence + 0.1):
    value, _, gradient, _ = differentiate(p, label, sizes=(3,), margin=float(margin))
    inside = margin > divergence
    np.testing.assert_allclose(value, max(0, margin - divergence), atol=1e-5)
    assert np.all(gradient != 0) if inside else np.all(gradient == 0)


def test_affinity_loss_counts_beyond_the_integers_of_a_float32():
  label = (np.random.default_rng(0).random((1, 2100, 2100)) < 0.3).astype(np.int32)
  # Only counts leave the compiled function, so that nothing else is computed.
  count = jax.jit(
    lambda label: [
      moments.count for moments in affinity_loss(jnp.zeros((*label.shape, 9)), label, sizes=(3,))
    ]
  )
  pairs = edges = 0
  for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
    a = label[0, dy:, max(dx, 0) : label.shape[2] + min(dx, 0)]
    b = label[0, : label.shape[1] - dy, max(-dx, 0) : label.shape[2] - max(dx, 0)]
    pairs, edges = pairs + 2 * a.size, edges + 2 * np.sum(a != b)
  edge, non_edge = count(label)
  assert 2 * edges > 2**24
  np.testing.assert_allclose(edge, 2 * edges, rtol=2e-7)
  np.testing.assert_allclose(non_edge, 9 * pairs - 2 * edges, rtol=2e-7)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"neighbors": "some"}, "unknown neighbors 'some'; known: corners, full"),
    ({"ignore": "none"}, "unknown ignore 'none'; known: pair, opposite"),
    ({"weight_by": "size"}, "unknown weight_by 'size'; known: center, channel"),
    ({"sizes": (3, 4)}, "size 4; expected an odd size"),
    ({"sizes": (1,)}, "size 1; expected an odd size"),
    ({"sizes": ()}, "at least one size"),
  ],
)
def test_affinity_loss_refuses_impossible_options(options, message):
  (p,) = as_float(np.float32, probabilities())
  with pytest.raises(ValueError, match=message):
    affinity_loss(p, LABELS["random"], **options)


def test_affinity_loss_has_the_same_counts_for_any_integer_type_and_precision():
  rng = np.random.default_rng(3)
  label = rng.integers(0, 3, (1, 30, 40)).astype(np.uint8)
  label[rng.random(label.shape) < 0.2] = 255
  p = jax.nn.softmax(jnp.array(rng.normal(size=(1, 30, 40, 3)), jnp.float32))
  expected = affinity_loss(p, label.astype(np.int32), sizes=(3,))
  for dtype in (jnp.float32, jnp.bfloat16):
    loss = affinity_loss(p.astype(dtype), label, sizes=(3,))
    for mean, expected_mean in zip(loss, expected, strict=True):
      assert mean.count == expected_mean.count
      np.testing.assert_allclose(mean.total, expected_mean.total, rtol=2e-2)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3)])
def test_affinity_loss_of_nothing_is_zero_as_in_compiled_functions(shape):
  probabilities, label = jnp.zeros(shape), jnp.zeros(shape[:3], int)
  loss = affinity_loss(probabilities, label, sizes=(3,))
  for terms in (loss.edge, loss.non_edge):
    assert float(terms.total[0]) == float(terms.count[0]) == float(terms.mean()[0]) == 0
