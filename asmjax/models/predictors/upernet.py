"""UPerNet: pyramid pooling on the last map and a feature pyramid below it (Xiao et al. 2018)."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.resnet import BLOCKS, ResNet
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.models.predictors.pspnet import pool_pyramid
from asmjax.models.transformer import LayerNorm
from asmjax.ops import resize_bilinear, spatial_size
from asmjax.utils.ranges import BelowOne, Count, PositiveInt

STRIDES = (4, 8, 16, 32)


class UPerNet(Predictor):
  """UPerNet: PSPNet's pyramid on top of one of features (Xiao et al. 2018, Sec. 3.1).

  The last features go through the pyramid of PSPNet; from there on down a map of each stride is
  added to the coarser ones, and all of them are joined at stride 4. In training it can also predict
  from the features of stride 16, as `PSPNet` does.

  Maps have half-pixel centers (`asmjax.ops.resize`), as those of the released code.

  Parameters: `backbone` and, if there, `features{stride}_norm`; `pool{bins}` and `pyramid`;
  `lateral{stride}` and `smooth{stride}` of strides 4 to 16; `fuse`; `aside`, if there. Each but the
  backbone has its normalization under the name plus `_norm`. Then `head_{task}` and
  `head_{task}_auxiliary`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    backbone: Network whose features of stride 4 to 32 are used.
    bins: Number of cells of each grid along both axes.
    features: Channels of all convolutions but the auxiliary one.
    dropout: Rate of dropout before the heads, of whole channels.
    auxiliary: Channels of the convolution before the auxiliary heads, 256 in released networks; 0
      leaves them out.
    normalize_features: Whether each map of the backbone goes through a layer norm first, as those
      of ConvNeXt do.
  """

  backbone: Backbone = ResNet(BLOCKS[50], placement="first_3x3")
  bins: tuple[PositiveInt, ...] = (1, 2, 3, 6)
  features: PositiveInt = 512
  dropout: BelowOne = 0.1
  auxiliary: Count = 0
  normalize_features: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at a quarter of the image's size, rounded up."""
    conv_block, features = self.conv_block(train=train), dict(self.backbone(x, train=train))
    if self.normalize_features:
      for stride in STRIDES:
        norm = LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"features{stride}_norm")
        features[stride] = norm(features[stride])
    drop = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)
    pyramid = pool_pyramid(features[32], self.bins, conv_block, self.features)
    x = conv_block(pyramid, features=self.features, name="pyramid")
    joined = [x]
    for stride in (16, 8, 4):
      y = conv_block(features[stride], features=self.features, kernel=1, name=f"lateral{stride}")
      x = y + resize_bilinear(x, spatial_size(y))
      joined.append(conv_block(x, features=self.features, name=f"smooth{stride}"))
    x = drop(conv_block(*reversed(joined), features=self.features, name="fuse"))
    self.sow("intermediates", "features", x)
    # Only training needs the auxiliary maps, so evaluation does not compute them.
    if self.auxiliary and (train or self.is_initializing()):
      aux = conv_block(features[16], features=self.auxiliary, name="aside")
      self.sow_auxiliary(drop(aux), spatial_size(x))
    return self.apply_heads(x)
