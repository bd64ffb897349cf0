"""Residual networks of bottlenecks, version 1 (He et al. 2016)."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import ConvBlock
from asmjax.ops import max_pool
from asmjax.utils.ranges import PositiveInt

# Bottlenecks per stage by the number of layers, the classifier included (He et al. 2016, Table 1).
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

# Which bottleneck of a stage halves the size, and by which of its convolutions.
PLACEMENTS = ("first_1x1", "first_3x3", "last_3x3")


class ResNet(Backbone):
  """ResNet without its classifier.

  Parameters: `conv1`, then `stage{i}_block{j}` with `conv1` to `conv3` and, in the first block of
  a stage, `shortcut`; each with its normalization under the name plus `_norm`.

  Attributes:
    blocks: Number of bottlenecks of each stage; see `BLOCKS`.
    width: Channels of the stem; stage i ends in 4 * 2^(i - 1) times as many.
    placement: Convolution that has the stride of a stage: "first_1x1", as in the paper and its
      weights; "first_3x3", as in torchvision's; or "last_3x3", that of the stage before, as in
      TF-Slim's.

  Raises:
    ValueError: The placement is unknown.
  """

  blocks: tuple[int, ...] = BLOCKS[50]
  width: PositiveInt = 64
  placement: str = "first_1x1"

  def __post_init__(self):
    if self.placement not in PLACEMENTS:
      raise ValueError(f"unknown placement {self.placement!r}; known: {', '.join(PLACEMENTS)}")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the last features of each nominal stride; see `Backbone`."""
    conv_block = self.conv_block(train=train)
    x = conv_block(x, features=self.width, kernel=7, stride=2, name="conv1")
    features = {2: x}
    x = max_pool(x, 3, 2, ((1, 1), (1, 1)))
    bottleneck, nominal, dilation = self.maybe_remat(Bottleneck), 4, 1
    for i, blocks in enumerate(self.blocks):
      for j in range(blocks):
        halves = self._has_stride(i, j)
        nominal *= 2 if halves else 1
        gives_up = halves and nominal > self.output_stride
        after = 2 * dilation if gives_up else dilation
        x = bottleneck(
          self.width * 2**i,
          2 if halves and not gives_up else 1,
          after if self.placement == "first_1x1" else dilation,
          self.placement == "first_1x1",
          conv_block,
          name=f"stage{i + 1}_block{j + 1}",
        )(x)
        features[nominal], dilation = x, after
    return features

  def _has_stride(self, stage: int, block: int) -> bool:
    if self.placement == "last_3x3":
      return stage < len(self.blocks) - 1 and block == self.blocks[stage] - 1
    return stage > 0 and block == 0

  def layer_groups(self) -> tuple[str, ...]:
    """Names the stem, then each bottleneck; see `Backbone.layer_groups`."""
    counted = enumerate(self.blocks, 1)
    return ("conv1", *(f"stage{i}_block{j + 1}" for i, blocks in counted for j in range(blocks)))


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolution, added to the input or to its projection.

  Attributes:
    width: Channels of the first two convolutions; the third has four times as many.
    stride: Stride of the bottleneck.
    dilation: Dilation of the 3x3 convolution.
    early: Whether the first convolution has the stride, or the second one.
    conv_block: Factory of the layers.
  """

  width: PositiveInt
  stride: int
  dilation: int
  early: bool
  conv_block: ConvBlock

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
    """Computes features at 1/stride of the size, rounded up."""
    conv_block, outputs = self.conv_block, 4 * self.width
    first, second = (self.stride, 1) if self.early else (1, self.stride)
    y = conv_block(x, features=self.width, kernel=1, stride=first, name="conv1")
    y = conv_block(y, features=self.width, stride=second, dilation=self.dilation, name="conv2")
    y = conv_block(y, features=outputs, kernel=1, activate=False, name="conv3")
    if x.shape[-1] == outputs:
      x = x[:, :: self.stride, :: self.stride]
    else:
      x = conv_block(
        x, features=outputs, kernel=1, stride=self.stride, activate=False, name="shortcut"
      )
    return conv_block.activation(x + y)
