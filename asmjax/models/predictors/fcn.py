"""Fully convolutional networks: scores at several strides, added up (Long et al. 2015)."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asmjax.models.backbones import Backbone
from asmjax.models.backbones.base import check_output_stride
from asmjax.models.backbones.vgg import VGG
from asmjax.models.layers import ConvNet
from asmjax.ops import upsample


class FCN(ConvNet):
  """FCN-32s, FCN-16s and FCN-8s (Long et al. 2015, Sec. 4.2), by default on VGG-16.

  The scores at stride 32 are doubled in size and added to those at stride 16, and the sums
  likewise to those at stride 8. Doubling is learned and begins as bilinear interpolation with
  zeros beyond the border. On a dilated backbone, whose maps already have one size, nothing is
  doubled; with `stride=32` the network is then a linear classifier of the last features.

  Parameters: `backbone`; `head_{task}`, and `head_{task}_16`, `head_{task}_8` for the other
  strides; `head_{task}_up16` and `head_{task}_up8`, the kernels of the doubling.

  Attributes:
    heads: output channels by task; each score is a 1x1 convolution.
    backbone: whose features are scored.
    stride: of the finest features that are: 32, 16 or 8.
    align_corners: Where outputs lie; see `asmjax.ops.resize`. False for VGG, whose pools
      of 2x2 center output i on pixel S i + (S - 1) / 2, where the released code's crops (of 19
      pixels at stride 32) put it too; True for a dilated ResNet.

  Raises:
    ValueError: an unknown stride, or aligned corners with doubling, which has half-pixel centers.
  """

  heads: Mapping[str, int]
  backbone: Backbone = VGG(fully=4096)
  stride: int = 8
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
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at `stride` or at the backbone's output stride if that is smaller."""
    features = self.backbone(x, train=train)
    size = features[self.stride].shape[1:3]
    self.sow(
      "intermediates", "features", upsample(features[32], size, align_corners=self.align_corners)
    )
    return {task: self._scores(features, f"head_{task}", c) for task, c in self.heads.items()}

  def _scores(self, features: Mapping[int, Array], name: str, channels: int) -> Array:
    score = self.conv(channels, 1, dtype=self.dtype, name=name)(features[32])
    for stride in (16, 8):
      if stride < self.stride:
        break
      h, w = features[stride].shape[1:3]
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
      score += self.conv(channels, 1, dtype=self.dtype, name=f"{name}_{stride}")(features[stride])
    return score


def _bilinear_kernel(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
  """Each channel's own bilinear interpolation: 1/4, 3/4, 3/4, 1/4 along both axes."""
  del key
  taps = np.array([1, 3, 3, 1]) / 4
  return jnp.asarray(np.outer(taps, taps)[..., None, None] * np.eye(*shape[2:]), dtype)
