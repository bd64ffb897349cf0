"""U-Net: convolutions down, convolutions up, skips between equals (Ronneberger et al. 2015)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, norm


class UNet(nn.Module):
  """U-Net with any number of levels.

  With one convolution a level there are 2 L - 1 of them: L = 4 is the net of 7 convolutional
  layers that Hwang et al. 2019 (Sec. 4.1) train on the Weizmann horses.

  The net that their released code trains on 2D-3D-S is `levels=9, width=64, stride=2,
  down_kernel=4, decoder_convs=3, join=1, head_kernel=3`.

  Attributes:
    heads: output channels by task; each head is one convolution.
    levels: number of resolutions, L.
    width: channels of the first level; each further level has twice as many, up to `max_width`.
    max_width: limit of the doubling.
    encoder_convs: convolutions a level on the way down; the first one has stride 2 and
      `down_kernel`, the others are 3x3.
    decoder_convs: 3x3 convolutions a level on the way up.
    stride: of the first level, hence of the output: 1 or 2.
    down_kernel: kernel of the convolutions with a stride. Whatever it is, a level has 1/stride
      of the size above it, rounded up.
    join: decoder convolutions of each level that come before the map is resized to the skip's
      size and concatenated with it.
    head_kernel: kernel of the heads, odd.
    norm: "none", "batch", "sync_batch" or "group", before each ReLU.
    dtype: compute type.
  """

  heads: Mapping[str, int]
  levels: int = 4
  width: int = 32
  max_width: int = 512
  encoder_convs: int = 1
  decoder_convs: int = 1
  stride: int = 1
  down_kernel: int = 3
  join: int = 0
  head_kernel: int = 1
  norm: str = "batch"
  dtype: Any = None

  def __post_init__(self):
    if not 0 <= self.join < self.decoder_convs:
      raise ValueError(
        f"join={self.join} of {self.decoder_convs} decoder convolutions; expected from 0 to "
        f"{self.decoder_convs - 1}, so that one of them sees the skip"
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at 1/stride of the image's size."""
    widths = [min(self.width * 2**i, self.max_width) for i in range(self.levels)]
    skips: list[Array] = []
    for i, width in enumerate(widths):
      for j in range(self.encoder_convs):
        stride = (self.stride if i == 0 else 2) if j == 0 else 1
        x = self._conv(x, width=width, name=f"down{i + 1}_{j + 1}", stride=stride, train=train)
      skips.append(x)
    for i in reversed(range(self.levels - 1)):
      for j in range(self.decoder_convs):
        inputs = (skips[i], x) if j == self.join else (x,)
        x = self._conv(*inputs, width=widths[i], name=f"up{i + 1}_{j + 1}", train=train)
    self.sow("intermediates", "features", x)
    return {
      task: Conv(channels, self.head_kernel, dtype=self.dtype, name=f"head_{task}")(x)
      for task, channels in self.heads.items()
    }

  def _conv(self, *x: Array, width: int, name: str, train: bool, stride: int = 1) -> Array:
    bias = self.norm == "none"
    kernel = self.down_kernel if stride > 1 else 3
    x = Conv(width, kernel, stride, bias=bias, dtype=self.dtype, name=name)(*x)
    return nn.relu(norm(self.norm, train=train, name=f"{name}_norm", dtype=self.dtype)(x))
