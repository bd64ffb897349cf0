"""Xception as modified for DeepLab v3+ (Chollet 2017; Chen et al. 2018)."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import ConvBlock
from asmjax.utils.ranges import Positive

# Channels of the separable convolutions of modules with a stride (Chen et al. 2018, Fig. 4).
ENTRY = ((128, 128, 128), (256, 256, 256), (728, 728, 728))
EXIT = (728, 1024, 1024)
# Channels of the separable convolutions of the other modules.
MIDDLE = (728, 728, 728)
LAST = (1536, 1536, 2048)


class Xception(Backbone):
  """Xception without its classifier, as modified by Chen et al. (2018, Fig. 4).

  The defaults are Xception-65 of the DeepLab model zoo; with `middle=8` it is Xception-41. With a
  classifier of 1000 classes they have 39.9 and 27.0 million parameters and do 14.0 and 9.3 billion
  multiply-adds for 299 x 299 pixels, as counted in timm's model cards. Released weights were
  trained with `Norm(momentum=0.9997, epsilon=1e-3)`.

  Parameters: `conv1` and `conv2`; then the modules `entry1` to `entry3`, `middle1` to `middle16`,
  `exit1` and `exit2`, each with `conv{i}_depthwise` and `conv{i}_pointwise`, i = 1 to 3, and those
  of the entry and `exit1` with `shortcut`. Each convolution has its normalization under the name
  plus `_norm`.

  Attributes:
    middle: Number of modules of the middle flow.
    width: Factor on all numbers of channels, rounded down.
  """

  middle: int = 16
  width: Positive = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the last features of each nominal stride; see `Backbone`.

    Those of 2 to 16 come from within a module, before its strided convolution, and no activation
    follows them; that of 4 is what DeepLab v3+ gives its decoder.
    """
    conv_block = self.conv_block(train=train)
    module = self.maybe_remat(XceptionModule)
    scaled = lambda channels: tuple(int(self.width * c) for c in channels)
    x = conv_block(x, features=int(32 * self.width), stride=2, name="conv1")
    x = conv_block(x, features=int(64 * self.width), name="conv2")
    rows = [(f"entry{i}", channels, 2) for i, channels in enumerate(ENTRY, 1)]
    rows += [(f"middle{i + 1}", MIDDLE, 1) for i in range(self.middle)]
    rows += [("exit1", EXIT, 2), ("exit2", LAST, 1)]
    features, nominal = {}, 2
    for name, channels, stride in rows:
      before = nominal
      nominal, stride, dilation = self.give_up_stride(nominal, stride)
      residual = name != "exit2"
      layer = module(scaled(channels), stride, dilation, residual, conv_block, name=name)
      features[before], x = layer(x)
    return {**features, nominal: x}

  def layer_groups(self) -> tuple[str, ...]:
    """Names the first two convolutions, then each module; see `Backbone.layer_groups`."""
    counts = {"entry": len(ENTRY), "middle": self.middle, "exit": 2}
    modules = (f"{flow}{i + 1}" for flow, count in counts.items() for i in range(count))
    return ("conv1", "conv2", *modules)


class XceptionModule(nn.Module):
  """Three separable convolutions, in a residual module added to the input or to its projection.

  A residual module has its activation before each separable convolution; the other one, after
  each depthwise and each pointwise convolution.

  Attributes:
    channels: Output channels of each separable convolution.
    stride: Stride of the last separable convolution.
    dilation: Dilation of all separable convolutions.
    residual: Whether there is a shortcut.
    conv_block: Factory of the layers.
  """

  channels: tuple[int, ...]
  stride: int
  dilation: int
  residual: bool
  conv_block: ConvBlock

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"]
  ) -> tuple[Float[Array, "n h w d"], Float[Array, "n h2 w2 f"]]:
    """Computes features before the last convolution, and the module's at 1/stride of the size."""
    maps = [x]
    for i, channels in enumerate(self.channels, 1):
      y = self.conv_block.activation(maps[-1]) if self.residual else maps[-1]
      y = self.conv_block.separable(
        y,
        features=channels,
        stride=self.stride if i == len(self.channels) else 1,
        dilation=self.dilation,
        activate=not self.residual,
        name=f"conv{i}",
      )
      maps.append(y)
    *_, before_last, y = maps
    return before_last, y + self._shortcut(x) if self.residual else y

  def _shortcut(self, x: Array) -> Array:
    if x.shape[-1] == self.channels[-1]:
      return x[:, :: self.stride, :: self.stride]
    return self.conv_block(
      x, features=self.channels[-1], kernel=1, stride=self.stride, activate=False, name="shortcut"
    )
