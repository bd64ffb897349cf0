"""Vision transformers (Dosovitskiy et al. 2021), as DINOv2 and DINOv3 were released."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from asmjax.models.adapters import Adapters
from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import ConvBlock, Norm
from asmjax.models.transformer import MLP, DropPath, attend, drop_path_rates, gelu, truncated_normal
from asmjax.ops import conv2d, spatial_size
from asmjax.utils.ranges import BelowOne, Count, NonNegative, PositiveInt

# Nominal strides of the four outputs, which DPT brings them to (Ranftl et al. 2021, Sec. 3.1).
STRIDES = (4, 8, 16, 32)

# Base of the wavelengths of rotary embeddings: the `rope_theta` of DINOv3's weights.
_ROTARY_BASE = 100.0


class Tokens(NamedTuple):
  """Output of a block.

  Attributes:
    cls: Class token.
    patches: Tokens of the patches, as a map at the stride of a patch.
  """

  cls: Float[Array, "n c"]
  patches: Float[Array, "n h w c"]


class ViT(Backbone):
  """Vision transformer without its classifier; the defaults are DINOv2's ViT-S/14.

  | network | settings |
  |---|---|
  | DINOv2, S (Oquab et al. 2024) | |
  | DINOv2, B | `width=768, num_heads=12` |
  | DINOv2, L | `width=1024, num_heads=16, depth=24, outputs=(6, 12, 18, 24)` |
  | with registers (Darcet et al. 2024) | `registers=4, antialias=True` |
  | DINOv3, S | `patch=16, positions=0, registers=4, key_bias=False, norm=Norm("layer")` |

  An image whose sides are no multiples of the patch is padded with zeros below and to the right, so
  that token i always stands for the pixels from patch * i on, and the map has 1/patch of the size,
  rounded up. (Hugging Face's and DINOv2's own code drop the pixels that fill no patch.)

  Learned positions are resampled bicubically, with half-pixel centers and by the ratio of the sizes
  alone, without an offset, as Hugging Face's code does: its Dinov2Model without antialiasing, with
  the kernel of a = -0.75; its Dinov2WithRegistersModel, and timm for all, with antialiasing, which
  comes with a = -0.5. (DINOv2's own code adds an offset of 0.1 to the size of the networks without
  registers.) Rotary ones rotate queries and keys by the patch's place between -1 and 1.

  The output stride is that of the patch, whatever the nominal stride: dilation is for convolutions.

  Parameters: `embed` with the patches' `kernel` and `bias`, `cls`, which includes its position,
  `registers` and `positions`; `block1` and so on, see `Block`; `norm`.

  Attributes:
    norm: Normalization of tokens.
    activation: Function within the feed-forward networks.
    patch: Side of a patch in pixels.
    width: Channels of a token.
    num_heads: Number of heads; it divides the channels.
    depth: Number of blocks.
    expansion: Channels within the feed-forward networks, as a multiple of those of a token.
    registers: Number of tokens beside the class token that are no patches.
    positions: Side of the grid of learned positions, in patches: 37 for 518 pixels; 0 for rotary
      embeddings, which are not learned.
    antialias: Whether learned positions are resampled with antialiasing.
    key_bias: Whether keys have a bias.
    layer_scale: Value that the scales of the residual branches begin with; 0 leaves them out, as in
      the first ViTs.
    outputs: Numbers of the four blocks, the last one among them, whose outputs are the features of
      nominal stride 4, 8, 16 and 32.
    norm_outputs: Whether the last normalization is applied to each of them.
    drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.
    adapters: Low-rank adapters, beside which all else in the backbone is frozen.

  Raises:
    ValueError: Numbers do not fit each other, or there is another output stride than 32, which
      means none given up.
  """

  norm: Norm = dataclasses.field(default=Norm("layer", epsilon=1e-6), kw_only=True)
  activation: Callable[[Array], Array] = dataclasses.field(default=gelu, kw_only=True)
  patch: PositiveInt = 14
  width: PositiveInt = 384
  num_heads: PositiveInt = 6
  depth: PositiveInt = 12
  expansion: PositiveInt = 4
  registers: Count = 0
  positions: Count = 37
  antialias: bool = False
  key_bias: bool = True
  layer_scale: NonNegative = 1.0
  outputs: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 6, 9, 12)
  norm_outputs: bool = True
  drop_path: BelowOne = 0.0
  adapters: Adapters = Adapters()

  def __post_init__(self):
    parts = self.num_heads * (1 if self.positions else 4)
    if self.width % parts:
      raise ValueError(
        f"width={self.width}, num_heads={self.num_heads}, positions={self.positions}; expected a "
        f"width that is a multiple of {parts}"
      )
    if sorted(set(self.outputs)) != list(self.outputs) or self.outputs[-1] != self.depth:
      raise ValueError(
        f"outputs={self.outputs}, depth={self.depth}; expected four numbers of blocks that rise to "
        f"{self.depth}"
      )
    super().__post_init__()
    self.keep_strides("its stride is its patch, and no convolution can be dilated")

  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the maps of the four blocks, all at the stride of a patch; see `Backbone`."""
    outputs = self.encode(x, train=train)
    return {stride: each.patches for stride, each in zip(STRIDES, outputs, strict=True)}

  @nn.compact
  def encode(self, x: Float[Array, "n h w c"], *, train: bool) -> Sequence[Tokens]:
    """Computes the tokens after each of the four blocks, without the registers.

    Args:
      x: Images.
      train: Whether the network is trained: paths may then be dropped.
    """
    prefix, patches = self.embedding()(x)
    n, h, w, c = patches.shape
    num_prefix = prefix.shape[1]
    x = jnp.concatenate([prefix, patches.reshape(n, h * w, c)], 1)
    rotation = None if self.positions else make_rotation(h, w, num_prefix, c // self.num_heads)
    conv_block = self.conv_block(train=train)
    norm = conv_block.norm.make_layer(train=train, name="norm", dtype=self.dtype)
    make_block, outputs = self.maybe_remat(Block), []
    for i, rate in enumerate(drop_path_rates(self.drop_path, self.depth), 1):
      x = make_block(
        self.num_heads,
        self.expansion * c,
        self.key_bias,
        self.layer_scale,
        rate,
        self.adapters,
        conv_block,
        name=f"block{i}",
      )(x, rotation)
      if i in self.outputs:
        y = norm(x) if self.norm_outputs else x
        outputs.append(Tokens(y[:, 0], y[:, num_prefix:].reshape(n, h, w, c)))
    if self.is_initializing():
      norm(x)  # Whether or not it is used, as in files of weights.
    return outputs

  def embedding(self) -> nn.Module:
    """Creates the layer `embed`, from images to tokens."""
    return Embedding(
      self.patch,
      self.width,
      self.registers,
      self.positions,
      self.antialias,
      self.dtype,
      name="embed",
    )

  def layer_groups(self) -> tuple[str, ...]:
    """Names the embedding, then the blocks; see `Backbone.layer_groups`."""
    return ("embed", *(f"block{i}" for i in range(1, self.depth + 1)))


class Embedding(nn.Module):
  """Tokens of an image: class token, registers, and patches with their positions.

  Attributes:
    patch: Side of a patch.
    width: Channels of a token.
    registers: Number of registers.
    positions: Side of the grid of learned positions; 0 for none.
    antialias: Whether they are resampled with antialiasing.
    dtype: Compute type; parameters are float32.
  """

  patch: PositiveInt
  width: PositiveInt
  registers: Count
  positions: Count
  antialias: bool
  dtype: Any = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w 3"]
  ) -> tuple[Float[Array, "n _ c"], Float[Array, "n h2 w2 c"]]:
    """Computes the tokens that are no patches, and the map of those that are."""
    p, init, zeros = self.patch, truncated_normal, nn.initializers.zeros
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
      "kernel": (init, (p, p, x.shape[-1], self.width)),
      "bias": (zeros, (self.width,)),
      "cls": (init, (1, self.width)),
      "registers": (init, (self.registers, self.width)),
      "positions": (init, (self.positions, self.positions, self.width)),
    }
    params = {
      name: self.param(name, *arguments) for name, arguments in shapes.items() if all(arguments[1])
    }
    height, width = spatial_size(x)
    padding = (0, -height % p), (0, -width % p)
    x, kernel, bias = promote_dtype(x, params["kernel"], params["bias"], dtype=self.dtype)
    y = conv2d(x, kernel, stride=p, padding=padding) + jnp.expand_dims(bias, (0, 1, 2))
    if self.positions:
      grid = resample_positions(params["positions"], spatial_size(y), antialias=self.antialias)
      y = y + grid[None].astype(y.dtype)
    prefix = jnp.concatenate([params[name] for name in ("cls", "registers") if name in params])
    prefix = jnp.broadcast_to(prefix[None].astype(y.dtype), (y.shape[0], *prefix.shape))
    return prefix, y


class Block(nn.Module):
  """Attention and a feed-forward network, each normalized before and added to its input.

  Parameters: `norm1`, `query`, `key`, `value`, `out`, `scale1`; `norm2`, `mlp/fc1`, `mlp/fc2`,
  `scale2`.

  Attributes:
    num_heads: Number of heads.
    hidden: Channels within the feed-forward network.
    key_bias: Whether keys have a bias.
    layer_scale: Value that the scales begin with; 0 leaves them out.
    drop_path: Probability of dropping a branch.
    adapters: Low-rank adapters.
    conv_block: Normalization, activation and compute type of the layers.
  """

  num_heads: PositiveInt
  hidden: PositiveInt
  key_bias: bool
  layer_scale: NonNegative
  drop_path: BelowOne
  adapters: Adapters
  conv_block: ConvBlock

  @nn.compact
  def __call__(
    self, x: Float[Array, "n t c"], rotation: Float[Array, "2 t d"] | None
  ) -> Float[Array, "n t c"]:
    """Computes the tokens' next values; see `make_rotation`."""
    activation, dtype = self.conv_block.activation, self.conv_block.dtype
    project = lambda x, name, **options: self.adapters.linear(name)(
      x.shape[-1], dtype=dtype, name=name, **options
    )(x)
    y = self._norm(x, "norm1")
    queries, keys = project(y, "query"), project(y, "key", bias=self.key_bias)
    if rotation is not None:
      queries, keys = (rotate(part, rotation, self.num_heads) for part in (queries, keys))
    y = attend(queries, keys, project(y, "value"), num_heads=self.num_heads)
    x = x + self._finish(project(y, "out"), "scale1")
    mlp = MLP(self.hidden, activation, dtype=dtype, linear=self.adapters.linear, name="mlp")
    y = mlp(self._norm(x, "norm2"), train=self.conv_block.train)
    return x + self._finish(y, "scale2")

  def _norm(self, x: Array, name: str) -> Array:
    block = self.conv_block
    return block.norm.make_layer(train=block.train, name=name, dtype=block.dtype)(x)

  def _finish(self, x: Array, name: str) -> Array:
    """Scales a branch, and drops it at times."""
    if self.layer_scale:
      scale = self.param(name, nn.initializers.constant(self.layer_scale), (x.shape[-1],))
      x = x * scale[None, None].astype(x.dtype)
    return DropPath(self.drop_path)(x, train=self.conv_block.train)


def resample_positions(
  grid: Float[Array, "h w c"], size: tuple[int, int], *, antialias: bool
) -> Float[Array, "h2 w2 c"]:
  """Resamples learned positions bicubically, as PyTorch's `interpolate` with half-pixel centers.

  Args:
    grid: Positions.
    size: Size (h2, w2) of the result.
    antialias: Whether the kernel is widened where the result is smaller. As in PyTorch, its
      parameter a is then -0.5, else -0.75.
  """
  for axis, side in enumerate(size):
    weights = _cubic_weights(side, grid.shape[axis], antialias=antialias)
    grid = jnp.moveaxis(jnp.tensordot(grid, weights, (axis, 1), precision="highest"), -1, axis)
  return grid


def _cubic_weights(outputs: int, inputs: int, *, antialias: bool) -> Float[Array, "_ _"]:
  """Returns the weight of each input in each output."""
  scale = inputs / outputs  # Of an export the outputs may be a symbol.
  centers = ((jnp.arange(outputs) + 0.5) * scale - 0.5)[:, None]
  if antialias:
    weights = _cubic((centers - jnp.arange(inputs)[None]) / jnp.maximum(scale, 1.0), -0.5)
    return weights / weights.sum(1, keepdims=True)
  places = jnp.arange(-2, inputs + 2)  # Beyond the border its values are repeated.
  weights = _cubic(centers - places[None], -0.75)
  is_place = jnp.clip(places, 0, inputs - 1)[:, None] == jnp.arange(inputs)[None]
  return jnp.dot(weights, is_place.astype(weights.dtype), precision="highest")


def _cubic(x: Array, a: float) -> Array:
  """Computes the cubic convolution kernel (Keys 1981, Eq. 15)."""
  x = jnp.abs(x)
  near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def make_rotation(
  height: int, width: int, num_prefix: int, channels: int
) -> Float[Array, "2 _ {channels}"]:
  """Computes the cosines and sines of rotary position embeddings (Simeoni et al. 2025, DINOv3).

  Half of the angles turn with a patch's row and half with its column, whose centers lie between -1
  and 1; each angle turns a pair of channels that are half of the channels apart.

  Args:
    height: Number of rows of patches.
    width: Number of columns of patches.
    num_prefix: Number of tokens before those of the patches, which are not rotated.
    channels: Channels of a head, a multiple of 4.
  """
  rows, columns = (2 * (jnp.arange(side) + 0.5) / side - 1 for side in (height, width))
  places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2, 1)
  frequencies = _ROTARY_BASE ** -(jnp.arange(0, channels // 4) * 4 / channels)
  angles = (2 * jnp.pi * places * frequencies[None, None]).reshape(-1, channels // 2)
  angles = jnp.pad(jnp.tile(angles, (1, 2)), ((num_prefix, 0), (0, 0)))
  return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def rotate(
  x: Float[Array, "n t c"], rotation: Float[Array, "2 t d"], num_heads: int
) -> Float[Array, "n t c"]:
  """Rotates pairs of each head's channels by the angles of `make_rotation`."""
  cos, sin = rotation.astype(x.dtype)[:, None, :, None]
  heads = x.reshape(*x.shape[:2], num_heads, -1)
  first, second = jnp.split(heads, 2, -1)
  return (heads * cos + jnp.concatenate([-second, first], -1) * sin).reshape(x.shape)
