"""MobileNets: networks of depthwise separable convolutions."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, norm

# Channels and stride of the blocks (Howard et al. 2017, Table 1).
V1_BLOCKS = (
  (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)


class MobileNetV1(nn.Module):
  """MobileNet (Howard et al. 2017) without its classifier.

  ReLU follows every normalisation, as in the paper's Fig. 3; released weights were trained with
  ReLU6.

  Parameters: `conv1`, then `block{i}_depthwise` and `block{i}_pointwise`; each with its
  normalisation under the name plus `_norm`. Convolutions have a bias only where there is no
  normalisation.

  Attributes:
    width: alpha, the factor on all numbers of channels.
    norm: see `asmjax.models.layers.norm`.
    dtype: compute type.
  """

  width: float = 1.0
  norm: str = "batch"
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 f"]:
    """Features at 1/32 of the size, rounded up."""
    conv = lambda x, features, kernel, stride, name, groups=1: self._layer(
      x, Conv(features, kernel, stride, bias=self.norm == "none", groups=groups,
              dtype=self.dtype, name=name), train=train,
    )
    x = conv(x, int(32 * self.width), 3, 2, "conv1")
    for i, (features, stride) in enumerate(V1_BLOCKS, 1):
      channels = x.shape[-1]
      x = conv(x, channels, 3, stride, f"block{i}_depthwise", groups=channels)
      x = conv(x, int(features * self.width), 1, 1, f"block{i}_pointwise")
    return x

  def _layer(self, x: Array, layer: Conv, *, train: bool) -> Array:
    name = f"{layer.name}_norm"
    return nn.relu(norm(self.norm, train=train, name=name, dtype=self.dtype)(layer(x)))
