"""PSPNet: pyramid scene parsing (Zhao et al. 2017)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
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
    x, size = features[32], spatial_size(features[32])
    pooled = [
      conv_block(adaptive_avg_pool(x, bins), features=self.features, kernel=1, name=f"pool{bins}")
      for bins in self.bins
    ]
    resize = lambda y: resize_bilinear(y, size, align_corners=self.align_corners)
    x = jnp.concatenate([x, *map(resize, pooled)], -1)
    x = self._dropout(conv_block(x, features=self.features, name="fuse"), train=train)
    self.sow("intermediates", "features", x)
    # Only training needs the auxiliary maps, so evaluation does not compute them.
    if self.auxiliary and (train or self.is_initializing()):
      aux = conv_block(features[16], features=self.auxiliary, name="aside")
      maps = self.apply_heads(self._dropout(aux, train=train), suffix="_auxiliary")
      self.sow("intermediates", "auxiliary", {task: resize(aux) for task, aux in maps.items()})
    return self.apply_heads(x)

  def _dropout(self, x: Array, *, train: bool) -> Array:
    return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
