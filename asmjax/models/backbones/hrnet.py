"""HRNet: branches that keep their resolutions and exchange features (Wang et al. 2021)."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.backbones.resnet import Bottleneck
from asmjax.models.layers import ConvBlock, Norm
from asmjax.ops import spatial_size, upsample
from asmjax.utils.ranges import PositiveInt

# How coarser features are enlarged for the exchange; see `HRNet`.
UPSAMPLINGS = ("nearest", "bilinear", "bilinear_aligned")


class HRNet(Backbone):
  """HRNet without its classifier (Wang et al. 2021, Sec. 3); the defaults are HRNet-W18.

  From stage to stage a branch of twice the stride joins those that there are, of strides 4 to 32 in
  the end. The modules of a stage end in an exchange: each branch adds up its own features, coarser
  ones enlarged and finer ones thinned out by 3x3 convolutions of stride 2. These are padded alike
  on all sides, so that feature i of stride S is on pixel S i (`asmjax.ops.resize`); enlarging keeps
  it there if it is bilinear with aligned corners.

  With a classifier of 1000 classes W18 and W48 have 21.3 and 77.5 million parameters. The released
  code for ImageNet, and timm, enlarges by nearest neighbors; that for segmentation, which starts
  from the same weights, bilinearly: with half-pixel centers in its branch for PyTorch 0.4.1, with
  aligned corners in the later one.

  Parameters: `conv1` and `conv2`; bottlenecks `stage1_block{j}`; for the stages from 2 on
  `stage{i}_transition{b}` to new branches, or to other channels, and `stage{i}_module{m}`; see
  `HighResolutionModule`. Branches are numbered from 1, the finest.

  Attributes:
    norm: Normalization; 0.9 and 1e-5 are momentum and epsilon of the released code.
    width: Channels of the finest branch; each coarser one has twice as many.
    modules: Number of modules of the stages 2, 3 and 4.
    blocks: Number of residual blocks of each branch of a module.
    stem: Channels of the first two convolutions.
    bottlenecks: Number of bottlenecks of stage 1.
    bottleneck_width: Channels of the 3x3 convolutions of stage 1; it ends in four times as many.
    upsampling: How coarser features are enlarged: "nearest", "bilinear" with half-pixel centers, or
      "bilinear_aligned" with aligned corners.

  Raises:
    ValueError: The upsampling is unknown, or there are no three numbers of modules.
  """

  norm: Norm = dataclasses.field(default=Norm(momentum=0.9), kw_only=True)
  width: PositiveInt = 18
  modules: tuple[PositiveInt, ...] = (1, 4, 3)
  blocks: PositiveInt = 4
  stem: PositiveInt = 64
  bottlenecks: PositiveInt = 4
  bottleneck_width: PositiveInt = 64
  upsampling: str = "nearest"

  def __post_init__(self):
    if self.upsampling not in UPSAMPLINGS:
      raise ValueError(f"unknown upsampling {self.upsampling!r}; known: {', '.join(UPSAMPLINGS)}")
    if len(self.modules) != 3:
      raise ValueError(f"modules={self.modules}; expected one for each of the stages 2 to 4")
    super().__post_init__()
    self.keep_strides("its branches have the strides 4 to 32")

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the features of the stem, and of each branch of the last stage; see `Backbone`."""
    conv_block = self.conv_block(train=train)
    stem = conv_block(x, features=self.stem, stride=2, name="conv1")
    x = conv_block(stem, features=self.stem, stride=2, name="conv2")
    bottleneck = self.maybe_remat(Bottleneck)
    for j in range(1, self.bottlenecks + 1):
      x = bottleneck(self.bottleneck_width, 1, 1, False, conv_block, name=f"stage1_block{j}")(x)
    make_module, maps = self.maybe_remat(HighResolutionModule), [x]
    for i, count in enumerate(self.modules, 2):
      maps = self._add_branch(maps, f"stage{i}_transition", conv_block)
      for m in range(1, count + 1):
        module = make_module(self.blocks, self.upsampling, conv_block, name=f"stage{i}_module{m}")
        maps = module(maps)
    return {2: stem, **{4 * 2**b: branch for b, branch in enumerate(maps)}}

  def _add_branch(self, maps: Sequence[Array], name: str, conv_block: ConvBlock) -> list[Array]:
    """Returns the inputs of a stage: those that there are, and the last one at twice its stride."""
    branches = []
    for b, x in enumerate([*maps, maps[-1]]):
      width, is_new = self.width * 2**b, b == len(maps)
      if is_new or x.shape[-1] != width:
        x = conv_block(x, features=width, stride=1 + is_new, name=f"{name}{b + 1}")
      branches.append(x)
    return branches

  def layer_groups(self) -> tuple[str, ...]:
    """Names the stem, the bottlenecks, each transition and module; see `Backbone.layer_groups`."""
    groups = ["conv1", "conv2", *(f"stage1_block{j + 1}" for j in range(self.bottlenecks))]
    for i, count in enumerate(self.modules, 2):
      groups += [f"stage{i}_transition", *(f"stage{i}_module{m + 1}" for m in range(count))]
    return tuple(groups)


class HighResolutionModule(nn.Module):
  """Residual blocks on each branch, and the exchange of what they compute.

  Parameters: blocks `branch{b}_block{j}`, see `BasicBlock`; of what branch c gives to branch b,
  `exchange{c}_{b}` from coarser to finer ones, else `exchange{c}_{b}_{k}` for each halving. Each
  convolution has its normalization under the name plus `_norm`.

  Attributes:
    blocks: Number of residual blocks of each branch.
    upsampling: How coarser features are enlarged; see `HRNet`.
    conv_block: Factory of the layers.
  """

  blocks: int
  upsampling: str
  conv_block: ConvBlock

  @nn.compact
  def __call__(self, maps: Sequence[Float[Array, "n _ _ _"]]) -> list[Float[Array, "n _ _ _"]]:
    """Computes features of the same sizes and channels, from those of the finest branch on."""
    branches = []
    for b, x in enumerate(maps, 1):
      for j in range(1, self.blocks + 1):
        x = BasicBlock(self.conv_block, name=f"branch{b}_block{j}")(x)
      branches.append(x)
    numbered = list(enumerate(branches, 1))
    exchanged = [
      sum((self._give(x, c, target, b) for c, x in numbered if c != b), start=target)
      for b, target in numbered
    ]
    return [self.conv_block.activation(x) for x in exchanged]

  def _give(self, x: Array, c: int, target: Array, b: int) -> Array:
    """Brings the features of branch c to the size and the channels of branch b."""
    name, width = f"exchange{c}_{b}", target.shape[-1]
    if c > b:
      x = self.conv_block(x, features=width, kernel=1, activate=False, name=name)
      return self._enlarge(x, spatial_size(target), 2 ** (c - b))
    for k in range(1, b - c + 1):
      last = k == b - c
      features = width if last else x.shape[-1]
      x = self.conv_block(x, features=features, stride=2, activate=not last, name=f"{name}_{k}")
    return x

  def _enlarge(self, x: Array, size: tuple[int, int], factor: int) -> Array:
    if self.upsampling == "nearest":
      height, width = size
      return jnp.repeat(jnp.repeat(x, factor, 1), factor, 2)[:, :height, :width]
    return upsample(x, size, align_corners=self.upsampling == "bilinear_aligned")


class BasicBlock(nn.Module):
  """Two 3x3 convolutions, added to the input (He et al. 2016, Fig. 5).

  Parameters: `conv1` and `conv2`, each with its normalization under the name plus `_norm`.

  Attributes:
    conv_block: Factory of the layers.
  """

  conv_block: ConvBlock

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes features of the same size."""
    y = self.conv_block(x, features=x.shape[-1], name="conv1")
    y = self.conv_block(y, features=x.shape[-1], activate=False, name="conv2")
    return self.conv_block.activation(x + y)
