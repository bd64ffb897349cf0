"""MobileNet, version 1: depthwise separable convolutions (Howard et al. 2017)."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.utils.ranges import Positive

# Channels and stride of each block (Howard et al. 2017, Table 1).
V1_BLOCKS = (
  (64, 1),
  (128, 2),
  (128, 1),
  (256, 2),
  (256, 1),
  (512, 2),
  *((512, 1),) * 5,
  (1024, 2),
  (1024, 1),
)


class MobileNetV1(Backbone):
  """MobileNet (Howard et al. 2017) without its classifier.

  Released weights were trained with ReLU6 after every normalization, where the paper's Fig. 3 has
  ReLU. With a classifier of 1000 classes it has 4.2 million parameters and does 569 million
  multiply-adds for 224 x 224 pixels (Table 6).

  Parameters: `conv1`, then `block{i}_depthwise` and `block{i}_pointwise`, i = 1 to 13; each with
  its normalization under the name plus `_norm`. Convolutions have a bias only where there is no
  normalization.

  Attributes:
    activation: Function after each normalization.
    width: Factor alpha on all numbers of channels.
  """

  activation: Callable[[Array], Array] = dataclasses.field(default=jax.nn.relu6, kw_only=True)
  width: Positive = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the last features of each nominal stride; see `Backbone`."""
    x = self.conv_block(train=train)(x, features=int(32 * self.width), stride=2, name="conv1")
    features, nominal = {}, 2
    for i, (channels, stride) in enumerate(V1_BLOCKS, 1):
      nominal, *strides = self.give_up_stride(nominal, stride)
      block = _make_block(f"block{i}", int(channels * self.width), *strides, train=train)
      x = self.maybe_remat(block)(self, x)
      features[nominal] = x
    return features

  def layer_groups(self) -> tuple[str, ...]:
    """Names the first convolution, then each block; see `Backbone.layer_groups`."""
    return ("conv1", *(f"block{i}_" for i in range(1, len(V1_BLOCKS) + 1)))


def _make_block(name: str, features: int, stride: int, dilation: int, *, train: bool):
  """Returns a function of a network and features that applies a block's layers in the network."""

  def block(net: Backbone, x: Array) -> Array:
    conv_block = net.conv_block(train=train)
    return conv_block.separable(x, features=features, stride=stride, dilation=dilation, name=name)

  return block
