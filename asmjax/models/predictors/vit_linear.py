"""A linear classifier of a vision transformer's patches (Oquab et al. 2024, Sec. 7.4)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones.vit import STRIDES, ViT
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import resize_bilinear
from asmjax.utils.ranges import PositiveInt


class ViTLinear(Predictor):
  """Batch norm and a 1x1 convolution of the last tokens, as DINOv2's linear protocol has it.

  DINOv2's "+ms" protocol takes the last four blocks: `layers=4`, on a backbone whose `outputs` are
  its last four. There and here maps are enlarged bilinearly, with half-pixel centers, before the
  loss.

  Parameters: `backbone`; `tokens_norm`; `head_{task}`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    backbone: Vision transformer.
    layers: Number of the backbone's four outputs that are concatenated, the last ones.
    stride: Stride that the maps are enlarged to, which divides the patch. At the patch's own stride
      they stay as they are, and lie where the patches are only if these fill the image.

  Raises:
    ValueError: There are not so many outputs, or the stride does not divide the patch.
  """

  backbone: ViT = ViT()
  layers: PositiveInt = 1
  stride: PositiveInt = 2

  def __post_init__(self):
    if self.layers > len(STRIDES):
      raise ValueError(f"layers={self.layers}; expected at most {len(STRIDES)}")
    if self.backbone.patch % self.stride:
      raise ValueError(
        f"stride={self.stride}; expected a divisor of {self.backbone.patch}, the patch"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at `stride`."""
    size = tuple(-(-side // self.stride) for side in x.shape[1:3])
    features = self.backbone(x, train=train)
    x = jnp.concatenate([features[stride] for stride in STRIDES[-self.layers :]], -1)
    x = self.conv_block(train=train).finish(x, activate=False, name="tokens")
    self.sow("intermediates", "features", self._enlarge(x, size))
    return {task: self._enlarge(scores, size) for task, scores in self.apply_heads(x).items()}

  def _enlarge(self, x: Array, size: tuple[int, ...]) -> Array:
    """Enlarges a map of the patches, and cuts off what lies beyond the image."""
    factor = self.backbone.patch // self.stride
    height, width = (side * factor for side in x.shape[1:3])
    return resize_bilinear(x, (height, width))[:, : size[0], : size[1]]
