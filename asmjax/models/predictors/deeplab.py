"""DeepLab v2, v3 and v3+: atrous convolutions of several rates (Chen et al. 2018, 2017, 2018)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
from asmjax.models.layers import ConvBlock, ConvNet
from asmjax.ops import upsample


class DeepLab(ConvNet):
  """DeepLab v3 and v3+ (Chen et al. 2017, Sec. 3.3; Chen et al. 2018, Sec. 3).

  Atrous spatial pyramid pooling: a 1x1 convolution, 3x3 ones with several rates, and the mean
  over the image, all of them joined by another 1x1 convolution. Where `low` says so, a decoder
  refines that with the features of stride 4.

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
    heads: output channels by task; each head is a 1x1 convolution.
    backbone: whose last features and, for the decoder, those of stride 4 are used.
    rates: of the 3x3 convolutions at an output stride of 16; twice as large ones are meant for 8.
    features: channels of all convolutions but the heads and `low`.
    low: channels that the features of stride 4 are reduced to; 0 leaves the decoder out.
    convs: 3x3 convolutions before the heads.
    separable: 3x3 convolutions are depthwise ones followed by 1x1 ones.
    dropout: rate after the pyramid.
    stride: that the maps are enlarged to, bilinearly, so that losses and critics see the borders
      (Chen et al. 2017, Sec. 4.1); 0 leaves them.
    align_corners: Convention of all resizing; see `asmjax.ops.resize`. True in released code,
      as in its sizes of 321, 513 and 1025 x 2049; False in torchvision's.

  Raises:
    ValueError: a decoder without convolutions.
  """

  heads: Mapping[str, int]
  backbone: Backbone = ResNet(BLOCKS[101], output_stride=16, placement="first_3x3")
  rates: tuple[int, ...] = (6, 12, 18)
  features: int = 256
  low: int = 0
  convs: int = 0
  separable: bool = False
  dropout: float = 0.1
  stride: int = 0
  align_corners: bool = True

  def __post_init__(self):
    if self.low and not self.convs:
      raise ValueError(f"low={self.low}, convs=0: a decoder needs convolutions to join both maps")
    super().__post_init__()

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at `stride`, at the backbone's, or with a decoder at a stride of 4."""
    conv_block = self.conv_block(train=train)
    features = self.backbone(x, train=train)
    resized = lambda y, size: upsample(y, size, align_corners=self.align_corners)
    maps = (self._pyramid(features[32], conv_block, train=train),)
    if self.low:
      low = conv_block(features[4], features=self.low, kernel=1, name="low")
      maps = (low, resized(*maps, low.shape[1:3]))
    for i in range(self.convs):
      maps = (self._conv3x3(*maps, conv_block=conv_block, name=f"conv{i + 1}"),)
    to = lambda stride: tuple(-(-side // stride) for side in x.shape[1:3])
    enlarged = lambda y: resized(y, to(self.stride)) if self.stride else y
    self.sow("intermediates", "features", enlarged(maps[0]))
    return {
      task: enlarged(self.conv(channels, 1, dtype=self.dtype, name=f"head_{task}")(maps[0]))
      for task, channels in self.heads.items()
    }

  def _pyramid(self, x: Array, conv_block: ConvBlock, *, train: bool) -> Array:
    mean = jnp.mean(x, (1, 2), keepdims=True)
    mean = conv_block(mean, features=self.features, kernel=1, name="aspp_pool")
    maps = [jnp.broadcast_to(mean, (*x.shape[:3], self.features))]
    maps.append(conv_block(x, features=self.features, kernel=1, name="aspp0"))
    maps += [
      self._conv3x3(x, conv_block=conv_block, dilation=rate, name=f"aspp{i}")
      for i, rate in enumerate(self.rates, 1)
    ]
    x = conv_block(jnp.concatenate(maps, -1), features=self.features, kernel=1, name="project")
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _conv3x3(self, *x: Array, conv_block: ConvBlock, dilation: int = 1, name: str) -> Array:
    if not self.separable:
      return conv_block(*x, features=self.features, dilation=dilation, name=name)
    wide = sum(each.shape[-1] for each in x)
    y = conv_block(*x, features=wide, groups=wide, dilation=dilation, name=f"{name}_depthwise")
    return conv_block(y, features=self.features, kernel=1, name=f"{name}_pointwise")


class DeepLabV2(ConvNet):
  """DeepLab v2, whose heads are atrous convolutions added up (ASPP; Chen et al. 2018, Sec. 3.2).

  The defaults are ASPP-L on ResNet-101; ASPP-S has the rates 2, 4, 8, 12, and LargeFOV only 12.

  Parameters: `backbone`, and `head_{task}_rate{rate}`.

  Attributes:
    heads: output channels by task; each head is a sum of 3x3 convolutions.
    backbone: with an output stride of 8.
    rates: of the convolutions.
    align_corners: Where outputs lie in the image; see `asmjax.ops.resize`. True in released code,
      whose Caffe layers shrink labels and enlarge scores from corner to corner, at 321 pixels.
  """

  heads: Mapping[str, int]
  backbone: Backbone = ResNet(BLOCKS[101], output_stride=8, placement="first_1x1")
  rates: tuple[int, ...] = (6, 12, 18, 24)
  align_corners: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at the backbone's output stride."""
    x = self.backbone(x, train=train)[32]
    self.sow("intermediates", "features", x)
    return {
      task: sum(
        self.conv(channels, 3, 1, rate, dtype=self.dtype, name=f"head_{task}_rate{rate}")(x)
        for rate in self.rates
      )
      for task, channels in self.heads.items()
    }
