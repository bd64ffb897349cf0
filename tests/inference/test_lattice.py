"""Lattice filters against sums over all pairs of points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.inference.lattice import build
from tests.oracles import crf as reference_crf

HEIGHT, WIDTH = 12, 14
apply = jax.jit(lambda lattice, values: lattice(values))


def root(lattice):
  """D^1/2, (n, 1): the weights around a point add up to its inverse."""
  return 1 / lattice.weights.sum(axis=0)[:, None]


def points(dimensions, deviation, seed=0):
  """Positions of a grid, and smoothly varying further features with a little noise."""
  places = reference_crf.positions(HEIGHT, WIDTH, deviation)
  rng = np.random.default_rng(seed)
  waves = np.sin(places @ rng.normal(size=(2, dimensions - 2)))
  return np.concatenate([places, waves + 0.1 * rng.normal(size=waves.shape)], axis=1)


def values(channels=3, seed=1):
  return np.random.default_rng(seed).random((HEIGHT * WIDTH, channels)).astype(np.float32)


def dense(lattice):
  """The matrix of a filter."""
  return np.asarray(apply(lattice, np.eye(lattice.index.shape[1], dtype=np.float32)))


@pytest.mark.parametrize(
  "dimensions, deviation, fill, worst",
  [
    (2, 2.0, False, 0.03),
    (2, 6.0, False, 0.01),
    (3, 3.0, False, 0.03),
    (5, 4.0, False, 0.04),
    (5, 4.0, True, 0.02),
  ],
)
def test_lattice_means_are_near_those_of_the_exact_gaussian(dimensions, deviation, fill, worst):
  features, x = points(dimensions, deviation), values()
  kernel = reference_crf.gaussian(features)
  lattice = build(features, fill=fill)
  filtered = apply(lattice, x * root(lattice)) / root(lattice)
  expected = kernel @ x / kernel.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(filtered, expected, atol=worst)


def test_lattice_is_near_the_exact_filter():
  features, x = points(3, 3.0), values()
  expected = reference_crf.normalized(reference_crf.gaussian(features)) @ x
  np.testing.assert_allclose(apply(build(features), x), expected, atol=0.05)


@pytest.mark.parametrize("fill", [False, True])
def test_lattice_keeps_constants_except_for_the_normalization(fill):
  lattice = build(points(5, 4.0), fill=fill)
  np.testing.assert_allclose(apply(lattice, root(lattice)), root(lattice), rtol=1e-5)


def test_build_gives_barycentric_weights():
  features = np.concatenate([points(5, 4.0), np.zeros((1, 5)), np.full((1, 5), 1e3)])
  lattice = build(features)
  weights = lattice.weights * root(lattice).T
  assert weights.min() >= -1e-12
  around = np.sort(lattice.index, axis=0)
  assert np.all(np.diff(around, axis=0) > 0), "a point has the same vertex twice"
  assert np.all(weights[:, -2] == [1, 0, 0, 0, 0, 0]), "the origin is a vertex"


@pytest.mark.parametrize("fill", [False, True])
def test_build_gives_mutual_neighbors(fill):
  neighbors = build(points(3, 1.0), fill=fill).neighbors
  nowhere = neighbors.shape[2] - 1
  for before, after in neighbors:
    for forward, backward in ((before, after), (after, before)):
      linked = np.flatnonzero(forward != nowhere)
      assert len(linked) and np.all(backward[forward[linked]] == linked)
      assert np.all(forward[linked] != linked)


def test_build_is_periodic():
  features, x = points(2, 1.5), values()
  # From a vertex to the next one of remainder 0 along an axis, in units of the features.
  period = np.array([3 * np.sqrt(2), 0]) / (np.sqrt(2 / 3) * 3)
  near, far = (apply(build(features + k * 3 * period), x) for k in (0, 5))
  np.testing.assert_allclose(near, far, atol=1e-4)


def test_lattice_gradient_is_the_transpose():
  lattice = build(points(3, 1.0))
  cotangent = jnp.asarray(values(seed=2))
  matrix = dense(lattice)
  _, pull = jax.vjp(lattice, jnp.asarray(values()))
  np.testing.assert_allclose(pull(cotangent)[0], matrix.T @ cotangent, atol=1e-5)
  assert np.abs(matrix - matrix.T).max() > 1e-4, "symmetric: the order of axes is not tested"


def test_padded_changes_no_values():
  lattice, x = build(points(3, 2.0)), values()
  more = lattice.padded(lattice.neighbors.shape[2] + 100)
  np.testing.assert_array_equal(apply(lattice, x), apply(more, x))
  with pytest.raises(ValueError, match="vertices; expected at most 3"):
    lattice.padded(3)


def test_round_up_gives_few_sizes():
  sizes = {build(points(2, sd)).neighbors.shape[2] for sd in np.linspace(0.9, 3.1, 23)}
  assert sizes <= {40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}
  assert len(sizes) > 3


def test_padded_lattices_of_one_size_stack():
  x = np.stack([values(), values(seed=2)])
  lattices = [build(points(3, 2.0, seed)) for seed in (0, 1)]
  size = max(lattice.neighbors.shape[2] for lattice in lattices)
  stacked = jax.tree.map(lambda *a: jnp.stack(a), *(lattice.padded(size) for lattice in lattices))
  filtered = jax.jit(jax.vmap(lambda lattice, x: lattice(x)))(stacked, x)
  for k in (0, 1):
    np.testing.assert_allclose(filtered[k], apply(lattices[k], x[k]), atol=1e-6)


@pytest.mark.parametrize(
  "value, message",
  [(np.nan, "not finite; expected finite"), (1e9, "expected a product below 2\\^63")],
)
def test_build_names_impossible_features(value, message):
  features = np.eye(5)
  features[0, :] = value
  with pytest.raises(ValueError, match=message):
    build(features * np.arange(1, 6)[:, None])
