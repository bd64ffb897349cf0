"""Layers that all networks share: convolution, normalization, and both with an activation."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from asmjax.models.transformer import LayerNorm
from asmjax.ops import BatchNorm, Layer, Padding, conv2d, conv2d_concat
from asmjax.utils.ranges import BelowOne, Positive

# Name of the mapped axis over which `asmjax.train.parallel` spreads a step; synchronized batch norm
# averages its statistics over it.
DEVICES = "devices"

# Initializer of kernels before a ReLU: N(0, 2 / fan_in) (He et al. 2015, Eq. 10).
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def uniform_bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Draws biases (f,) from +-sqrt(3 / f), TensorFlow's default initializer of a vector.

  `tf.get_variable` falls back to glorot_uniform, whose limit sqrt(6 / (fan_in + fan_out)) takes
  both fans of a vector to be f.
  """
  limit = (3 / shape[-1]) ** 0.5
  return jax.random.uniform(key, shape, dtype, -limit, limit)


def shorten_filters(
  kernel: Float[Array, "k k c features"], max_norm: float
) -> Float[Array, "k k c features"]:
  """Scales the filters of output channels that are longer than `max_norm` down to that length."""
  squared = jnp.sum(kernel**2, axis=(0, 1, 2), keepdims=True)
  return kernel * jax.lax.rsqrt(jnp.maximum(squared / max_norm**2, 1))


class Conv(Layer):
  """k x k convolution with (k - 1) // 2 pixels of zero padding above and left, k // 2 elsewhere.

  So, unless `padding` says otherwise, the output has 1/stride of the size, rounded up.

  Attributes:
    features: Output channels.
    kernel: Side k of the kernel.
    stride: Pixels from one output to the next, along both axes.
    dilation: Pixels from one tap to the next, along both axes; the padding grows with it.
    bias: Whether a bias is added.
    dtype: Compute type; parameters are float32.
    groups: Number of equal parts of the channels, each convolved separately; as many as there are
      channels make a depthwise convolution.
    kernel_init: Initializer of the kernel (k, k, channels / groups, features).
    bias_init: Initializer of the bias (features,).
    mask: Array that the kernel is multiplied by; where it is 0, the kernel neither acts nor learns.
    max_norm: Largest norm of the filter of one output channel: longer ones act as if scaled down to
      it (max-norm constraint, Srivastava et al. 2014, Sec. 5.1); 0 for any.
    padding: Zeros (above, below) and (left, right) of a single map, in place of those above.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  dilation: int = 1
  bias: bool = True
  dtype: Any = None
  groups: int = 1
  kernel_init: nn.initializers.Initializer = he_normal
  bias_init: nn.initializers.Initializer = nn.initializers.zeros
  mask: np.ndarray | None = None
  max_norm: float = 0.0
  padding: Padding | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], *lows: Float[Array, "n _ _ _"], align_corners: bool = False
  ) -> Float[Array, "n h2 w2 features"]:
    """Convolves `x`, or the concatenation of `lows`, enlarged bilinearly to the size of x, and `x`.

    The latter is what decoders do with a skip `x`; see `asmjax.ops.conv2d_concat`.
    """
    channels = sum(part.shape[-1] for part in (x, *lows))
    shape = (self.kernel, self.kernel, channels // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    kernel = kernel if self.mask is None else kernel * self.mask
    kernel = shorten_filters(kernel, self.max_norm) if self.max_norm else kernel
    bias = self.param("bias", self.bias_init, (self.features,)) if self.bias else None
    x, kernel, bias, *coarse = promote_dtype(x, kernel, bias, *lows, dtype=self.dtype)
    options = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
    if coarse:
      y = conv2d_concat(coarse, x, kernel, align_corners=align_corners, **options)
    else:
      y = conv2d(x, kernel, padding=self.padding, **options)
    return y if bias is None else y + jnp.expand_dims(bias, (0, 1, 2))


NORMS = ("none", "batch", "sync_batch", "group", "layer")


@dataclasses.dataclass(frozen=True)
class Norm:
  """A kind of normalization.

  Attributes:
    kind: "none", "batch" (statistics of each device's own share of the batch), "sync_batch"
      (statistics of the global batch), "group" (32 groups, as Wu and He 2018) or "layer" (the
      channels of each pixel, as in transformers).
    momentum: Share of the running statistics of batch norm that each step keeps. The default is
      Keras's and Flax's; PyTorch's 0.1 means 0.9 here.
    epsilon: Number added to the variance. The default is PyTorch's; TensorFlow's is 1e-3.
    frozen: Whether batch norm uses its running statistics in training too, and leaves them as they
      are.

  Raises:
    ValueError: The kind is unknown.
  """

  kind: str = "batch"
  momentum: BelowOne = 0.99
  epsilon: Positive = 1e-5
  frozen: bool = False

  def __post_init__(self):
    if self.kind not in NORMS:
      raise ValueError(f"unknown norm {self.kind!r}; known: {', '.join(NORMS)}")

  def make_layer(self, *, train: bool, name: str, dtype: Any = None) -> Callable[[Array], Array]:
    """Creates the layer.

    Args:
      train: Whether batch norm uses the batch's statistics and updates the running ones.
      name: Name of the layer in the module that calls this.
      dtype: Compute type.
    """
    if self.kind == "none":
      return lambda x: x
    if self.kind == "group":
      return lambda x: _check_groups(x, nn.GroupNorm(epsilon=self.epsilon, dtype=dtype, name=name))
    if self.kind == "layer":
      return LayerNorm(epsilon=self.epsilon, dtype=dtype, name=name)
    return BatchNorm(
      not train or self.frozen,
      momentum=self.momentum,
      epsilon=self.epsilon,
      dtype=dtype,
      axis_name=DEVICES if self.kind == "sync_batch" else None,
      name=name,
    )


def _check_groups(x: Array, norm: nn.GroupNorm) -> Array:
  """Applies a group norm; ValueError with the layer's name if its groups do not fit."""
  if x.shape[-1] % cast(int, norm.num_groups):
    raise ValueError(
      f"norm.kind='group' has {norm.num_groups} groups of channels; {norm.name} has {x.shape[-1]} "
      "channels, expected a multiple"
    )
  return norm(x)


class ConvBlock(NamedTuple):
  """Factory of a network's blocks: convolution, normalization, activation.

  Attributes:
    norm: Normalization after each convolution, which has a bias only where there is none.
    activation: Function after the normalization.
    dtype: Compute type.
    train: Whether the network is trained.
  """

  norm: Norm = Norm()
  activation: Callable[[Array], Array] = nn.relu
  dtype: Any = None
  train: bool = False

  def __call__(
    self,
    *x: Float[Array, "n _ _ _"],
    features: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activate: bool = True,
    align_corners: bool = False,
    name: str,
  ) -> Float[Array, "n h w features"]:
    """Applies a convolution `name`, its normalization `{name}_norm` and its activation.

    The layers belong to the module that calls this.

    Args:
      *x: Maps to convolve; further ones are joined as by `Conv`.
      features, kernel, stride, dilation, groups: Attributes of the `Conv`.
      activate: Whether the activation is applied.
      align_corners: Convention of several maps; see `asmjax.ops.resize`.
      name: Name of the convolution.
    """
    conv = Conv(features, kernel, stride, dilation, self.bias, self.dtype, groups, name=name)
    y = conv(*x, align_corners=align_corners)
    return self.finish(y, activate=activate, name=name)

  def depthwise(
    self, *x: Float[Array, "n _ _ _"], name: str, **options: Any
  ) -> Float[Array, "n h w _"]:
    """Applies a convolution of each channel by itself; arguments as for a call, but `features`."""
    channels = sum(part.shape[-1] for part in x)
    return self(*x, features=channels, groups=channels, name=name, **options)

  def separable(
    self,
    *x: Float[Array, "n _ _ _"],
    features: int,
    activate: bool = True,
    name: str,
    **options: Any,
  ) -> Float[Array, "n h w features"]:
    """Applies a depthwise convolution `{name}_depthwise` and a 1x1 one, `{name}_pointwise`."""
    y = self.depthwise(*x, activate=activate, name=f"{name}_depthwise", **options)
    return self(y, features=features, kernel=1, activate=activate, name=f"{name}_pointwise")

  @property
  def bias(self) -> bool:
    """Whether convolutions have a bias; a normalization of each channel would take it away."""
    return self.norm.kind in ("none", "layer")

  def finish(
    self, x: Float[Array, "n h w c"], *, activate: bool = True, name: str
  ) -> Float[Array, "n h w c"]:
    """Applies what follows a convolution `name`: its normalization and its activation."""
    x = self.norm.make_layer(train=self.train, name=f"{name}_norm", dtype=self.dtype)(x)
    return self.activation(x) if activate else x


class ConvNet(nn.Module, kw_only=True):
  """Base class of convolutional networks, whose layers are made by one `ConvBlock`.

  Attributes:
    norm: Normalization after each convolution but the last ones.
    activation: Function after the normalization.
    dtype: Compute type.
  """

  norm: Norm = Norm()
  activation: Callable[[Array], Array] = nn.relu
  dtype: Any = None

  def conv_block(self, *, train: bool) -> ConvBlock:
    """Creates the factory of this network's layers."""
    return ConvBlock(self.norm, self.activation, self.dtype, train)


Module = TypeVar("Module", bound=nn.Module)


def with_compute_dtype(dtype: Any, module: Module) -> Module:
  """Copies a module with this compute type, in it and in all modules among its fields."""
  fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
  inner: dict[str, Any] = {
    name: with_compute_dtype(dtype, value)
    for name, value in fields.items()
    if isinstance(value, nn.Module) and name != "parent"
  }
  return module.clone(dtype=dtype, **inner)
