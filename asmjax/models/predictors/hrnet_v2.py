"""HRNetV2: the features of all branches of an HRNet, joined at stride 4 (Wang et al. 2021)."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone, HRNet
from asmjax.models.layers import Norm
from asmjax.models.predictors.base import Maps, Predictor


class HRNetV2(Predictor):
  """HRNetV2 (Wang et al. 2021, Sec. 3.3 and 5); the defaults are HRNetV2-W18.

  Features of all strides, enlarged to stride 4, are joined by a 1x1 convolution of as many channels
  as they have together; the heads follow. The convolution is applied before the maps are enlarged,
  with which it commutes, so that it costs an eighth of what the concatenation would.

  Parameters: `backbone`; `fuse` and `fuse_norm`; `head_{task}`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    norm: Normalization; 0.9 and 1e-5 are momentum and epsilon of the released code.
    backbone: Network whose features of stride 4 to 32 are used.
    align_corners: Convention of the enlarging; see `asmjax.ops.resize`. It is true in the released
      code for PyTorch 1.1, as in the backbone's `upsampling="bilinear_aligned"`.
  """

  norm: Norm = dataclasses.field(default=Norm(momentum=0.9), kw_only=True)
  backbone: Backbone = HRNet(upsampling="bilinear_aligned")
  align_corners: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at a quarter of the image's size, rounded up."""
    features = self.backbone(x, train=train)
    maps = [features[stride] for stride in (4, 8, 16, 32)]
    x = self.conv_block(train=train)(
      *maps,
      features=sum(x.shape[-1] for x in maps),
      kernel=1,
      align_corners=self.align_corners,
      name="fuse",
    )
    self.sow("intermediates", "features", x)
    return self.apply_heads(x)
