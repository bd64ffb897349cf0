"""Fully convolutional networks: scores at several strides, added up (Long et al. 2015)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.base import check_output_stride
from asmjax.models.backbones.vgg import VGG
from asmjax.models.layers import Conv
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import spatial_size, upsample
from asmjax.utils.ranges import PositiveInt


class FCN(Predictor):
  """FCN-32s, FCN-16s and FCN-8s (Long et al. 2015, Sec. 4.2), by default on VGG-16.

  The scores at stride 32 are doubled in size and added to those at stride 16, and the sums to those
  at stride 8 in the same way. Doubling is learned and begins as bilinear interpolation with zeros
  beyond the border. On a dilated backbone, whose maps already have one size, nothing is doubled;
  with `stride=32` the network is then a linear classifier of the last features.

  Parameters: `backbone`; `head_{task}`, and `head_{task}_16`, `head_{task}_8` for the other
  strides; `head_{task}_up16` and `head_{task}_up8`, the kernels of the doubling.

  Attributes:
    heads: Output channels by task; each score is a 1x1 convolution.
    backbone: Network whose features are scored.
    stride: Stride of the finest features that are scored: 32, 16 or 8.
    align_corners: Where outputs lie; see `asmjax.ops.resize`. It is false for VGG, whose pools of
      2x2 center output i on pixel S i + (S - 1) / 2, where the released code's crops (of 19 pixels
      at stride 32) put it too, and true for a dilated ResNet.

  Raises:
    ValueError: The stride is unknown, or corners are aligned and maps are doubled, which is made
      for half-pixel centers.
  """

  backbone: Backbone = VGG(fc_features=4096)
  stride: PositiveInt = 8
  align_corners: bool = False

  def __post_init__(self):
    check_output_stride(self.stride)
    if self.align_corners and self.stride < self.backbone.output_stride:
      raise ValueError(
        f"align_corners=True, stride={self.stride} on a backbone of stride "
        f"{self.backbone.output_stride}: doubling is learned for half-pixel centers; expected a "
        "backbone that is dilated to the stride"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at `stride`, or at the backbone's output stride if that is smaller."""
    features = self.backbone(x, train=train)
    size = spatial_size(features[self.stride])
    enlarged = upsample(features[32], size, align_corners=self.align_corners)
    self.sow("intermediates", "features", enlarged)
    return {task: self._score(features, f"head_{task}", c) for task, c in self.heads.items()}

  def _score(self, features: Mapping[int, Array], name: str, channels: int) -> Array:
    score = Conv(channels, 1, dtype=self.dtype, name=name)(features[32])
    for stride in (16, 8):
      if stride < self.stride:
        break
      h, w = spatial_size(features[stride])
      if stride < self.backbone.output_stride:
        double = nn.ConvTranspose(
          channels,
          (4, 4),
          (2, 2),
          use_bias=False,
          dtype=self.dtype,
          name=f"{name}_up{stride}",
          kernel_init=_bilinear_kernel,
        )
        score = double(score)[:, :h, :w]
      score += Conv(channels, 1, dtype=self.dtype, name=f"{name}_{stride}")(features[stride])
    return score


def _bilinear_kernel(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
  """Interpolates each channel bilinearly: 1/4, 3/4, 3/4, 1/4 along both axes."""
  del key
  taps, (inputs, outputs) = np.array([1, 3, 3, 1]) / 4, shape[2:]
  return jnp.asarray(np.outer(taps, taps)[..., None, None] * np.eye(inputs, outputs), dtype)
