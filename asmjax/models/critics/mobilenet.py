"""A classification network as critic, with one logit per structure."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.models.backbones.mobilenet import MobileNetV1
from asmjax.models.layers import Conv, ConvNet
from asmjax.ops import resize_bilinear
from asmjax.utils.ranges import BelowOne, Positive


class MobileNetCritic(ConvNet):
  """The discriminator of LoAd: MobileNet with one logit in place of the 1000 classes.

  Needs a "dropout" key in training.

  Attributes:
    size: Size (h, w) to which the structure is resized, the network's input.
    dropout: Rate of dropout before the logit.
    width: Factor on all numbers of channels of the MobileNet.
  """

  size: tuple[int, int] = (224, 224)
  dropout: BelowOne = 0.01
  width: Positive = 1.0

  @nn.compact
  def __call__(self, structure: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n 1 1 1"]:
    """Computes one logit for each structure."""
    x = resize_bilinear(structure, self.size)
    backbone = MobileNetV1(
      width=self.width,
      norm=self.norm,
      activation=self.activation,
      dtype=self.dtype,
      name="backbone",
    )
    x = backbone(x, train=train)[32]
    x = jnp.mean(x, (1, 2), keepdims=True)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return Conv(1, 1, dtype=self.dtype, name="logit")(x)
