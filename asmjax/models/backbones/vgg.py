"""VGG networks of 3x3 convolutions (Simonyan and Zisserman 2015)."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.backbones.base import Backbone, Features
from asmjax.models.layers import Conv, Norm
from asmjax.ops import max_pool
from asmjax.utils.ranges import Count, PositiveInt

# Number of convolutions of each stage (Simonyan and Zisserman 2015, Table 1, D).
VGG16 = (2, 2, 3, 3, 3)


class VGG(Backbone):
  """VGG-16 without its last layer, and by default without the fully connected ones before it.

  With an output stride of 16 or 8 the last pools are left out and what follows is dilated by 2
  and 4. That is the front end of Yu and Koltun (2016, Sec. 4). Other backbones only thin out
  where they have a stride; a pool also takes the maximum, so here features change.

  The pools see cells that reach beyond maps of odd size, as in Caffe; torchvision's cut them off.
  Padding keeps the size everywhere: FCN pads the image by 100 pixels instead, so that `fc6` needs
  no padding, and Yu and Koltun reflect the image beyond its borders.

  With `fc_features=4096` and a classifier of 1000 classes it has 138,357,544 parameters (138
  million in Table 2), without them 14,714,688. For 224 x 224 pixels it does 15.5 billion
  multiply-adds if, as in the paper, the fully connected layers are applied at one place only.

  Parameters: `conv{i}_{j}`, convolution j of stage i, and `fc6` and `fc7`. If there is a `norm`,
  that of a convolution has its name plus `_norm`; `fc6` and `fc7` have none.

  Attributes:
    norm: Normalization after each 3x3 convolution; the paper's network has none.
    width: Channels of the first stage; each stage up to the fourth has twice as many.
    fc_features: Channels of `fc6` and `fc7`, a 7x7 and a 1x1 convolution each followed by dropout
      of half of the values, which needs a "dropout" key in training; 0 leaves them out.
  """

  norm: Norm = dataclasses.field(default=Norm("none"), kw_only=True)
  width: PositiveInt = 64
  fc_features: Count = 0

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the pooled maps of each nominal stride; the last one is that of `fc7` if there.

    Where a pool is left out, its input takes its place. See `Backbone`.
    """
    features, nominal = {}, 1
    for i, count in enumerate(VGG16):
      nominal, stride, dilation = self.give_up_stride(nominal, 2)
      names = [f"conv{i + 1}_{j + 1}" for j in range(count)]
      stage = _make_stage(names, self.width * 2 ** min(i, 3), stride, dilation, train=train)
      x = features[nominal] = self.maybe_remat(stage)(self, x)
    if self.fc_features:
      *_, dilation = self.give_up_stride(nominal, 1)
      features[nominal] = self._fully_connect(x, dilation, train=train)
    return features

  def _fully_connect(self, x: Array, dilation: int, *, train: bool) -> Array:
    for name, kernel in (("fc6", 7), ("fc7", 1)):
      x = Conv(self.fc_features, kernel, dilation=dilation, dtype=self.dtype, name=name)(x)
      x = nn.Dropout(0.5, deterministic=not train, name=f"{name}_dropout")(self.activation(x))
    return x

  def layer_groups(self) -> tuple[str, ...]:
    """Names each convolution, then the fully connected layers; see `Backbone.layer_groups`."""
    convs = (f"conv{i}_{j + 1}" for i, count in enumerate(VGG16, 1) for j in range(count))
    return (*convs, *(("fc6", "fc7") if self.fc_features else ()))


def _make_stage(names: Sequence[str], features: int, stride: int, dilation: int, *, train: bool):
  """Returns a function of a network and features that applies a stage's layers in the network."""

  def stage(net: Backbone, x: Array) -> Array:
    conv_block = net.conv_block(train=train)
    for name in names:
      x = conv_block(x, features=features, dilation=dilation, name=name)
    return max_pool(x, 2, 2) if stride == 2 else x

  return stage
