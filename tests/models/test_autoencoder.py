"""The architecture of the structure analyzer and regularizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.critics.autoencoder import StructureAutoencoder


def kernels(variables):
  flat = jax.tree_util.tree_leaves_with_path(variables["params"])
  return {path[0].key: leaf.shape for path, leaf in flat if path[-1].key == "kernel"}


def test_structure_autoencoder_starts_with_tensorflows_uniform_biases():
  truth = jnp.zeros((1, 8, 8, 3))
  init = jax.jit(StructureAutoencoder((64, 128)).init)
  params = init(jax.random.key(0), truth)["params"]
  for layer in ("conv1", "conv2", "conv3"):
    bias, limit = params[layer]["bias"], (3 / params[layer]["bias"].size) ** 0.5
    assert 0.8 * limit < bias.max() <= limit and 0.8 * limit < -bias.min() <= limit
    np.testing.assert_allclose(bias.std(), limit / 3**0.5, rtol=0.2)


def shapes(module, x, **kwargs):
  return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, **kwargs))


@pytest.mark.parametrize("filters, layers", [((4, 4, 4), 5), ((4, 4, 4, 4), 7), ((2,) * 5, 9)])
def test_structure_autoencoder_has_the_papers_number_of_layers(filters, layers):
  net = StructureAutoencoder(filters)
  (taps, rebuilt), variables = shapes(net, jnp.zeros((1, 21, 30, 3)))
  assert tuple(taps) == net.layers == tuple(f"conv{i + 1}" for i in range(layers))
  assert len(kernels(variables)) == layers + 1
  assert rebuilt.shape == (1, 21, 30, 3)
  assert taps["conv1"].shape == (1, 11, 15, filters[0])


def test_structure_autoencoder_has_a_skip_from_the_first_to_the_last_layer():
  net = StructureAutoencoder((4, 6, 8))
  _, variables = shapes(net, jnp.zeros((1, 16, 16, 3)))
  assert kernels(variables)["reconstruction"] == (1, 1, 4 + 4, 3)
  assert kernels(variables)["conv5"] == (3, 3, 6 + 6, 4)


def test_structure_autoencoder_returns_features_before_the_relu():
  net = StructureAutoencoder((4, 6))
  x = jnp.array(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), jnp.float32)
  (taps, _), _ = jax.jit(lambda: net.init_with_output(jax.random.key(0), x))()
  assert all(np.any(tap < 0) for tap in taps.values())
