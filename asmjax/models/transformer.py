"""Layers of vision transformers and of convolutional networks modeled on them."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from asmjax.ops import Layer, conv2d
from asmjax.utils.ranges import BelowOne, PositiveInt

# Initializer of projections, N(0, 0.02^2) cut off at two deviations, as in the code released with
# ViT, SegFormer and ConvNeXt.
truncated_normal = nn.initializers.truncated_normal(0.02)

# The exact GELU (Hendrycks and Gimpel 2016), which released weights were trained with; that of
# `jax.nn` is by default the approximation by a tanh.
gelu = functools.partial(jax.nn.gelu, approximate=False)


class LayerNorm(Layer, nn.LayerNorm):
  """Layer normalization over channels (Ba et al. 2016), with the variance of centered values.

  Statistics are computed in float32. Flax's own default, the mean of squares less the square of
  the mean, loses digits where the mean is large.
  """

  use_fast_variance: bool = False


class Linear(Layer):
  """Linear layer of the channels at each position.

  Attributes:
    features: Output channels.
    bias: Whether a bias is added.
    dtype: Compute type; parameters are float32.
    kernel_init: Initializer of the kernel (c, features).
  """

  features: PositiveInt
  bias: bool = True
  dtype: Any = None
  kernel_init: nn.initializers.Initializer = truncated_normal

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n features"]:
    """Multiplies tokens (n, t, c) or maps (n, h, w, c) by the kernel."""
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    # As a 1x1 convolution it is computed in the way that suits the device.
    maps = x.reshape(*(1,) * (4 - x.ndim), *x.shape)
    y = conv2d(maps, kernel[None, None]).reshape(*x.shape[:-1], self.features)
    return y if bias is None else y + bias.reshape(*(1,) * (y.ndim - 1), -1)


class MLP(nn.Module):
  """Two linear layers with an activation between, `fc1` and `fc2`.

  Attributes:
    hidden: Channels between the layers; the output has as many as the input.
    activation: Function between the layers.
    dropout: Rate of dropout after each layer, of single values.
    dtype: Compute type; parameters are float32.
    linear: Function from the name of a layer to the class of it, or to what makes one.
  """

  hidden: PositiveInt
  activation: Callable[[Array], Array] = gelu
  dropout: BelowOne = 0.0
  dtype: Any = None
  linear: Callable[[str], Callable[..., nn.Module]] = lambda name: Linear

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"], *, train: bool) -> Float[Array, "*n c"]:
    """Applies the layers at each position."""
    drop = nn.Dropout(self.dropout, deterministic=not train)
    layer = lambda name, features: self.linear(name)(features, dtype=self.dtype, name=name)
    y = drop(self.activation(layer("fc1", self.hidden)(x)))
    return drop(layer("fc2", x.shape[-1])(y))


class DropPath(nn.Module):
  """Stochastic depth: drops the branch of a residual block, by example (Huang et al. 2016).

  What is kept is divided by the probability of keeping it. With a rate above 0 it needs a
  "dropout" key in training.

  Attributes:
    rate: Probability of dropping the branch.
  """

  rate: BelowOne = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "n ..."], *, train: bool) -> Float[Array, "n ..."]:
    """Drops `x`, which is then to be added to the block's input."""
    dims = tuple(range(1, x.ndim))
    return nn.Dropout(self.rate, broadcast_dims=dims, deterministic=not train)(x)


def drop_path_rates(rate: float, depth: int) -> tuple[float, ...]:
  """Returns the rate of each block, growing linearly from 0 to `rate` (Huang et al. 2016, Eq. 4).

  Args:
    rate: Rate of the last block.
    depth: Number of blocks, over all stages.

  Examples:
    >>> drop_path_rates(0.5, 3)
    (0.0, 0.25, 0.5)
  """
  return tuple(np.linspace(0, rate, depth).tolist())


def attend(
  queries: Float[Array, "n t c"],
  keys: Float[Array, "n s c"],
  values: Float[Array, "n s c"],
  *,
  num_heads: int,
) -> Float[Array, "n t c"]:
  """Computes scaled dot-product attention of several heads (Vaswani et al. 2017, Eq. 1).

  Scores and their softmax are float32 whatever the type of the operands is.

  Args:
    queries: Queries of all heads, joined along their channels.
    keys: Keys of all heads.
    values: Values of all heads.
    num_heads: Number of heads; it divides the channels.
  """
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  attended = jax.nn.dot_product_attention(*map(split, (queries, keys, values)))
  return attended.reshape(*queries.shape[:2], -1)
