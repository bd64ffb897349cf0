"""Discriminators: critics with one logit of "this is the truth" for each patch of a structure."""

import itertools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, ConvNet
from asmjax.ops import max_pool


class LucNet(nn.Module):
  """The discriminators for VOC of Luc et al. 2016 (supplement, Table 1).

  Every logit depends on 34x34 pixels (LargeFOV) or 18x18 pixels (SmallFOV), and there is one for
  every 4x4 pixels. In SmallFOV every second convolution is 1x1. The table lists a ReLU after every
  convolution but the last, the 1x1 ones before the pools included.

  The layers add up to the table's numbers of parameters except for two entries: SmallFOV has
  1.6e6 (the table prints 2.4e6, that of LargeFOV), and SmallFOV-light on the "product" of image
  and labels has 5.3e5 (printed 9.1e5, that of LargeFOV-light).

  Attributes:
    large: Whether it is LargeFOV, or SmallFOV.
    light: Whether it is the table's variant with about a third of the parameters.
    spectral: Whether every kernel is divided by its largest singular value (Miyato et al. 2018).
    dtype: Compute type.
  """

  large: bool = True
  light: bool = False
  spectral: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(
    self, structure: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n h2 w2 1"]:
    """Computes logits at a quarter of the size, rounded up."""
    middle, last = (128, 256) if self.light else (256, 512)
    first = (96, 128, 128) if self.large else (96, 128)
    return _apply_stages(
      structure,
      (first, (middle, middle), (last,)),
      (3, 3) if self.large else (3, 1),
      train=train,
      spectral=self.spectral,
      dtype=self.dtype,
    )


class TwoBranchNet(nn.Module):
  """The discriminator of a structure and its image, for Stanford Background (Luc et al. 2016).

  The paper's text (Sec. 4) gives: a branch for each input, 64 channels of either where they are
  joined, then convolutions and max pools, two of them in all, so that there is one logit for every
  4x4 pixels of the structure. The kernels and widths are those that public re-implementations
  read off its Figure 1; its branches here do not pool, hence the image has the structure's size.
  Every logit depends on 30x30 pixels of the structure and 34x34 of the image. Where the text has a
  sigmoid, its argument is the difference of two outputs, as in `LucNet`.

  Attributes:
    spectral: Whether every kernel is divided by its largest singular value (Miyato et al. 2018).
    dtype: Compute type.
  """

  spectral: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(
    self, structure: Float[Array, "n h w c"], image: Float[Array, "n h w 3"], *, train: bool
  ) -> Float[Array, "n h2 w2 1"]:
    """Computes logits at a quarter of the size, rounded up."""
    settings = {"train": train, "spectral": self.spectral}
    conv = lambda x, features, name: nn.relu(
      _convolve(x, Conv(features, 5, dtype=self.dtype, name=name), **settings)
    )
    joined = jnp.concatenate(
      [conv(structure, 64, "structure"), conv(conv(image, 16, "image1"), 64, "image2")], axis=-1
    )
    return _apply_stages(joined, ((128,), (256,), (512,)), (3, 3), **settings, dtype=self.dtype)


class PatchNet(ConvNet):
  """The patch discriminator that was released with Hwang et al. 2019, as "cGAN".

  4x4 convolutions, each with a normalization and a ReLU, of stride 2 but for the last, and a 4x4
  convolution to the logit. With the default filters every logit depends on 142x142 pixels, and
  there is one for every 16x16.

  Attributes:
    filters: Channels of all convolutions but the one to the logit.
    spectral: Whether every kernel is divided by its largest singular value (Miyato et al. 2018).
  """

  filters: tuple[int, ...] = (64, 128, 256, 512, 512)
  spectral: bool = False

  @nn.compact
  def __call__(
    self, structure: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n h2 w2 1"]:
    """Computes logits at 1/2^(number of filters - 1) of the size, rounded up."""
    settings, x = {"train": train, "spectral": self.spectral}, structure
    conv_block = self.conv_block(train=train)
    for i, features in enumerate(self.filters, 1):
      stride, name = 2 if i < len(self.filters) else 1, f"conv{i}"
      conv = Conv(features, 4, stride, bias=conv_block.bias, dtype=self.dtype, name=name)
      x = conv_block.finish(_convolve(x, conv, **settings), name=name)
    return _convolve(x, Conv(1, 4, dtype=self.dtype, name="logit"), **settings)


def _apply_stages(
  x: Float[Array, "n h w c"],
  stages: tuple[tuple[int, ...], ...],
  kernels: tuple[int, int],
  *,
  train: bool,
  spectral: bool,
  dtype: Any,
) -> Float[Array, "n h2 w2 1"]:
  """Computes the logit of a softmax over (false, true), after stages with 2x2 max pools in between.

  `stages` are the output channels of the convolutions by stage; `kernels` the sides of their
  kernels, taken in turn within a stage, the second one also for the two outputs.
  """
  conv = lambda x, features, kernel, name: _convolve(
    x, Conv(features, kernel, dtype=dtype, name=name), train=train, spectral=spectral
  )
  names = (f"conv{i}" for i in itertools.count(1))
  for i, stage in enumerate(stages):
    if i > 0:
      x = max_pool(x, 2, 2)
    for features, kernel in zip(stage, itertools.cycle(kernels), strict=False):
      x = nn.relu(conv(x, features, kernel, next(names)))
  x = conv(x, 2, kernels[1], "outputs")
  return x[..., 1:] - x[..., :1]


def _convolve(x: Array, layer: nn.Module, *, train: bool, spectral: bool) -> Array:
  if not spectral:
    return layer(x)
  return nn.SpectralNorm(layer, name=f"{layer.name}_spectral")(x, update_stats=train)
