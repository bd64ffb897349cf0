"""PSPNet: pyramid scene parsing (Zhao et al. 2017)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
from asmjax.models.layers import ConvBlock
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import adaptive_avg_pool, resize_bilinear, spatial_size
from asmjax.utils.ranges import BelowOne, Count, PositiveInt


class PSPNet(Predictor):
  """PSPNet: features joined with their means over the cells of several grids (Zhao et al. 2017).

  In training it can also predict from the features before the last stage (Sec. 3.3): those maps
  are sown as "auxiliary", and `asmjax.terms.pixel.Pixel` with `auxiliary=0.4` adds their loss.

  Parameters: `backbone`; `pool{bins}`, `fuse` and, if there, `aside`, the convolution before the
  auxiliary heads, each with its normalization under the name plus `_norm`; `head_{task}` and
  `head_{task}_auxiliary`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    backbone: Network whose last features are used, meant to have an output stride of 8.
    bins: Number of cells of each grid along both axes.
    features: Channels that each grid is reduced to, and of the convolution that joins them.
    dropout: Rate of dropout before the heads, of whole channels.
    auxiliary: Channels of the convolution before the auxiliary heads, 256 in the paper; 0 leaves
      them out.
    align_corners: Convention of all resizing; see `asmjax.ops.resize`. It is true in released code,
      whose Caffe layers resize from corner to corner at 473 and 713 pixels; that of Ke et al. 2018
      also puts output i on pixel 8 i, at 336 and 720.
  """

  backbone: Backbone = ResNet(BLOCKS[101], output_stride=8, placement="first_3x3")
  bins: tuple[int, ...] = (1, 2, 3, 6)
  features: PositiveInt = 512
  dropout: BelowOne = 0.1
  auxiliary: Count = 0
  align_corners: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at the backbone's output stride."""
    conv_block, features = self.conv_block(train=train), self.backbone(x, train=train)
    pyramid = pool_pyramid(
      features[32], self.bins, conv_block, self.features, align_corners=self.align_corners
    )
    x = conv_block(pyramid, features=self.features, name="fuse")
    x = self._dropout(x, train=train)
    self.sow("intermediates", "features", x)
    # Only training needs the auxiliary maps, so evaluation does not compute them.
    if self.auxiliary and (train or self.is_initializing()):
      aux = conv_block(features[16], features=self.auxiliary, name="aside")
      aux = self._dropout(aux, train=train)
      self.sow_auxiliary(aux, spatial_size(x), align_corners=self.align_corners)
    return self.apply_heads(x)

  def _dropout(self, x: Array, *, train: bool) -> Array:
    return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)


def pool_pyramid(
  x: Float[Array, "n h w c"],
  bins: Sequence[int],
  conv_block: ConvBlock,
  features: int,
  *,
  align_corners: bool = False,
) -> Float[Array, "n h w _"]:
  """Joins features with their means over the cells of several grids (Zhao et al. 2017, Sec. 3.2).

  Args:
    x: Features.
    bins: Number of cells of each grid along both axes.
    conv_block: Factory of the 1x1 convolutions `pool{bins}`, one for each grid.
    features: Channels that each grid is reduced to.
    align_corners: Convention of the resize of grids; see `asmjax.ops.resize`.
  """
  pooled = (
    conv_block(adaptive_avg_pool(x, side), features=features, kernel=1, name=f"pool{side}")
    for side in bins
  )
  size = spatial_size(x)
  resized = [resize_bilinear(y, size, align_corners=align_corners) for y in pooled]
  return jnp.concatenate([x, *resized], -1)
