"""Farabet et al.'s multi-scale network: one small network on a pyramid of images (2013)."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from asmjax.models.layers import Conv, ConvNet, Norm
from asmjax.ops import max_pool, resize_bilinear

# Of RGB: luminance first.
_YUV = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])


class Farabet(ConvNet):
  """The multi-scale network of Farabet et al. (2013, Sec. 3 and 5) with its two-layer classifier.

  A Laplacian pyramid of the image, each level normalized locally, is seen by the same three
  convolutions of 7x7 with two pools between; the features of all levels, resized to those of the
  first, are classified pixel by pixel. Each filter of the first layer sees luminance or chroma,
  each of the others some of the maps before it, chosen once at random.

  Parameters: `conv1` to `conv3`, `hidden`, `head_{task}`.

  Attributes:
    norm: after each convolution; the paper's network has none.
    activation: after that.
    heads: output channels by task; each head is a 1x1 convolution.
    scales: levels of the pyramid.
    widths: channels of the three convolutions; 10 of 16 filters of the first see luminance.
    seen: maps that each filter of the second and of the third convolution sees.
    hidden: channels of the classifier's hidden layer.

  Raises:
    ValueError: a filter is to see more maps than there are.
  """

  norm: Norm = dataclasses.field(default=Norm("none"), kw_only=True)
  activation: Callable[[Array], Array] = dataclasses.field(default=jnp.tanh, kw_only=True)
  heads: Mapping[str, int]
  scales: int = 3
  widths: tuple[int, int, int] = (16, 64, 256)
  seen: tuple[int, int] = (8, 32)
  hidden: int = 1024

  def __post_init__(self):
    if any(seen > width for seen, width in zip(self.seen, self.widths[:2], strict=True)):
      raise ValueError(f"seen={self.seen} maps of widths={self.widths[:2]}: more than there are")
    super().__post_init__()

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"], *, train: bool
  ) -> dict[str, Float[Array, "n h2 w2 c"]]:
    """Maps by task, at a quarter of the image's size, rounded up."""
    yuv = x @ jnp.asarray(_YUV.T, x.dtype)
    levels = [locally_normalized(each) for each in laplacian_pyramid(yuv, self.scales)]
    convolve = self._convolutions(train=train)
    maps = [convolve(each) for each in levels]
    x = jnp.concatenate([resize_bilinear(each, maps[0].shape[1:3]) for each in maps], -1)
    x = self.conv_block(train=train)(x, features=self.hidden, kernel=1, name="hidden")
    self.sow("intermediates", "features", x)
    return {
      task: self.conv(channels, 1, dtype=self.dtype, name=f"head_{task}")(x)
      for task, channels in self.heads.items()
    }

  def _convolutions(self, *, train: bool) -> Callable[[Array], Array]:
    """The three convolutions, made once and applied to any level."""
    masks, bias = connections((3, *self.widths), self.seen), self.conv_block(train=train).bias
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
      self.norm.layer(train=train, name=f"conv{i}_norm", dtype=self.dtype) for i in (1, 2, 3)
    ]

    def convolve(x: Array) -> Array:
      for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        x = x if i == 0 else max_pool(x, 2, 2)
        x = self.activation(norm(conv(x)))
      return x

    return convolve


def laplacian_pyramid(x: Float[Array, "n h w c"], levels: int) -> list[Float[Array, "n _ _ c"]]:
  """What each halving of the size takes away, finest first, and what is left in the end.

  Before it is halved, a level is blurred by the binomial filter of five taps (Burt and Adelson
  1983). Added up, each resized to the size of the one before, the levels give `x` again.
  """
  found = []
  for _ in range(levels - 1):
    half = _blurred(x)[:, ::2, ::2]
    found.append(x - resize_bilinear(half, x.shape[1:3]))
    x = half
  return [*found, x]


def locally_normalized(x: Float[Array, "n h w c"], window: int = 15) -> Float[Array, "n h w c"]:
  """Each channel less its mean in the window around a pixel, over its deviation there.

  Where the deviation is below its mean over the image it is that mean, so that flat parts stay
  flat (Jarrett et al. 2009).
  """
  x = x - _means(x, window)
  deviation = jnp.sqrt(_means(jnp.square(x), window) + 1e-8)
  return x / jnp.maximum(deviation, jnp.mean(deviation, (1, 2), keepdims=True))


def _means(x: Array, window: int) -> Array:
  """The mean of the pixels in the window around each, axis by axis, of those within the image."""
  for shape in ((window, 1), (1, window)):
    x = nn.avg_pool(x, shape, (1, 1), "SAME", count_include_pad=False)
  return x


def _blurred(x: Array) -> Array:
  taps = jnp.asarray(np.array([1, 4, 6, 4, 1]) / 16, x.dtype)
  for axis in (1, 2):
    widths = [(2, 2) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(x, widths, "edge")
    x = sum(
      tap * lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i, tap in enumerate(taps)
    )
  return x


def connections(widths: Sequence[int], seen: Sequence[int]) -> list[np.ndarray]:
  """For each convolution 1 where a filter sees an input: (7, 7, inputs, filters)."""
  rng = np.random.default_rng(0)
  masks = [np.zeros(pair, np.float32) for pair in itertools.pairwise(widths)]
  luminance = widths[1] * 5 // 8
  masks[0][0, :luminance] = masks[0][1:, luminance:] = 1
  for mask, count in zip(masks[1:], seen, strict=True):
    for column in mask.T:
      column[rng.choice(len(column), count, replace=False)] = 1
  return [np.broadcast_to(mask, (7, 7, *mask.shape)) for mask in masks]
