"""The interface of backbones: from an image to features at several strides.

A new backbone is a subclass of `Backbone` in a file of its own and an entry of
`asmjax.models.backbones.BACKBONES`; every predictor then runs on it.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.models.layers import ConvNet

# Features by nominal stride: that which they would have if no stride had been given up.
Features = Mapping[int, Float[Array, "n _ _ _"]]

# A module class, or a function of a module and its inputs.
Target = TypeVar("Target", bound=Callable)

OUTPUT_STRIDES = (8, 16, 32)


class Backbone(ConvNet, kw_only=True):
  """Base class of backbones, classification networks without their classifier.

  Attributes:
    output_stride: Stride of the last features: 32, 16 or 8. Strides beyond it are given up, and
      the convolutions after them are dilated instead, so that features at the places that the
      strides would have kept are the same.
    remat: Whether features within blocks are computed again in the backward pass instead of kept.

  Raises:
    ValueError: The output stride is unknown.
  """

  output_stride: int = 32
  remat: bool = False

  def __post_init__(self):
    check_output_stride(self.output_stride)
    super().__post_init__()

  def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Features:
    """Computes the features of each nominal stride, 2 to 32, or 4 to 32 if images begin in patches.

    Features of nominal stride s have 1 / min(s, output_stride) of the size, rounded up. Heads are
    attached to those of 32, the last ones; decoders and auxiliary heads also take finer ones.

    Args:
      x: Images.
      train: Whether the network is trained: batch norm then uses and updates statistics.
    """
    raise NotImplementedError

  def give_up_stride(self, nominal: int, stride: int) -> tuple[int, int, int]:
    """Trades the stride of a layer for dilation where the output stride demands it.

    A layer whose stride is given up has the dilation of those before it, since it meets the same
    map; those after it are dilated more. So released weights mean the same.

    Args:
      nominal: Nominal stride of the layer's input.
      stride: Stride of the layer as published.

    Returns:
      Nominal stride of the layer's output, and the layer's stride and dilation.
    """
    after = nominal * stride
    kept = stride if after <= self.output_stride else 1
    return after, kept, max(nominal // self.output_stride, 1)

  def keep_strides(self, reason: str) -> None:
    """Raises ValueError, with the reason, if a stride of a backbone that needs it is given up."""
    if self.output_stride != OUTPUT_STRIDES[-1]:
      raise ValueError(
        f"output_stride={self.output_stride}; a {type(self).__name__} has {OUTPUT_STRIDES[-1]} "
        f"alone: {reason}"
      )

  def layer_groups(self) -> tuple[str, ...]:
    """Names the layers of each depth, from the input on, by what their names begin with.

    A layer belongs to the longest that fits; what no one fits is as deep as the heads. See
    `asmjax.train.optim.Optimizer.layer_decay`. By default there are none.
    """
    return ()

  def maybe_remat(self, target: Target) -> Target:
    """Wraps a module class, or a function of this module, as the attribute `remat` says."""
    # Flax types only one of the two, and both keep their signatures.
    return cast(Target, nn.remat(target)) if self.remat else target


def check_output_stride(stride: int) -> None:
  """Raises ValueError unless a backbone can have this output stride."""
  if stride not in OUTPUT_STRIDES:
    raise ValueError(f"output_stride={stride}; known: {', '.join(map(str, OUTPUT_STRIDES))}")
