"""DeepLab v2, v3 and v3+: atrous convolutions of several rates (Chen et al. 2018, 2017, 2018)."""

import functools
import operator

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
from asmjax.models.layers import Conv, ConvBlock
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import spatial_size, upsample
from asmjax.utils.ranges import BelowOne, Count, PositiveInt


class DeepLab(Predictor):
  """DeepLab v3 and v3+ (Chen et al. 2017, Sec. 3.3; Chen et al. 2018, Sec. 3).

  Atrous spatial pyramid pooling (ASPP): a 1x1 convolution, 3x3 ones with several rates, and the
  mean over the image, all of them joined by another 1x1 convolution. With `low` a decoder refines
  its result with the features of stride 4.

  The defaults are v3 on ResNet-101. The other published networks:

  - v3+ on Xception-65: `Xception(output_stride=16)`, `low=48, convs=2, separable=True`.
  - The model zoo's MobileNetV2: `MobileNetV2(top=False, output_stride=16)`, `rates=()`.
  - torchvision's v3: output stride 8, `rates=(12, 24, 36), convs=1, dropout=0.5`.

  The model zoo's weights expect images through `asmjax.models.input_transform.SYMMETRIC`, that is
  pixel / 127.5 - 1, and torchvision's through `IMAGENET`; see `asmjax.pretrained.input_transform`.

  Parameters: `backbone`; `aspp_pool`, `aspp0`, and `aspp1` and so on by rate; `project`; `low`;
  `conv1` and so on; `head_{task}`. All but the heads have their normalization under the name
  plus `_norm`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    backbone: Network whose last features are used, and with a decoder those of stride 4.
    rates: Dilations of the 3x3 convolutions of the pyramid. The default is meant for an output
      stride of 16; at 8 the paper doubles them.
    features: Channels of all convolutions but the heads and `low`.
    low: Channels that the features of stride 4 are reduced to; 0 leaves the decoder out.
    convs: Number of 3x3 convolutions before the heads.
    separable: Whether 3x3 convolutions are depthwise ones followed by 1x1 ones.
    dropout: Rate of dropout after the pyramid.
    stride: Stride that the maps are enlarged to, bilinearly, so that losses and critics see the
      borders (Chen et al. 2017, Sec. 4.1); 0 leaves them as they are.
    align_corners: Convention of all resizing; see `asmjax.ops.resize`. It is true in the released
      code, as in its sizes of 321, 513 and 1025 x 2049, and false in torchvision's.

  Raises:
    ValueError: There is a decoder without convolutions.
  """

  backbone: Backbone = ResNet(BLOCKS[101], output_stride=16, placement="first_3x3")
  rates: tuple[int, ...] = (6, 12, 18)
  features: PositiveInt = 256
  low: Count = 0
  convs: Count = 0
  separable: bool = False
  dropout: BelowOne = 0.1
  stride: Count = 0
  align_corners: bool = True

  def __post_init__(self):
    if self.low and not self.convs:
      raise ValueError(f"low={self.low}, convs=0: a decoder needs convolutions to join both maps")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at `stride`, else at the backbone's output stride, with a decoder at 4."""
    conv_block, size = self.conv_block(train=train), spatial_size(x)
    features = self.backbone(x, train=train)
    inputs = (self._pool_pyramid(features[32], conv_block, train=train),)
    if self.low:
      low = conv_block(features[4], features=self.low, kernel=1, name="low")
      inputs = (low, self._upsample(*inputs, spatial_size(low)))
    for i in range(self.convs):
      inputs = (self._conv3x3(*inputs, conv_block=conv_block, name=f"conv{i + 1}"),)
    self.sow("intermediates", "features", self._enlarge(inputs[0], size))
    maps = self.apply_heads(inputs[0])
    return {task: self._enlarge(scores, size) for task, scores in maps.items()}

  def _enlarge(self, x: Array, image_size: tuple[int, int]) -> Array:
    if not self.stride:
      return x
    height, width = (-(-side // self.stride) for side in image_size)
    return self._upsample(x, (height, width))

  def _upsample(self, x: Array, size: tuple[int, int]) -> Array:
    return upsample(x, size, align_corners=self.align_corners)

  def _pool_pyramid(self, x: Array, conv_block: ConvBlock, *, train: bool) -> Array:
    mean = jnp.mean(x, (1, 2), keepdims=True)
    mean = conv_block(mean, features=self.features, kernel=1, name="aspp_pool")
    branches = [jnp.broadcast_to(mean, (*x.shape[:3], self.features))]
    branches.append(conv_block(x, features=self.features, kernel=1, name="aspp0"))
    branches += [
      self._conv3x3(x, conv_block=conv_block, dilation=rate, name=f"aspp{i}")
      for i, rate in enumerate(self.rates, 1)
    ]
    joined = jnp.concatenate(branches, -1)
    x = conv_block(joined, features=self.features, kernel=1, name="project")
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _conv3x3(self, *x: Array, conv_block: ConvBlock, dilation: int = 1, name: str) -> Array:
    apply = conv_block.separable if self.separable else conv_block
    return apply(*x, features=self.features, dilation=dilation, name=name)


class DeepLabV2(Predictor):
  """DeepLab v2, whose heads are atrous convolutions added up (ASPP; Chen et al. 2018, Sec. 3.2).

  The defaults are ASPP-L on ResNet-101; ASPP-S has the rates 2, 4, 8, 12, and LargeFOV only 12.

  Parameters: `backbone`, and `head_{task}_rate{rate}`.

  Attributes:
    heads: Output channels by task; each head is a sum of 3x3 convolutions.
    backbone: Network whose last features are used, meant to have an output stride of 8.
    rates: Dilations of the convolutions.
    align_corners: Where outputs lie in the image; see `asmjax.ops.resize`. It is true in the
      released code, whose Caffe layers shrink labels and enlarge scores from corner to corner, at
      321 pixels.
  """

  backbone: Backbone = ResNet(BLOCKS[101], output_stride=8, placement="first_1x1")
  rates: tuple[int, ...] = (6, 12, 18, 24)
  align_corners: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at the backbone's output stride."""
    x = self.backbone(x, train=train)[32]
    self.sow("intermediates", "features", x)
    return {task: self._add_rates(x, f"head_{task}", c) for task, c in self.heads.items()}

  def _add_rates(self, x: Array, name: str, channels: int) -> Array:
    scores = [
      Conv(channels, 3, 1, rate, dtype=self.dtype, name=f"{name}_rate{rate}")(x)
      for rate in self.rates
    ]
    return functools.reduce(operator.add, scores)
