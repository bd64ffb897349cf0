"""The structure analyzer and its regularizer, which together are one autoencoder."""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.layers import Conv
from asmjax.resize import bilinear


class StructureAutoencoder(nn.Module):
  """U-Net of structures: analyzer A (the way down) and regularizer R (the way up).

  Hwang et al. 2019, Fig. 2 and Sec. 3.3. It sees structures only, never the image. With L
  filters there are 2 L - 1 convolutional layers, named conv1 to conv(2 L - 1) in the order of
  application; the last one has a skip from conv1. L = 4 is the paper's 7-layer net for the
  horses, L = 3 the 5-layer net for VOC, and L = 5 the 9-layer net for 2D-3D-S as it was released.

  Structures of several tasks that are judged together each have a first convolution of their own,
  with half the filters, whose features are concatenated (as in the authors' code).

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
    self, *structures: Float[Array, "n h w _"]
  ) -> tuple[dict[str, Float[Array, "n h2 w2 f"]], *tuple[Float[Array, "n h w _"], ...]]:
    """Features of every layer before its ReLU, and each structure's reconstruction at its size.

    What the caller does not use costs nothing once compiled.
    """
    names = iter(self.layers)
    taps: dict[str, Array] = {}

    def tap(features: Array) -> Array:
      taps[next(names)] = features
      return nn.relu(features)

    def conv(*x: Array, features: int, name: str, stride: int = 1) -> Array:
      return Conv(features, 3, stride, dtype=self.dtype, name=name)(*x)

    skips = [tap(self._first(structures))]
    for i, features in enumerate(self.filters[1:]):
      skips.append(tap(conv(skips[-1], features=features, name=self.layers[i + 1], stride=2)))
    joined = (skips.pop(),)
    for i, (features, skip) in enumerate(zip(self.filters[-2::-1], skips[::-1], strict=True)):
      name = self.layers[len(self.filters) + i]
      joined = (skip, tap(conv(*joined, features=features, name=name)))
    channels = [structure.shape[-1] for structure in structures]
    x = Conv(sum(channels), 1, dtype=self.dtype, name="reconstruction")(*joined)
    x = bilinear(x, structures[0].shape[1:3])
    return taps, *jnp.split(x, list(itertools.accumulate(channels))[:-1], axis=-1)

  def _first(self, structures: Sequence[Array]) -> Array:
    if len(structures) == 1:
      return Conv(self.filters[0], 3, 2, dtype=self.dtype, name=self.layers[0])(*structures)
    return jnp.concatenate([
      Conv(self.filters[0] // 2, 3, 2, dtype=self.dtype, name=f"{self.layers[0]}_{i + 1}")(each)
      for i, each in enumerate(structures)
    ], axis=-1)
