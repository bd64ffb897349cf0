"""MobileNet, version 2: inverted residuals with linear bottlenecks (Sandler et al. 2018)."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.utils.ranges import Positive

# Expansion, channels, number of blocks and stride of the first of them, row by row (Sandler et al.
# 2018, Table 2).
V2_BLOCKS = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)


class MobileNetV2(Backbone):
  """MobileNetV2 (Sandler et al. 2018) without its classifier.

  Convolutions are padded by the same number of pixels on all sides, as in torchvision's and in
  the DeepLab model zoo's networks. The latter have `top=False` and `Norm(epsilon=1e-3)`. With
  `output_stride=8` they are dilated by 2 from block 8 on and by 4 from block 15 on: TF-slim's
  `expanded_conv_7` and `expanded_conv_14`, which are counted from 0.

  With a classifier of 1000 classes it has 3,504,872 parameters and does 300 million multiply-adds
  for 224 x 224 pixels (Table 4).

  Parameters: `conv1`; then `block{i}_expand`, which the first block lacks, `block{i}_depthwise`
  and `block{i}_project`, i = 1 to 17; then `conv2`. Each has its normalization under the name
  plus `_norm`.

  Attributes:
    activation: Function after all layers but the projections.
    width: Factor on all numbers of channels, which are rounded to multiples of 8; the last
      convolution is not narrowed.
    top: Whether the network ends in the 1x1 convolution to 1280 channels, or in the last block's
      320.
  """

  activation: Callable[[Array], Array] = dataclasses.field(default=jax.nn.relu6, kw_only=True)
  width: Positive = 1.0
  top: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the last features of each nominal stride; see `Backbone`."""
    conv_block = self.conv_block(train=train)
    x = conv_block(x, features=round_channels(32 * self.width), stride=2, name="conv1")
    rows = [
      (expansion, channels, 1 if j else stride)
      for expansion, channels, count, stride in V2_BLOCKS
      for j in range(count)
    ]
    features, nominal = {}, 2
    for i, (expansion, channels, stride) in enumerate(rows, 1):
      expanded, channels = expansion * x.shape[-1], round_channels(channels * self.width)
      has_shortcut = stride == 1 and channels == x.shape[-1]
      nominal, *strides = self.give_up_stride(nominal, stride)
      block = _make_block(f"block{i}", expanded, channels, *strides, train=train)
      y = self.maybe_remat(block)(self, x)
      x = features[nominal] = x + y if has_shortcut else y
    if self.top:
      channels = round_channels(1280 * max(self.width, 1.0))
      features[nominal] = conv_block(x, features=channels, kernel=1, name="conv2")
    return features

  def layer_groups(self) -> tuple[str, ...]:
    """Names the first convolution, each block, and the last one; see `Backbone.layer_groups`."""
    blocks = sum(count for _, _, count, _ in V2_BLOCKS)
    return (
      "conv1",
      *(f"block{i}_" for i in range(1, blocks + 1)),
      *(("conv2",) if self.top else ()),
    )


def round_channels(channels: int | float) -> int:
  """Rounds to the nearest multiple of 8 that is at least 8 and at least 0.9 times `channels`.

  As `_make_divisible` of TF-Slim and torchvision, whose weights depend on it.
  """
  nearest = max(int(channels + 4) // 8 * 8, 8)
  return nearest + 8 if nearest < 0.9 * channels else nearest


def _make_block(
  name: str, expanded: int, features: int, stride: int, dilation: int, *, train: bool
):
  """Returns a function of a network and features that applies a block's layers in the network."""

  def block(net: Backbone, x: Array) -> Array:
    conv_block = net.conv_block(train=train)
    if expanded > x.shape[-1]:
      x = conv_block(x, features=expanded, kernel=1, name=f"{name}_expand")
    x = conv_block.depthwise(x, stride=stride, dilation=dilation, name=f"{name}_depthwise")
    return conv_block(x, features=features, kernel=1, activate=False, name=f"{name}_project")

  return block
