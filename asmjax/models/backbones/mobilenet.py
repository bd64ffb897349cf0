"""MobileNets: networks of depthwise separable convolutions."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import Network

# Channels and stride of the blocks (Howard et al. 2017, Table 1).
V1_BLOCKS = (
  (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)


class MobileNetV1(Network):
  """MobileNet (Howard et al. 2017) without its classifier.

  ReLU follows every normalisation, as in the paper's Fig. 3; released weights were trained with
  ReLU6.

  Parameters: `conv1`, then `block{i}_depthwise` and `block{i}_pointwise`; each with its
  normalisation under the name plus `_norm`. Convolutions have a bias only where there is no
  normalisation.

  Attributes:
    width: alpha, the factor on all numbers of channels.
  """

  width: float = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 f"]:
    """Features at 1/32 of the size, rounded up."""
    layers = self.layers(train=train)
    x = layers(x, features=int(32 * self.width), stride=2, name="conv1")
    for i, (features, stride) in enumerate(V1_BLOCKS, 1):
      channels = x.shape[-1]
      x = layers(x, features=channels, stride=stride, groups=channels, name=f"block{i}_depthwise")
      x = layers(x, features=int(features * self.width), kernel=1, name=f"block{i}_pointwise")
    return x
