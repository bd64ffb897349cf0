"""ResNet against published counts and its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones.resnet import BLOCKS, PLACEMENTS, Bottleneck, ResNet
from asmjax.models.layers import ConvBlock, Norm
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference


@pytest.mark.parametrize("layers, published", [(50, 25_557_032), (101, 44_549_160)])
def test_resnet_has_the_published_number_of_parameters(layers, published):
  features, variables = backbones.shapes(ResNet(BLOCKS[layers]), 224, 224)
  assert backbones.count(variables["params"]) + 2048 * 1000 + 1000 == published
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
  make = lambda **options: ResNet((2, 2, 2, 2), 4, placement, **options)
  backbones.assert_rounded_up(make, 67, 90)
  backbones.assert_denser(make, backbones.image(67, 90))


def test_bottleneck_is_three_convolutions_and_a_shortcut():
  x = jnp.array(np.random.default_rng(0).normal(size=(1, 7, 6, 5)), jnp.float32)
  block = Bottleneck(2, 2, 1, True, ConvBlock(norm=Norm("none")))
  variables = backbones.initial_layer(block, x)
  conv = lambda name, x, stride: reference.convolve(
    x, *(np.asarray(variables["params"][name][key]) for key in ("kernel", "bias")), stride, 1
  )
  y = np.maximum(conv("conv2", np.maximum(conv("conv1", x, 2), 0), 1), 0)
  expected = np.maximum(conv("conv3", y, 1) + conv("shortcut", x, 2), 0)
  np.testing.assert_allclose(block.apply(variables, x), expected, rtol=1e-4, atol=1e-5)
