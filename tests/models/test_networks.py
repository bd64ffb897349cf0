"""The predictor's and the analyzer's architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.models.layers import Norm
from asmjax.models.predictors import UNet


def kernels(variables):
  flat = jax.tree_util.tree_leaves_with_path(variables["params"])
  return {path[0].key: leaf.shape for path, leaf in flat if path[-1].key == "kernel"}


def test_structure_autoencoder_starts_with_tensorflows_uniform_biases():
  truth = jnp.zeros((1, 8, 8, 3))
  params = StructureAutoencoder((64, 128)).init(jax.random.key(0), truth)["params"]
  for layer in ("conv1", "conv2", "conv3"):
    bias, limit = params[layer]["bias"], (3 / params[layer]["bias"].size) ** 0.5
    assert 0.8 * limit < bias.max() <= limit and 0.8 * limit < -bias.min() <= limit
    np.testing.assert_allclose(bias.std(), limit / 3**0.5, rtol=0.2)


def shapes(module, x, **kwargs):
  return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, **kwargs))


@pytest.mark.parametrize("stride", [1, 2])
def test_unet_of_four_levels_has_seven_convolutional_layers(stride):
  net = UNet({"segmentation": 2}, levels=4, width=4, stride=stride)
  outputs, variables = shapes(net, jnp.zeros((1, 32, 48, 3)), train=False)
  assert len(kernels(variables)) == 7 + 1
  assert outputs["segmentation"].shape == (1, 32 // stride, 48 // stride, 2)
  assert kernels(variables)["up1_1"] == (3, 3, 8 + 4, 4)


def test_unet_has_the_levels_widths_convolutions_and_norm_of_its_options():
  net = UNet(
    {"a": 2, "b": 1}, levels=3, width=32, max_width=64, decoder_convs=3, norm=Norm("group")
  )
  outputs, variables = shapes(net, jnp.zeros((1, 13, 10, 3)), train=False)
  shapes_of_kernels = kernels(variables)
  assert len(shapes_of_kernels) == 3 + 2 * 3 + 2 and shapes_of_kernels["down3_1"] == (3, 3, 64, 64)
  assert outputs["a"].shape == (1, 13, 10, 2) and outputs["b"].shape == (1, 13, 10, 1)
  assert "batch_stats" not in variables


def test_unet_logits_depend_on_every_pixel_nearby():
  net = UNet({"segmentation": 1}, levels=3, width=4, norm=Norm("none"))
  x = jnp.array(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.float32)
  variables = jax.jit(lambda: net.init(jax.random.key(0), x, train=False))()
  center = lambda x: net.apply(variables, x, train=False)["segmentation"][0, 8, 8, 0]
  reach = jnp.any(jax.jit(jax.grad(center))(x)[0] != 0, -1)
  assert np.all(reach[4:12, 4:12])


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
