"""ResNet and FCRN: published parameter counts, strides, and the up-convolution's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones.resnet import BLOCKS, PLACEMENTS, Bottleneck, ResNet
from asmjax.models.layers import ConvBlock, Norm
from asmjax.models.predictors.fcrn import FCRN, UpConv, UpProjection
from tests.oracles import arrays as reference

PLAIN = ConvBlock(norm=Norm("none"))


def normal(*shape, seed=0):
  return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def filled(module, x, **options):
  """Random variables that keep the scale, without compiling their initialization."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, **options))
  return jax.tree.map(
    lambda leaf: (
      rng.normal(size=leaf.shape).astype(np.float32)
      * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
    ),
    shapes,
  )


def outputs_and_count(module, size):
  outputs, variables = jax.eval_shape(
    lambda: module.init_with_output(jax.random.key(0), jnp.zeros((1, *size, 3)), train=False)
  )
  return outputs, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("layers, published", [(50, 25_557_032), (101, 44_549_160)])
def test_resnet_has_the_published_number_of_parameters(layers, published):
  features, count = outputs_and_count(ResNet(BLOCKS[layers]), (224, 224))
  assert count + 2048 * 1000 + 1000 == published
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    2: (112, 112, 64),
    4: (56, 56, 256),
    8: (28, 28, 512),
    16: (14, 14, 1024),
    32: (7, 7, 2048),
  }
  assert layers == 3 * sum(BLOCKS[layers]) + 2


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_resnet_dilated_in_place_of_strides_has_the_same_features_more_densely(placement):
  x = normal(1, 67, 90, 3)
  nets = {
    stride: ResNet((2, 2, 2, 2), 4, placement, output_stride=stride, norm=PLAIN.norm)
    for stride in (32, 16, 8)
  }
  variables = filled(nets[32], x, train=False)
  run = jax.jit(lambda: {s: net.apply(variables, x, train=False) for s, net in nets.items()})
  for output, features in run().items():
    for stride, coarse in features.items():
      size = tuple(-(-side // min(stride, output)) for side in (67, 90))
      assert coarse.shape[1:3] == size
  dense, middle, coarse = (run()[stride] for stride in (8, 16, 32))
  assert np.std(coarse[32]) > 0.01 and list(coarse) == [2, 4, 8, 16, 32]
  for stride, expected in coarse.items():
    for features, output in ((dense, 8), (middle, 16)):
      every = max(stride // output, 1)
      np.testing.assert_allclose(
        features[stride][:, ::every, ::every], expected, rtol=1e-4, atol=1e-5
      )


def test_bottleneck_is_three_convolutions_and_a_shortcut():
  x = normal(1, 7, 6, 5)
  block = Bottleneck(2, 2, 1, True, PLAIN)
  variables = filled(block, x)
  conv = lambda name, x, stride: reference.convolve(
    x, *(variables["params"][name][key] for key in ("kernel", "bias")), stride, 1
  )
  y = np.maximum(conv("conv2", np.maximum(conv("conv1", x, 2), 0), 1), 0)
  expected = np.maximum(conv("conv3", y, 1) + conv("shortcut", x, 2), 0)
  np.testing.assert_allclose(block.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


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
  variables = filled(module, x)
  params = variables["params"]
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
  outputs, count = outputs_and_count(FCRN({"depth": 1}), (512, 512))
  assert round(count / 1e6, 1) == 63.6
  assert outputs["depth"].shape == (1, 256, 256, 1)


@pytest.mark.parametrize("size", [(540, 540), (228, 304), (33, 50)])
def test_fcrn_halves_any_size_and_rounds_up(size):
  outputs, _ = outputs_and_count(FCRN({"a": 2, "b": 3}, ResNet((1, 1, 1, 1), 2)), size)
  shape = (1, -(-size[0] // 2), -(-size[1] // 2))
  assert outputs["a"].shape == (*shape, 2) and outputs["b"].shape == (*shape, 3)


def test_fcrn_drops_in_training_and_every_layer_learns():
  x = normal(1, 40, 33, 3)
  net = FCRN({"depth": 1}, ResNet((1, 1, 1, 1), 4, norm=Norm("none")), norm=Norm("none"))
  variables = filled(net, x, train=False)

  def loss(variables, key):
    return jnp.sum(net.apply(variables, x, train=True, rngs={"dropout": key})["depth"] ** 2)

  step = jax.jit(jax.value_and_grad(loss))
  value, grads = step(variables, jax.random.key(0))
  assert value != step(variables, jax.random.key(1))[0]
  flat = jax.tree_util.tree_leaves_with_path(grads)
  assert len(flat) == 2 * (1 + 4 * 4 + 1 + 4 * 2 + 1)
  idle = [jax.tree_util.keystr(path) for path, leaf in flat if not np.any(leaf)]
  assert not idle
