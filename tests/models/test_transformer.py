"""Layers of transformers against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.models.transformer import MLP, DropPath, LayerNorm, attend, drop_path_rates


def normal(*shape):
  return jnp.array(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_attend_averages_values_by_the_softmax_of_scores_in_each_head():
  queries, keys, values = normal(2, 5, 6), normal(2, 3, 6), normal(3, 3, 6)[1:]
  heads = []
  for q, k, v in zip(*(np.split(x, 2, -1) for x in (queries, keys, values)), strict=True):
    scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(3))
    heads.append(scores / scores.sum(-1, keepdims=True) @ v)
  attended = attend(queries, keys, values, num_heads=2)
  np.testing.assert_allclose(attended, np.concatenate(heads, -1), rtol=1e-5, atol=1e-6)


def test_layer_norm_centers_before_it_squares():
  """The mean of squares of such values has no digits left for their variance."""
  x = 1e4 + normal(2, 3, 4, 64)
  y = LayerNorm(epsilon=0.0).apply({"params": {"scale": np.ones(64), "bias": np.zeros(64)}}, x)
  x = np.asarray(x, np.float64)
  expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
  np.testing.assert_allclose(y, expected, atol=2e-3)


def test_mlp_has_the_exact_gelu_between_its_layers():
  x = normal(2, 3, 4)
  params = {"fc1": normal(4, 5), "fc2": normal(5, 4)}
  zeros = {"fc1": np.zeros(5), "fc2": np.zeros(4)}
  variables = {name: {"kernel": params[name], "bias": zeros[name]} for name in params}
  hidden = x @ params["fc1"]
  hidden = hidden * jax.scipy.stats.norm.cdf(hidden)
  y = MLP(5).apply({"params": variables}, x, train=False)
  np.testing.assert_allclose(y, hidden @ params["fc2"], rtol=1e-5, atol=1e-5)


def test_drop_path_drops_entire_examples_and_replays():
  x = 9 + normal(64, 3, 2, 5)
  drop = lambda key, train=True: DropPath(0.5).apply(
    {}, x, train=train, rngs={"dropout": jax.random.key(key)}
  )
  y = drop(0)
  kept = np.any(y, (1, 2, 3))
  assert 16 < kept.sum() < 48
  np.testing.assert_array_equal(y, 2 * x * kept[:, None, None, None])
  np.testing.assert_array_equal(drop(0), y)
  assert np.any(drop(1) != y)
  np.testing.assert_array_equal(drop(0, train=False), x)


def test_drop_path_rates_grow_linearly():
  np.testing.assert_allclose(drop_path_rates(0.3, 4), (0, 0.1, 0.2, 0.3))
  assert drop_path_rates(0.1, 1) == (0.0,)
