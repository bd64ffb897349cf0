"""U-Net: convolutions down, convolutions up, skips between (Ronneberger et al. 2015)."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.predictors.base import Maps, Predictor
from asmjax.utils.ranges import Count, PositiveInt


class UNet(Predictor):
  """U-Net with any number of levels.

  There is one convolution a level on the way down. With one on the way up there are 2 L - 1 of
  them: L = 4 is the net of 7 convolutional layers that Hwang et al. 2019 (Sec. 4.1) train on the
  Weizmann horses.

  The net that their released code trains on 2D-3D-S is `levels=9, width=64, stride=2,
  down_kernel=4, decoder_convs=3, join=1, head_kernel=3`.

  Attributes:
    heads: Output channels by task; each head is one convolution.
    levels: Number L of resolutions.
    width: Channels of the first level; each further level has twice as many, up to `max_width`.
    max_width: Upper limit of the channels.
    decoder_convs: Number of 3x3 convolutions a level on the way up.
    stride: Stride of the first level, hence of the output: 1 or 2.
    down_kernel: Side of the kernels with a stride. Whatever it is, a level has 1/stride of the size
      above it, rounded up.
    join: Number of decoder convolutions of each level that come before the map is resized to the
      skip's size and concatenated with it.
    head_kernel: Side of the heads' kernels, odd.

  Raises:
    ValueError: No convolution is left to join a level's map with its skip.
  """

  levels: PositiveInt = 4
  width: PositiveInt = 32
  max_width: PositiveInt = 512
  decoder_convs: Count = 1
  stride: PositiveInt = 1
  down_kernel: PositiveInt = 3
  join: Count = 0
  head_kernel: PositiveInt = 1

  def __post_init__(self):
    if not 0 <= self.join < self.decoder_convs:
      raise ValueError(
        f"join={self.join} of {self.decoder_convs} decoder convolutions; expected from 0 to "
        f"{self.decoder_convs - 1}, so that one of them sees the skip"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at 1/stride of the image's size."""
    widths = [min(self.width * 2**i, self.max_width) for i in range(self.levels)]
    conv_block, skips = self.conv_block(train=train), []
    for i, width in enumerate(widths):
      stride = self.stride if i == 0 else 2
      kernel = self.down_kernel if stride > 1 else 3
      x = conv_block(x, features=width, kernel=kernel, stride=stride, name=f"down{i + 1}_1")
      skips.append(x)
    for i in reversed(range(self.levels - 1)):
      for j in range(self.decoder_convs):
        inputs = (skips[i], x) if j == self.join else (x,)
        x = conv_block(*inputs, features=widths[i], name=f"up{i + 1}_{j + 1}")
    self.sow("intermediates", "features", x)
    return self.apply_heads(x, self.head_kernel)
