"""SegFormer: a Mix Transformer and a decoder of linear layers (Xie et al. 2021)."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone, MixTransformer
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.models.transformer import Linear
from asmjax.utils.ranges import BelowOne, PositiveInt


class SegFormer(Predictor):
  """SegFormer (Xie et al. 2021, Sec. 3.2); the defaults are SegFormer-B0.

  A linear layer brings the features of each stride to the same channels; resized to stride 4 and
  joined they go through another one, a normalization and an activation to the heads. The last of
  these layers is applied before the resize, with which it commutes, so that it costs a third of
  what the concatenation would.

  Maps have half-pixel centers (`asmjax.ops.resize`), as those of the released code.

  Parameters: `backbone`; `project4` to `project32`; `fuse` and `fuse_norm`; `head_{task}`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    backbone: Network whose features of stride 4 to 32 are used.
    features: Channels of the decoder: 256 in B0 and B1, 768 in the others.
    dropout: Rate of dropout before the heads, of whole channels.
  """

  backbone: Backbone = MixTransformer()
  features: PositiveInt = 256
  dropout: BelowOne = 0.1

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at a quarter of the image's size, rounded up."""
    features, conv_block = self.backbone(x, train=train), self.conv_block(train=train)
    # The coarsest come first in the published concatenation.
    maps = [
      Linear(self.features, dtype=self.dtype, name=f"project{stride}")(features[stride])
      for stride in (4, 32, 16, 8)
    ]
    x = conv_block(*maps, features=self.features, kernel=1, name="fuse")
    x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
    self.sow("intermediates", "features", x)
    return self.apply_heads(x)
