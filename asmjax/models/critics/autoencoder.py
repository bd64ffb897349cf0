"""The structure analyzer and its regularizer, which together are one autoencoder."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import Conv
from asmjax.resize import bilinear


class StructureAutoencoder(nn.Module):
  """U-Net of structures: analyzer A (the way down) and regularizer R (the way up).

  Hwang et al. 2019, Fig. 2 and Sec. 3.3. It sees structures only, never the image. With L
  filters there are 2 L - 1 convolutional layers, named conv1 to conv(2 L - 1) in the order of
  application; the last one has a skip from conv1. L = 4 is the paper's 7-layer net for the
  horses, L = 3 the 5-layer net for VOC, and L = 5 the 9-layer net for 2D-3D-S as it was released.

  Attributes:
    filters: of the stride-2 convolutions on the way down.
    dtype: compute type.
  """

  filters: tuple[int, ...] = (32, 64, 128, 128)
  dtype: Any = None

  @property
  def layers(self) -> tuple[str, ...]:
    """The names of all feature taps, in the order of application."""
    return tuple(f"conv{i + 1}" for i in range(2 * len(self.filters) - 1))

  @nn.compact
  def __call__(
    self, structure: Float[Array, "n h w c"]
  ) -> tuple[dict[str, Float[Array, "n h2 w2 f"]], Float[Array, "n h w c"]]:
    """Features of every layer before its ReLU, and the reconstruction at the input's size.

    What the caller does not use costs nothing once compiled.
    """
    names = iter(self.layers)
    taps: dict[str, Array] = {}

    def conv(*x: Array, features: int, stride: int = 1) -> Array:
      name = next(names)
      taps[name] = Conv(features, 3, stride, dtype=self.dtype, name=name)(*x)
      return nn.relu(taps[name])

    skips = [structure]
    for features in self.filters:
      skips.append(conv(skips[-1], features=features, stride=2))
    joined = (skips.pop(),)
    for features, skip in zip(self.filters[-2::-1], skips[:0:-1], strict=True):
      joined = (skip, conv(*joined, features=features))
    x = Conv(structure.shape[-1], 1, dtype=self.dtype, name="reconstruction")(*joined)
    return taps, bilinear(x, structure.shape[1:3])
