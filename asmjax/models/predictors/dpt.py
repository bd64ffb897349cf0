"""DPT: dense prediction from a vision transformer's tokens (Ranftl et al. 2021)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones.vit import Tokens, ViT
from asmjax.models.layers import Conv, ConvBlock, Norm
from asmjax.models.predictors.base import Maps, Predictor
from asmjax.models.transformer import Linear, gelu
from asmjax.ops import resize_bilinear, spatial_size
from asmjax.utils.ranges import BelowOne, PositiveInt

READOUTS = ("ignore", "project")

# The task whose head is that of classes; the others have that of depth.
CLASSES = "segmentation"


class DPT(Predictor):
  """DPT: tokens of four depths become maps of four strides, fused from the coarsest one up.

  Maps of the patches are brought to 4, 2, 1 and 1/2 times their size, to stride 4 to 32 for patches
  of 16 pixels. The head of classes is a 3x3 convolution with batch norm, dropout and a 1x1
  convolution at half of the size; that of depth and normals has a 3x3 convolution there and another
  one at full size. All enlarging is from corner to corner, as in the released code, up to the full
  size, where outputs lie on the pixels that the loss taught them.

  Depth Anything's (Yang et al. 2024) for ViT-S is `readout="ignore", features=64,
  channels=(48, 96, 192, 384)`; version 2 reads the blocks 3, 6, 9 and 12 (of ViT-L 5, 12, 18 and
  24), the first version the last four, which files of weights do not tell apart. Its rule for sizes
  is followed: a fused map gets the size of the next one, and the last one that of the padded image.
  Hugging Face's DPT doubles maps instead, which differs for odd numbers of patches and for patches
  that are not 16 pixels wide.

  Parameters: `backbone`; for i = 1 to 4, the finest first, `readout{i}`, `reassemble{i}`,
  `resize{i}`, `reduce{i}`; `fuse{i}`, see `Fusion`; `project`; `conv1_{task}` and, but for classes,
  `conv2_{task}`; `head_{task}`.

  Attributes:
    heads: Output channels by task; each head is a 1x1 convolution.
    norm: Normalization in the head of classes and, with `fusion_norm`, in the fusion blocks.
    backbone: Vision transformer, of whose four outputs the maps are made.
    channels: Channels of the four maps.
    features: Channels of the fused maps.
    readout: What becomes of the class token: "project" joins it to each token, as in the paper,
      "ignore" leaves it out.
    project: Whether a 3x3 convolution and a ReLU come before the heads, as in DINOv2's.
    fusion_norm: Whether convolutions in the fusion blocks are normalized.
    fusion_bias: Whether they have a bias.
    head_features: Channels before the head of depth and normals.
    dropout: Rate of dropout before the head of classes.

  Raises:
    ValueError: The readout is unknown.
  """

  backbone: ViT = ViT()
  channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (96, 192, 384, 768)
  features: PositiveInt = 256
  readout: str = "project"
  project: bool = False
  fusion_norm: bool = False
  fusion_bias: bool = True
  head_features: PositiveInt = 32
  dropout: BelowOne = 0.1

  def __post_init__(self):
    if self.readout not in READOUTS:
      raise ValueError(f"unknown readout {self.readout!r}; known: {', '.join(READOUTS)}")
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at the size of the image."""
    size, conv_block = spatial_size(x), self.conv_block(train=train)
    outputs = self.backbone.encode(x, train=train)
    height, width = (side * self.backbone.patch for side in spatial_size(outputs[0].patches))
    maps = [self._reassemble(tokens, i) for i, tokens in enumerate(outputs, 1)]
    fused = None
    for i in (4, 3, 2, 1):
      h, w = spatial_size(maps[i - 2]) if i > 1 else (2 * side for side in spatial_size(maps[0]))
      norm = self.norm if self.fusion_norm else Norm("none")
      block = Fusion(
        self.features, (h, w), norm, self.fusion_bias, train, self.dtype, name=f"fuse{i}"
      )
      fused = block(maps[i - 1], fused)
    if self.project:
      fused = nn.relu(Conv(self.features, dtype=self.dtype, name="project")(fused))
    enlarge = lambda y: resize_bilinear(y, (height, width), align_corners=True)
    cut = lambda y: y[:, : size[0], : size[1]]
    self.sow("intermediates", "features", cut(enlarge(fused)))
    classify = lambda task: enlarge(self._head(task, self._hide(fused, conv_block, task, train)))
    measure = lambda task: self._head(task, self._hide_twice(fused, enlarge, task))
    return {task: cut((classify if task == CLASSES else measure)(task)) for task in self.heads}

  def _reassemble(self, tokens: Tokens, i: int) -> Array:
    """Makes the map number i, of 4, 2, 1 or 1/2 times the size, with as many channels as all."""
    x, channels = tokens.patches, self.channels[i - 1]
    if self.readout == "project":
      cls = jnp.broadcast_to(tokens.cls[:, None, None], x.shape)
      joined = jnp.concatenate([x, cls], -1)
      x = gelu(Linear(x.shape[-1], dtype=self.dtype, name=f"readout{i}")(joined))
    x = Conv(channels, 1, dtype=self.dtype, name=f"reassemble{i}")(x)
    if i < 3:
      side = (4, 2)[i - 1]
      x = nn.ConvTranspose(
        channels, (side, side), (side, side), dtype=self.dtype, name=f"resize{i}"
      )(x)
    elif i == 4:
      x = Conv(channels, stride=2, dtype=self.dtype, name=f"resize{i}")(x)
    return Conv(self.features, bias=False, dtype=self.dtype, name=f"reduce{i}")(x)

  def _hide(self, x: Array, conv_block: ConvBlock, task: str, train: bool) -> Array:
    x = conv_block(x, features=self.features, name=f"conv1_{task}")
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _hide_twice(self, x: Array, enlarge, task: str) -> Array:
    x = enlarge(Conv(self.features // 2, dtype=self.dtype, name=f"conv1_{task}")(x))
    return nn.relu(Conv(self.head_features, dtype=self.dtype, name=f"conv2_{task}")(x))

  def _head(self, task: str, x: Array) -> Array:
    return Conv(self.heads[task], 1, dtype=self.dtype, name=f"head_{task}")(x)


class Fusion(nn.Module):
  """Fusion block: a finer map is added to the fused one, and the sum enlarged (Fig. 1, right).

  Parameters: residual units `finer` and `sum`, each with `conv1` and `conv2`, their normalizations
  under the name plus `_norm`; `out`.

  Attributes:
    features: Channels of all maps.
    size: Size of the result.
    norm: Normalization after each convolution of the residual units.
    bias: Whether these convolutions have a bias.
    train: Whether the network is trained.
    dtype: Compute type; parameters are float32.
  """

  features: PositiveInt
  size: tuple[int, int]
  norm: Norm
  bias: bool
  train: bool
  dtype: object = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], fused: Float[Array, "n h w c"] | None
  ) -> Float[Array, "n h2 w2 c"]:
    """Fuses a map with what has been fused so far, None for the coarsest map."""
    x = x if fused is None else fused + self._residual(x, "finer")
    x = resize_bilinear(self._residual(x, "sum"), self.size, align_corners=True)
    return Conv(self.features, 1, dtype=self.dtype, name="out")(x)

  def _residual(self, x: Array, name: str) -> Array:
    unit = ResidualUnit(self.features, self.norm, self.bias, self.train, self.dtype, name=name)
    return unit(x)


class ResidualUnit(nn.Module):
  """Two 3x3 convolutions, each after a ReLU, added to the input (He et al. 2016b).

  Attributes: those of `Fusion`.
  """

  features: PositiveInt
  norm: Norm
  bias: bool
  train: bool
  dtype: object = None

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Computes features of the same size."""
    y = x
    for name in ("conv1", "conv2"):
      y = Conv(self.features, bias=self.bias, dtype=self.dtype, name=name)(nn.relu(y))
      y = self.norm.make_layer(train=self.train, name=f"{name}_norm", dtype=self.dtype)(y)
    return x + y
