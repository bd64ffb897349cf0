"""FCRN: its published number of parameters, and the definitions of its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones.resnet import ResNet
from asmjax.models.layers import ConvBlock, Norm
from asmjax.models.predictors.fcrn import FCRN, UpConv, UpProjection
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

PLAIN = ConvBlock(norm=Norm("none"))


def normal(*shape, seed=0):
  return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [(4, 3), (1, 5)])
def test_up_conv_is_unpooling_and_a_5x5_convolution(size):
  x = normal(2, *size, 3)
  layer = UpConv(4)
  params = {"kernel": normal(5, 5, 3, 4, seed=1), "bias": normal(4, seed=2)}
  unpooled = np.zeros((2, 2 * size[0], 2 * size[1], 3))
  unpooled[:, ::2, ::2] = x
  expected = reference.convolve(unpooled, *map(np.asarray, params.values()), 1, 1)
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


def test_up_conv_keeps_the_scale_of_its_input():
  x = normal(1, 16, 16, 32)
  y, _ = jax.jit(lambda: UpConv(32).init_with_output(jax.random.key(0), x))()
  assert np.mean(y**2) == pytest.approx(2, rel=0.2)


def test_up_projection_adds_two_branches():
  x = normal(1, 3, 4, 4)
  module = UpProjection(2, PLAIN)
  variables = backbones.initial_layer(module, x)
  params = jax.tree.map(np.asarray, variables["params"])
  unpooled = np.zeros((1, 6, 8, 4))
  unpooled[:, ::2, ::2] = x
  main, projected = (
    reference.convolve(
      unpooled, params["conv1"]["kernel"][..., half], params["conv1"]["bias"][half], 1, 1
    )
    for half in (slice(0, 2), slice(2, 4))
  )
  main = reference.convolve(
    np.maximum(main, 0), params["conv2"]["kernel"], params["conv2"]["bias"], 1, 1
  )
  np.testing.assert_allclose(
    module.apply(variables, x), np.maximum(main + projected, 0), rtol=1e-4, atol=1e-5
  )


def test_fcrn_50_has_the_published_number_of_parameters_and_half_the_resolution():
  outputs, variables = backbones.shapes(FCRN({"depth": 1}), 512, 512)
  assert round(backbones.count(variables["params"]) / 1e6, 1) == 63.6
  assert outputs["depth"].shape == (1, 256, 256, 1)


@pytest.mark.parametrize("size", [(540, 540), (228, 304), (33, 50)])
def test_fcrn_halves_any_size_and_rounds_up(size):
  outputs, _ = backbones.shapes(FCRN({"a": 2, "b": 3}, ResNet((1, 1, 1, 1), 2)), *size)
  shape = (1, -(-size[0] // 2), -(-size[1] // 2))
  assert outputs["a"].shape == (*shape, 2) and outputs["b"].shape == (*shape, 3)


def test_fcrn_drops_in_training_and_every_layer_learns():
  x = normal(1, 40, 33, 3)
  net = FCRN({"depth": 1}, ResNet((1, 1, 1, 1), 4, norm=Norm("none")), norm=Norm("none"))
  variables = backbones.initial(net, x)

  def loss(variables, key):
    return jnp.sum(net.apply(variables, x, train=True, rngs={"dropout": key})["depth"] ** 2)

  step = jax.jit(jax.value_and_grad(loss))
  value, grads = step(variables, jax.random.key(0))
  assert value != step(variables, jax.random.key(1))[0]
  flat = jax.tree_util.tree_leaves_with_path(grads)
  assert len(flat) == 2 * (1 + 4 * 4 + 1 + 4 * 2 + 1)
  idle = [jax.tree_util.keystr(path) for path, leaf in flat if not np.any(leaf)]
  assert not idle
