"""The architecture of the structure analyzer and regularizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.critics.autoencoder import StructureAutoencoder
from tests.oracles import arrays as oracle


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


def test_structure_autoencoder_of_bounded_filters_does_not_see_how_long_they_are():
  """All but the last layer's, which no feature depends on."""
  net, x = StructureAutoencoder((4, 6), max_norm=0.5), jnp.ones((1, 8, 8, 2))
  params = jax.jit(net.init)(jax.random.key(0), x)["params"]
  grown = {name: layer | {"kernel": 1e4 * layer["kernel"]} for name, layer in params.items()} | {
    "reconstruction": params["reconstruction"]
  }
  encode = jax.jit(net.apply)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    *(encode({"params": weights}, x) for weights in (params, grown)),
  )


def test_structure_autoencoder_is_its_definition():
  """Two structures; features are those before the ReLU."""
  net, rng = StructureAutoencoder((4, 6, 5)), np.random.default_rng(0)
  x = [rng.normal(size=(2, 16, 24, channels)).astype(np.float32) for channels in (3, 1)]
  variables = jax.jit(net.init)(jax.random.key(0), *x)
  params = jax.device_get(variables["params"])

  def layer(x, name, stride=1):
    return oracle.convolve(x, params[name]["kernel"], params[name]["bias"], stride, 1)

  def join(low, skip):
    doubled = jax.image.resize(low, (*skip.shape[:3], low.shape[-1]), "bilinear")
    return np.concatenate([doubled, skip], -1)

  relu = lambda x: np.maximum(x, 0)
  conv1 = np.concatenate([layer(each, f"conv1_{i}", 2) for i, each in enumerate(x, 1)], -1)
  conv2 = layer(relu(conv1), "conv2", 2)
  conv3 = layer(relu(conv2), "conv3", 2)
  conv4 = layer(relu(conv3), "conv4")
  conv5 = layer(join(relu(conv4), relu(conv2)), "conv5")
  small = layer(join(relu(conv5), relu(conv1)), "reconstruction")
  rebuilt = jax.image.resize(small, (2, 16, 24, 4), "bilinear")
  features, *found = jax.jit(net.apply)(variables, *x)
  expected = zip(net.layers, (conv1, conv2, conv3, conv4, conv5), strict=True)
  for name, value in expected:
    np.testing.assert_allclose(features[name], value, atol=1e-4, err_msg=name)
  np.testing.assert_allclose(np.concatenate(found, -1), rebuilt, atol=1e-4)
