"""Farabet et al.'s multi-scale network: one small network on a pyramid of images (2013)."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from asmjax.models.input_transform import normalize_locally
from asmjax.models.layers import Conv, Norm
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.ops import max_pool, resize_bilinear, spatial_size
from asmjax.utils.ranges import PositiveInt

# Analog PAL's YUV of RGB, luminance first: the weights of ITU-R BT.601.
_YUV = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])


class Farabet(Predictor):
  """The multi-scale network of Farabet et al. (2013, Sec. 3 and 5) with its two-layer classifier.

  A Laplacian pyramid of the image, each level normalized locally, goes through the same three
  convolutions of 7x7 with two pools between; the features of all levels, resized to those of the
  first, are classified pixel by pixel. Each filter of the first layer sees luminance or chroma,
  each of the others some of the maps before it, chosen once at random.

  Parameters: `conv1` to `conv3`, `hidden`, `head_{task}`.

  Attributes:
    norm: Normalization after each convolution; the paper's network has none.
    activation: Function after the normalization.
    heads: Output channels by task; each head is a 1x1 convolution.
    scales: Number of levels of the pyramid.
    widths: Channels of the three convolutions; 10 of 16 filters of the first see luminance.
    fan_in: Number of maps that each filter of the second and of the third convolution sees.
    hidden: Channels of the classifier's hidden layer.

  Raises:
    ValueError: A filter is to see more maps than there are.
  """

  norm: Norm = dataclasses.field(default=Norm("none"), kw_only=True)
  activation: Callable[[Array], Array] = dataclasses.field(default=jnp.tanh, kw_only=True)
  scales: PositiveInt = 3
  widths: tuple[int, int, int] = (16, 64, 256)
  fan_in: tuple[int, int] = (8, 32)
  hidden: PositiveInt = 1024

  def __post_init__(self):
    if any(count > width for count, width in zip(self.fan_in, self.widths[:2], strict=True)):
      raise ValueError(
        f"fan_in={self.fan_in} maps of widths={self.widths[:2]}: more than there are"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at a quarter of the image's size, rounded up."""
    yuv = x @ jnp.asarray(_YUV.T, x.dtype)
    extract = self._feature_extractor(train=train)
    maps = [extract(normalize_locally(level)) for level in laplacian_pyramid(yuv, self.scales)]
    size = spatial_size(maps[0])
    x = jnp.concatenate([resize_bilinear(features, size) for features in maps], -1)
    x = self.conv_block(train=train)(x, features=self.hidden, kernel=1, name="hidden")
    self.sow("intermediates", "features", x)
    return self.apply_heads(x)

  def _feature_extractor(self, *, train: bool) -> Callable[[Array], Array]:
    """Creates the three convolutions once, to be applied to any level."""
    masks = connection_masks((3, *self.widths), self.fan_in)
    bias = self.conv_block(train=train).bias
    # Variance 1 / fan_in, for a tanh (LeCun et al. 1998), of the inputs that the mask leaves.
    init = lambda mask: nn.initializers.variance_scaling(1 / mask.mean(), "fan_in", "normal")
    convs = [
      Conv(
        mask.shape[-1],
        7,
        bias=bias,
        dtype=self.dtype,
        kernel_init=init(mask),
        mask=mask,
        name=f"conv{i}",
      )
      for i, mask in enumerate(masks, 1)
    ]
    norms = [
      self.norm.make_layer(train=train, name=f"conv{i}_norm", dtype=self.dtype) for i in (1, 2, 3)
    ]

    def extract(x: Array) -> Array:
      for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        x = x if i == 0 else max_pool(x, 2, 2)
        x = self.activation(norm(conv(x)))
      return x

    return extract


def laplacian_pyramid(x: Float[Array, "n h w c"], levels: int) -> list[Float[Array, "n _ _ c"]]:
  """Splits maps into bands of spatial frequencies, finest first (Burt and Adelson 1983).

  Before its size is halved, a level is blurred by the binomial filter of five taps. Added up, each
  resized to the size of the one before, the levels give `x` again; the last is the low-pass part.
  """
  bands = []
  for _ in range(levels - 1):
    half = _blur(x)[:, ::2, ::2]
    bands.append(x - resize_bilinear(half, spatial_size(x)))
    x = half
  return [*bands, x]


def _blur(x: Array) -> Array:
  taps = jnp.asarray(np.array([1, 4, 6, 4, 1]) / 16, x.dtype)
  for axis in (1, 2):
    widths, side = [(2, 2) if i == axis else (0, 0) for i in range(4)], x.shape[axis]
    padded = jnp.pad(x, widths, "edge")
    shifted = [lax.slice_in_dim(padded, i, i + side, axis=axis) for i in range(len(taps))]
    products = [tap * part for tap, part in zip(taps, shifted, strict=True)]
    x = functools.reduce(jnp.add, products)
  return x


def connection_masks(widths: Sequence[int], fan_in: Sequence[int]) -> list[np.ndarray]:
  """Chooses which inputs each filter sees: for each convolution (7, 7, inputs, filters), 0 or 1.

  Args:
    widths: Channels of the input and of each convolution.
    fan_in: Number of inputs of each filter, for all convolutions but the first.
  """
  rng = np.random.default_rng(0)
  masks = [np.zeros(pair, np.float32) for pair in itertools.pairwise(widths)]
  luminance = widths[1] * 5 // 8  # 10 of the paper's 16 filters.
  masks[0][0, :luminance] = masks[0][1:, luminance:] = 1
  for mask, count in zip(masks[1:], fan_in, strict=True):
    for column in mask.T:
      column[rng.choice(len(column), count, replace=False)] = 1
  return [np.broadcast_to(mask, (7, 7, *mask.shape)) for mask in masks]
