"""PSPNet: pyramid scene parsing (Zhao et al. 2017)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
from asmjax.models.layers import ConvNet
from asmjax.ops import adaptive_avg_pool, resize_bilinear


class PSPNet(ConvNet):
  """Means over the cells of several grids, joined with the features they are means of (Sec. 3.2).

  In training it can also predict from the features before the last stage (Sec. 3.3): those maps
  are sown as "auxiliary" and judged by `asmjax.terms.pixel.Pixel` with `auxiliary=0.4`.

  Parameters: `backbone`; `pool{bins}`, `fuse` and, if there, `aside`, each with its
  normalization under the name plus `_norm`; `head_{task}` and `head_{task}_auxiliary`.

  Attributes:
    heads: output channels by task; each head is a 1x1 convolution.
    backbone: with an output stride of 8.
    bins: cells of each grid along both sides.
    features: channels that each grid is reduced to, and of the convolution that joins them.
    dropout: rate before the heads, of whole channels.
    auxiliary: channels of the convolution before the auxiliary heads, 256 in the paper; 0 leaves
      them out.
    align_corners: Convention of all resizing; see `asmjax.ops.resize`. True in released code, whose
      Caffe layers resize from corner to corner at 473 and 713 pixels; that of Ke et al. 2018 also
      puts output i on pixel 8 i, at 336 and 720.
  """

  heads: Mapping[str, int]
  backbone: Backbone = ResNet(BLOCKS[101], output_stride=8, placement="first_3x3")
  bins: tuple[int, ...] = (1, 2, 3, 6)
  features: int = 512
  dropout: float = 0.1
  auxiliary: int = 0
  align_corners: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at the backbone's output stride."""
    conv_block, features = self.conv_block(train=train), self.backbone(x, train=train)
    x, size = features[32], features[32].shape[1:3]
    pooled = [
      conv_block(adaptive_avg_pool(x, bins), features=self.features, kernel=1, name=f"pool{bins}")
      for bins in self.bins
    ]
    resized = lambda y: resize_bilinear(y, size, align_corners=self.align_corners)
    x = jnp.concatenate([x, *map(resized, pooled)], -1)
    x = self._dropped(conv_block(x, features=self.features, name="fuse"), train=train)
    self.sow("intermediates", "features", x)
    # What only training needs costs nothing in evaluation.
    if self.auxiliary and (train or self.is_initializing()):
      aside = conv_block(features[16], features=self.auxiliary, name="aside")
      maps = self._heads(self._dropped(aside, train=train), "_auxiliary")
      self.sow("intermediates", "auxiliary", {task: resized(each) for task, each in maps.items()})
    return self._heads(x)

  def _dropped(self, x: Array, *, train: bool) -> Array:
    return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)

  def _heads(self, x: Array, suffix: str = "") -> dict[str, Array]:
    return {
      task: self.conv(channels, 1, dtype=self.dtype, name=f"head_{task}{suffix}")(x)
      for task, channels in self.heads.items()
    }
