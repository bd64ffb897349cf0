"""Fully convolutional residual network: ResNet and up-projections (Laina et al. 2016)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from asmjax.models.backbones.resnet import ResNet
from asmjax.models.layers import ConvBlock
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import conv2d
from asmjax.utils.ranges import BelowOne


class FCRN(Predictor):
  """FCRN: a ResNet, a 1x1 convolution, and four up-projections (Laina et al. 2016).

  The defaults are FCRN-50, with 63.6 million parameters for depth alone.

  Attributes:
    heads: Output channels by task; each head is a 3x3 convolution.
    backbone: ResNet; the last up-projection has as many channels as its stem.
    dropout: Rate of dropout before the heads, of single values.
    align_corners: Where outputs lie; see `asmjax.ops.resize`. Unpooling puts a value on
      the first pixel of its cell and kernels are padded alike on all sides, so output i is centered
      on pixel 2 i. The released code stretches its maps to the image instead.
  """

  backbone: ResNet = ResNet()
  dropout: BelowOne = 0.5
  align_corners: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at half of the image's size, rounded up.

    Features of an image whose sides are no multiples of 32 reach beyond it, and so do the maps,
    which are cropped.
    """
    h, w = (-(-side // 2) for side in x.shape[1:3])
    conv_block, width = self.conv_block(train=train), self.backbone.width
    x = self.backbone(x, train=train)[32]
    x = conv_block(x, features=16 * width, kernel=1, activate=False, name="reduce")
    for i in range(4):
      x = UpProjection(width * 2 ** (3 - i), conv_block, name=f"up{i + 1}")(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x[:, :h, :w])
    self.sow("intermediates", "features", x)
    return self.apply_heads(x, 3)


class UpProjection(nn.Module):
  """Doubling of the size: 5x5 and 3x3 up-convolution plus a 5x5 projection (Sec. 3.2, Fig. 2).

  The 5x5 up-convolutions of the two branches see the same map, so they are one (`conv1`) with
  twice the filters; the first half belongs to the branch that goes on to the 3x3 convolution.

  Attributes:
    features: Output channels.
    conv_block: Factory of the layers.
  """

  features: int
  conv_block: ConvBlock

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w f"]:
    """Computes features at twice the size."""
    conv_block, activation = self.conv_block, self.conv_block.activation
    x = UpConv(2 * self.features, conv_block.bias, conv_block.dtype, name="conv1")(x)
    x, projected = jnp.split(conv_block.finish(x, activate=False, name="conv1"), 2, -1)
    x = conv_block(activation(x), features=self.features, activate=False, name="conv2")
    return activation(x + projected)


class UpConv(nn.Module):
  """Unpooling and 5x5 convolution (Sec. 3.2).

  Unpooling doubles the size and puts each value at the top left of its 2x2 cell, among zeros. So
  an output at an even place meets 3 of the 5 taps of an axis, and one at an odd place the other
  2: four small convolutions, interleaved, give the same without a product with zero.

  Attributes:
    features: Output channels.
    bias: Whether a bias is added.
    dtype: Compute type; parameters are float32.
  """

  features: int
  bias: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w f"]:
    """Convolves the unpooled map with two pixels of zero padding."""
    # The variance of He et al. (2015), 2 / fan_in, for the 25 / 4 of 25 taps that meet a value on
    # average: four times that of a kernel whose taps all do.
    init = nn.initializers.variance_scaling(8.0, "fan_in", "normal")
    kernel = self.param("kernel", init, (5, 5, x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    pads = ((1, 1), (0, 1))
    rows = []
    for i in (0, 1):
      parts = [conv2d(x, kernel[i::2, j::2], padding=(pads[i], pads[j])) for j in (0, 1)]
      rows.append(_interleave(parts, 2))
    y = _interleave(rows, 1)
    return y if bias is None else y + jnp.expand_dims(bias, (0, 1, 2))


def _interleave(parts: Sequence[Array], axis: int) -> Array:
  """Takes the slices of all parts along `axis` in turn."""
  shape = list(parts[0].shape)
  shape[axis] *= len(parts)
  return jnp.stack(parts, axis + 1).reshape(shape)
