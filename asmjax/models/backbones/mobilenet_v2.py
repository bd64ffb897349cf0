"""MobileNet, version 2: inverted residuals with linear bottlenecks (Sandler et al. 2018)."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features

# Expansion, channels, number and first stride of blocks (Sandler et al. 2018, Table 2).
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
    activation: of all layers but the projections.
    width: the factor on all numbers of channels, which are rounded to multiples of 8; the last
      convolution is not narrowed.
    output_stride: of the last block: 32, 16 or 8; convolutions after a stride that is given up
      are dilated.
    top: end in the 1x1 convolution to 1280 channels, not in the last block's 320.
    remat: compute features of blocks again in the backward pass instead of keeping them.

  Raises:
    ValueError: an unknown output stride.
  """

  activation: Callable[[Array], Array] = dataclasses.field(default=jax.nn.relu6, kw_only=True)
  width: float = 1.0
  top: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """The last features at each stride of 2, 4, 8, 16 and 32, dilated or not.

    With an output stride of 8 those of 16 and 32 have an eighth of the size too.
    """
    conv_block = self.conv_block(train=train)
    x = conv_block(x, features=rounded(32 * self.width), stride=2, name="conv1")
    rows = [
      (expansion, channels, 1 if j else stride)
      for expansion, channels, count, stride in V2_BLOCKS
      for j in range(count)
    ]
    features, nominal = {}, 2
    for i, (expansion, channels, stride) in enumerate(rows, 1):
      wide, channels = expansion * x.shape[-1], rounded(channels * self.width)
      adds = stride == 1 and channels == x.shape[-1]
      nominal, *strides = self.give_up_stride(nominal, stride)
      block = _block(f"block{i}", wide, channels, *strides, train=train)
      y = self.maybe_remat(block)(self, x)
      x = features[nominal] = x + y if adds else y
    if self.top:
      wide = rounded(1280 * max(self.width, 1.0))
      features[nominal] = conv_block(x, features=wide, kernel=1, name="conv2")
    return features


def rounded(channels: int | float) -> int:
  """The nearest multiple of 8 that is at least 8 and at least nine tenths of `channels`."""
  nearest = max(int(channels + 4) // 8 * 8, 8)
  return nearest + 8 if nearest < 0.9 * channels else nearest


def _block(name: str, wide: int, features: int, stride: int, dilation: int, *, train: bool):
  """A function of a network and its features that makes the layers of one block in the network."""

  def block(net, x):
    conv_block = net.conv_block(train=train)
    if wide > x.shape[-1]:
      x = conv_block(x, features=wide, kernel=1, name=f"{name}_expand")
    x = conv_block(
      x, features=wide, stride=stride, dilation=dilation, groups=wide, name=f"{name}_depthwise"
    )
    return conv_block(x, features=features, kernel=1, activate=False, name=f"{name}_project")

  return block
