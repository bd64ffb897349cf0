"""The structure analyzer and its regularizer, which together are one autoencoder."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, uniform_bias
from asmjax.ops import resize_bilinear, spatial_size
from asmjax.utils.ranges import NonNegative


class StructureAutoencoder(nn.Module):
  """U-Net of structures: analyzer A (the way down) and regularizer R (the way up).

  Hwang et al. 2019, Fig. 2 and Sec. 3.3. It sees structures only, never the image. With L
  filters there are 2 L - 1 convolutional layers, named conv1 to conv(2 L - 1) in the order of
  application; the last one has a skip from conv1. L = 4 is the paper's 7-layer net for the
  horses, L = 3 the 5-layer net for VOC, and L = 5 the 9-layer net for 2D-3D-S as it was released.

  Structures of several tasks that are compared jointly each have a first convolution of their own,
  whose features are concatenated, as in the authors' code: there with 16 filters each, also for
  the structure of one task.

  Biases start as TensorFlow's default has them, uniform in +-sqrt(3 / filters). With biases of 0
  the direction of a feature would not depend on the scale of its structure, so that normalized
  features could not tell one depth from another.

  Attributes:
    filters: Channels of the stride-2 convolutions on the way down; those of the first for each
      structure.
    max_norm: Largest norm of the filter of a feature, of all weights that it has; 0 for any.
    dtype: Compute type.
  """

  filters: tuple[int, ...] = (32, 64, 128, 128)
  max_norm: NonNegative = 0.0
  dtype: Any = None

  @property
  def layers(self) -> tuple[str, ...]:
    """Names of the layers whose features are returned, in the order of application."""
    return tuple(f"conv{i + 1}" for i in range(2 * len(self.filters) - 1))

  @nn.compact
  def __call__(
    self, *structures: Float[Array, "n h w _"]
  ) -> tuple[dict[str, Float[Array, "n h2 w2 f"]], *tuple[Float[Array, "n h w _"], ...]]:
    """Computes the features of every layer before its ReLU, and reconstructs each structure.

    What the caller does not use costs nothing once compiled.

    Args:
      *structures: Structures of one task each, all of the same size.

    Returns:
      Features by layer, and the reconstruction of each structure at its size.
    """
    size = spatial_size(structures[0])
    outputs: dict[str, Array] = {}

    def record(features: Array) -> Array:
      outputs[self.layers[len(outputs)]] = features
      return nn.relu(features)

    conv = functools.partial(Conv, dtype=self.dtype, bias_init=uniform_bias, max_norm=self.max_norm)
    first = [
      conv(self.filters[0], 3, 2, name="conv1" if len(structures) == 1 else f"conv1_{i}")(structure)
      for i, structure in enumerate(structures, 1)
    ]
    skips = [record(jnp.concatenate(first, axis=-1))]
    for features, name in zip(self.filters[1:], self.layers[1:], strict=False):
      skips.append(record(conv(features, 3, 2, name=name)(skips[-1])))
    inputs = (skips.pop(),)
    for skip, name in zip(reversed(skips), self.layers[len(self.filters) :], strict=True):
      inputs = (skip, record(conv(skip.shape[-1], 3, name=name)(*inputs)))
    channels = [structure.shape[-1] for structure in structures]
    x = conv(sum(channels), 1, max_norm=0.0, name="reconstruction")(*inputs)
    x = resize_bilinear(x, size)
    return outputs, *jnp.split(x, list(itertools.accumulate(channels))[:-1], axis=-1)
