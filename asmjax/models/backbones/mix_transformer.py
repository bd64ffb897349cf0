"""Mix Transformer (MiT), the hierarchical transformer of SegFormer (Xie et al. 2021)."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import Conv, ConvBlock, Norm
from asmjax.models.transformer import DropPath, Linear, attend, drop_path_rates, gelu
from asmjax.ops import spatial_size
from asmjax.utils.ranges import BelowOne, PositiveInt

# Blocks and channels of each stage of B0 to B5 (Xie et al. 2021, Table 6).
DEPTHS = ((2, 2, 2, 2), (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 18, 3), (3, 8, 27, 3), (3, 6, 40, 3))
WIDTHS = ((32, 64, 160, 256), *((64, 128, 320, 512),) * 5)


class MixTransformer(Backbone):
  """Mix Transformer without its classifier (Xie et al. 2021, Sec. 3.1); the defaults are B0.

  Each stage begins with a convolution of overlapping patches and ends in a normalization. Its
  blocks attend to all of the image, whose keys and values a convolution has thinned out. A 3x3
  convolution within their feed-forward networks takes the place of an embedding of positions, so
  any size will do. Dilation cannot stand for the strides: the output stride is 32.

  Parameters: for stage i `stage{i}_embed` and `stage{i}_embed_norm`, blocks `stage{i}_block{j}`,
  and `stage{i}_norm`; see `MixTransformerBlock`.

  Attributes:
    norm: Normalization; 1e-5 is the epsilon of the weights in Hugging Face's format.
    activation: Function within the feed-forward networks.
    depths: Number of blocks of each stage; see `DEPTHS`.
    widths: Channels of each stage; see `WIDTHS`.
    num_heads: Number of heads of each stage's attention; it divides the channels.
    reductions: Side of the windows of each stage that have one key and one value.
    expansion: Channels within the feed-forward networks, as a multiple of those outside.
    drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.

  Raises:
    ValueError: The stages have numbers of different lengths, or a stage's channels cannot be
      divided among its heads.
  """

  norm: Norm = dataclasses.field(default=Norm("layer"), kw_only=True)
  activation: Callable[[Array], Array] = dataclasses.field(default=gelu, kw_only=True)
  depths: tuple[PositiveInt, ...] = DEPTHS[0]
  widths: tuple[PositiveInt, ...] = WIDTHS[0]
  num_heads: tuple[PositiveInt, ...] = (1, 2, 5, 8)
  reductions: tuple[PositiveInt, ...] = (8, 4, 2, 1)
  expansion: PositiveInt = 4
  drop_path: BelowOne = 0.1

  def __post_init__(self):
    stages = (self.depths, self.widths, self.num_heads, self.reductions)
    if any(len(values) != 4 for values in stages):
      raise ValueError(
        f"depths={self.depths}, widths={self.widths}, num_heads={self.num_heads}, "
        f"reductions={self.reductions}; expected one of each for each of 4 stages"
      )
    if any(width % heads for width, heads in zip(self.widths, self.num_heads, strict=True)):
      raise ValueError(f"widths={self.widths} are no multiples of num_heads={self.num_heads}")
    super().__post_init__()
    self.keep_strides("its queries, keys and values are those of its own strides")

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the normalized features of each nominal stride from 4 on; see `Backbone`."""
    conv_block = self.conv_block(train=train)
    make_block, features, nominal = self.maybe_remat(MixTransformerBlock), {}, 1
    rates = iter(drop_path_rates(self.drop_path, sum(self.depths)))
    for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
      name, kernel, stride = f"stage{i + 1}", *((3, 2) if i else (7, 4))
      nominal *= stride
      x = conv_block(
        x, features=width, kernel=kernel, stride=stride, activate=False, name=f"{name}_embed"
      )
      for j in range(depth):
        x = make_block(
          self.num_heads[i],
          self.reductions[i],
          self.expansion,
          next(rates),
          conv_block,
          name=f"{name}_block{j + 1}",
        )(x)
      x = features[nominal] = conv_block.finish(x, activate=False, name=name)
    return features

  def layer_groups(self) -> tuple[str, ...]:
    """Names each stage's embedding, then its blocks; see `Backbone.layer_groups`.

    The normalizations of what the stages return are as deep as the heads.
    """
    counted = enumerate(self.depths, 1)
    layers = lambda depth: ("embed", *(f"block{j}" for j in range(1, depth + 1)))
    return tuple(f"stage{i}_{layer}" for i, depth in counted for layer in layers(depth))


class MixTransformerBlock(nn.Module):
  """Self-attention and feed-forward network, each normalized before and added to its input.

  Parameters: `attention_norm`, `query`, `key`, `value` and `project`, and with a reduction `reduce`
  and `reduce_norm`; `mlp_norm`, `fc1`, `depthwise` and `fc2`.

  Attributes:
    num_heads: Number of heads.
    reduction: Side of the windows that have one key and one value.
    expansion: Channels within the feed-forward network, as a multiple of those outside.
    drop_path: Rate of stochastic depth.
    conv_block: Factory of the layers.
  """

  num_heads: int
  reduction: int
  expansion: int
  drop_path: float
  conv_block: ConvBlock

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes features of the same size."""
    drop = lambda y: DropPath(self.drop_path)(y, train=self.conv_block.train)
    x = x + drop(self._attend(self._normalize(x, "attention")))
    return x + drop(self._mix(self._normalize(x, "mlp")))

  def _normalize(self, x: Array, name: str) -> Array:
    return self.conv_block.finish(x, activate=False, name=name)

  def _linear(self, x: Array, name: str, features: int) -> Array:
    return Linear(features, dtype=self.conv_block.dtype, name=name)(x)

  def _attend(self, x: Array) -> Array:
    """Attends to the whole map (Sec. 3.1, Eq. 1 and 2)."""
    (n, _, _, width), thinned, side = x.shape, x, self.reduction
    if side > 1:
      # Windows that reach beyond the map are left out as in released code, but for the first one.
      below, right = (_pad_to(side, length) for length in spatial_size(x))
      padding, dtype = ((0, below), (0, right)), self.conv_block.dtype
      thinned = Conv(width, side, side, dtype=dtype, padding=padding, name="reduce")(x)
      thinned = self._normalize(thinned, "reduce")
    parts = {"query": x, "key": thinned, "value": thinned}
    queries, keys, values = (
      self._linear(part, name, width).reshape(n, -1, width) for name, part in parts.items()
    )
    attended = attend(queries, keys, values, num_heads=self.num_heads)
    return self._linear(attended.reshape(x.shape), "project", width)

  def _mix(self, x: Array) -> Array:
    """Applies the feed-forward network (Mix-FFN; Sec. 3.1, Eq. 3)."""
    width, dtype = x.shape[-1], self.conv_block.dtype
    x = self._linear(x, "fc1", self.expansion * width)
    x = Conv(x.shape[-1], groups=x.shape[-1], dtype=dtype, name="depthwise")(x)
    return self._linear(self.conv_block.activation(x), "fc2", width)


def _pad_to(side: int, length: int) -> int:
  """Returns how many pixels a map lacks of a window; the unknown size of an export has one."""
  return 0 if is_symbolic_dim(length) else max(side - length, 0)
