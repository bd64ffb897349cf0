"""Residual networks of bottlenecks, version 1 (He et al. 2016)."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, norm

# Bottlenecks a stage by the number of layers, the classifier included.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNet(nn.Module):
  """ResNet without its classifier, with dilation in place of the last strides if so told.

  A stage that gives up its stride dilates all its 3x3 convolutions instead, so that its features
  at the places that the stride would have kept are the same. The stride of a stage sits on the
  first 1x1 convolution of its first block, as in the weights published with the paper.

  Parameters: `conv1`, then `stage{i}_block{j}` with `conv1` to `conv3` and, in the first block of
  a stage, `shortcut`; each with its normalisation under the name plus `_norm`.

  Attributes:
    blocks: bottlenecks a stage; see `BLOCKS`.
    width: channels of the stem; stage i ends in 4 * 2^(i - 1) times as many.
    output_stride: of the last stage: 32, 16 or 8.
    norm: see `asmjax.models.layers.norm`.
    dtype: compute type.
  """

  blocks: tuple[int, ...] = BLOCKS[50]
  width: int = 64
  output_stride: int = 32
  norm: str = "batch"
  dtype: Any = None

  def __post_init__(self):
    if self.output_stride not in (8, 16, 32):
      raise ValueError(f"output_stride={self.output_stride}; known: 8, 16, 32")
    super().__post_init__()

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], *, train: bool
  ) -> tuple[Float[Array, "n _ _ _"], ...]:
    """Features of every stage, the finest (1/4 of the size, rounded up) first."""
    x = nn.relu(normalised(
      x, self.width, 7, 2, kind=self.norm, train=train, dtype=self.dtype, name="conv1"
    ))
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    reached, dilation, features = 4, 1, []
    for i, blocks in enumerate(self.blocks):
      stride = 2 if i > 0 and reached < self.output_stride else 1
      dilation *= 2 if i > 0 and stride == 1 else 1
      reached *= stride
      for j in range(blocks):
        x = Bottleneck(
          self.width * 2**i, stride if j == 0 else 1, dilation, self.norm, self.dtype,
          name=f"stage{i + 1}_block{j + 1}",
        )(x, train=train)
      features.append(x)
    return tuple(features)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolution, added to the input or to its projection.

  Attributes:
    width: channels of the first two convolutions; the third has four times as many.
    stride: of the first convolution and the projection.
    dilation: of the 3x3 convolution.
    norm: see `asmjax.models.layers.norm`.
    dtype: compute type.
  """

  width: int
  stride: int
  dilation: int
  norm: str
  dtype: Any

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n h2 w2 f"]:
    """Features at 1/stride of the size, rounded up."""
    settings = {"kind": self.norm, "train": train, "dtype": self.dtype}
    y = nn.relu(normalised(x, self.width, 1, self.stride, name="conv1", **settings))
    y = nn.relu(normalised(y, self.width, 3, 1, self.dilation, name="conv2", **settings))
    y = normalised(y, 4 * self.width, 1, name="conv3", **settings)
    if x.shape[-1] != y.shape[-1] or self.stride > 1:
      x = normalised(x, 4 * self.width, 1, self.stride, name="shortcut", **settings)
    return nn.relu(x + y)


def normalised(
  x: Float[Array, "n h w c"], features: int, kernel: int, stride: int = 1, dilation: int = 1, *,
  kind: str, train: bool, dtype: Any, name: str,
) -> Float[Array, "n h2 w2 f"]:
  """A convolution `name` and its normalisation `{name}_norm`, in the module that calls this.

  The convolution has a bias only where there is no normalisation (`kind` "none").
  """
  x = Conv(features, kernel, stride, dilation, kind == "none", dtype, name=name)(x)
  return norm(kind, train=train, name=f"{name}_norm", dtype=dtype)(x)
