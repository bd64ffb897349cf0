"""ConvNeXt, versions 1 and 2 (Liu et al. 2022; Woo et al. 2023)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import Conv, ConvBlock, Norm
from asmjax.models.transformer import DropPath, Linear, drop_path_rates, gelu, truncated_normal
from asmjax.ops import promote_to_float32
from asmjax.utils.ranges import BelowOne, NonNegative, PositiveInt

# Blocks and channels of each stage (Liu et al. 2022, Sec. 3; Woo et al. 2023, Appendix A.1).
DEPTHS = {"tiny": (3, 3, 9, 3), "small": (3, 3, 27, 3), "base": (3, 3, 27, 3)}
WIDTHS = {"tiny": (96, 192, 384, 768), "small": (96, 192, 384, 768), "base": (128, 256, 512, 1024)}


class ConvNeXt(Backbone):
  """ConvNeXt without its classifier (Liu et al. 2022); the defaults are ConvNeXt-T.

  With `response_norm=True, layer_scale=0.0` it is version 2 (Woo et al. 2023). With a classifier
  of 1000 classes T, S and B have 28.6, 50.2 and 88.6 million parameters and do 4.5, 8.7 and 15.4
  billion multiply-adds for 224 x 224 pixels (Table 1).

  Patches of 4 x 4 and 2 x 2 pixels do not overlap, so maps have half-pixel centers
  (`asmjax.ops.resize`) until a stride is given up; what is beyond an image whose sides are no
  multiples is 0.

  Parameters: `stem` and `stem_norm`; for stages 2 to 4 `stage{i}_norm` and `stage{i}_down`; blocks
  `stage{i}_block{j}`, see `ConvNeXtBlock`.

  Attributes:
    norm: Normalization.
    activation: Function within the blocks.
    depths: Number of blocks of each stage; see `DEPTHS`.
    widths: Channels of each stage; see `WIDTHS`.
    response_norm: Whether the blocks have global response normalization.
    layer_scale: Initial value of the factors on each block's channels; 0 leaves them out.
    drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.

  Raises:
    ValueError: The stages have numbers of different lengths.
  """

  norm: Norm = dataclasses.field(default=Norm("layer", epsilon=1e-6), kw_only=True)
  activation: Callable[[Array], Array] = dataclasses.field(default=gelu, kw_only=True)
  depths: tuple[PositiveInt, ...] = DEPTHS["tiny"]
  widths: tuple[PositiveInt, ...] = WIDTHS["tiny"]
  response_norm: bool = False
  layer_scale: NonNegative = 1e-6
  drop_path: BelowOne = 0.1

  def __post_init__(self):
    if not len(self.depths) == len(self.widths) == 4:
      raise ValueError(
        f"depths={self.depths}, widths={self.widths}; expected one of each for each of 4 stages"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the last features of each nominal stride from 4 on; see `Backbone`."""
    conv_block = self.conv_block(train=train)
    block, features, nominal = self.maybe_remat(ConvNeXtBlock), {}, 4
    rates = iter(drop_path_rates(self.drop_path, sum(self.depths)))
    # The zeros let patches at the border reach beyond the image, and move none.
    x = self._conv(self.widths[0], 4, 4, padding=((0, 3), (0, 3)), name="stem")(x)
    x = conv_block.finish(x, activate=False, name="stem")
    for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
      if i > 1:
        x = conv_block.finish(x, activate=False, name=f"stage{i}")
        nominal, stride, dilation = self.give_up_stride(nominal, 2)
        x = self._conv(width, 2, stride, dilation, name=f"stage{i}_down")(x)
      *_, dilation = self.give_up_stride(nominal, 1)
      for j in range(1, depth + 1):
        options = (dilation, self.response_norm, self.layer_scale, next(rates), conv_block)
        x = block(*options, name=f"stage{i}_block{j}")(x)
      features[nominal] = x
    return features

  def layer_groups(self) -> tuple[str, ...]:
    """Names the stem or what enters a stage, then its blocks; see `Backbone.layer_groups`."""
    counted = enumerate(self.depths, 1)
    blocks = lambda i, depth: (f"stage{i}_block{j}" for j in range(1, depth + 1))
    groups = ((f"stage{i}" if i > 1 else "stem", *blocks(i, depth)) for i, depth in counted)
    return sum(groups, ())

  def _conv(self, *options: Any, **more: Any) -> Conv:
    return Conv(*options, dtype=self.dtype, kernel_init=truncated_normal, **more)


class ConvNeXtBlock(nn.Module):
  """7x7 depthwise convolution, normalization and two linear layers, added to the input.

  Parameters: `depthwise` and `depthwise_norm`, `fc1` and `fc2`; `scale`, and `response`.

  Attributes:
    dilation: Dilation of the convolution.
    response_norm: Whether global response normalization stands before the last layer.
    layer_scale: Initial value of the factors on the channels; 0 leaves them out.
    drop_path: Rate of stochastic depth.
    conv_block: Factory of the layers.
  """

  dilation: int
  response_norm: bool
  layer_scale: float
  drop_path: float
  conv_block: ConvBlock

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes features of the same size."""
    conv_block, width = self.conv_block, x.shape[-1]
    conv = {"dilation": self.dilation, "groups": width, "kernel_init": truncated_normal}
    y = Conv(width, 7, dtype=conv_block.dtype, **conv, name="depthwise")(x)
    y = conv_block.finish(y, activate=False, name="depthwise")
    y = conv_block.activation(Linear(4 * width, dtype=conv_block.dtype, name="fc1")(y))
    if self.response_norm:
      y = ResponseNorm(name="response")(y)
    y = Linear(width, dtype=conv_block.dtype, name="fc2")(y)
    if self.layer_scale:
      scale = self.param("scale", nn.initializers.constant(self.layer_scale), (width,))
      y = y * jnp.expand_dims(scale.astype(y.dtype), (0, 1, 2))
    return x + DropPath(self.drop_path)(y, train=conv_block.train)


class ResponseNorm(nn.Module):
  """Global response normalization of each channel (GRN; Woo et al. 2023, Sec. 3, Algorithm 1).

  The norm of a channel over the map, over the mean of all channels' norms, scales it: with factors
  and biases of its own, which begin at 0, it is added to the input.

  Attributes:
    epsilon: Number added to the mean of the norms; that of the released code.
  """

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Normalizes the channels of each example, in its type but for the norms, which are float32."""
    scale, bias = (
      jnp.expand_dims(self.param(name, nn.initializers.zeros, (x.shape[-1],)), (0, 1, 2))
      for name in ("scale", "bias")
    )
    squares = jnp.sum(jnp.square(promote_to_float32(x)), (1, 2), keepdims=True)
    # The gradient of a root is infinite at 0, where a channel is silent.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    ratio = norms / (jnp.mean(norms, -1, keepdims=True) + self.epsilon)
    return x + (x * (scale * ratio).astype(x.dtype) + bias.astype(x.dtype))
