"""Layers that all networks share: convolution and normalization."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.ops.batch_norm import BatchNorm
from asmjax.ops.cpu.depthwise import convolve_depthwise
from asmjax.ops.cpu.im2col import Pads, convolve_far, convolve_small, is_far, is_small, sizes
from asmjax.ops.cpu.matmul import convolve_pointwise
from asmjax.ops.cpu.max_pool import max_pool_by_taps
from asmjax.ops.cpu.upsample_conv import convolve_doubled
from asmjax.ops.resize import bilinear

# The mapped axis over which a step is spread; synchronized batch norm averages over it.
DEVICES = "devices"

_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
  """Within, convolutions are traced as such, whatever is faster on a CPU: to count them, say."""
  token = _PLAIN.set(True)
  try:
    yield
  finally:
    _PLAIN.reset(token)


def _for_cpus() -> bool:
  return jax.default_backend() == "cpu" and not _PLAIN.get()


he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def uniform_bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Draws biases (f,) from +-sqrt(3 / f), TensorFlow's default initializer of a vector."""
  limit = (3 / shape[-1]) ** 0.5
  return jax.random.uniform(key, shape, dtype, -limit, limit)


def convolve(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k l _ d"],
  pads: Pads,
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
  """Convolution, on a CPU by what is fastest there.

  Args:
    x: map.
    kernel: of c / groups channels.
    pads: zeros above and below, and left and right.
    stride: of both axes.
    dilation: of both axes.
    groups: equal parts of the channels, each convolved on its own.
  """
  if groups == 1 and _for_cpus():
    if stride == 1 and is_far(x.shape, dilation):
      return convolve_far(x, kernel, pads, dilation)
    if is_small(x.shape, kernel.shape, sizes(x.shape, kernel.shape, pads, stride, dilation)):
      return convolve_small(x, kernel, pads, stride, dilation)
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride,) * 2,
    pads,
    rhs_dilation=(dilation,) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def max_pool(
  x: Float[Array, "n h w c"], window: int, stride: int, pads: str | Pads = "SAME"
) -> Float[Array, "n h2 w2 c"]:
  """Maxima of windows, with a gradient that is fast on a CPU too.

  Args:
    x: map.
    window: side of it.
    stride: of both axes.
    pads: around the map, or "SAME" or "VALID".
  """
  if _for_cpus() and not any(map(is_symbolic_dim, x.shape)):
    return max_pool_by_taps(x, window, stride, pads)
  return nn.max_pool(x, (window,) * 2, (stride,) * 2, pads)


class Conv(nn.Module):
  """k x k convolution with (k - 1) // 2 pixels of zero padding above and left, k // 2 elsewhere.

  So the output has 1/stride of the size, rounded up.

  A 1x1 kernel is applied as a matrix product, which the CPU differentiates faster.

  Attributes:
    features: output channels.
    kernel: k.
    stride: of both axes.
    dilation: of both axes; the padding grows with it.
    bias: add a bias.
    dtype: compute type; parameters are float32.
    groups: equal parts of the channels, each convolved on its own; as many as there are channels
      make a depthwise convolution.
    kernel_init: of the kernel (k, k, channels / groups, features).
    bias_init: of the bias (features,).
    mask: what the kernel is multiplied by; where it is 0, the kernel neither acts nor learns.
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

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], low: Float[Array, "n _ _ d"] | None = None
  ) -> Float[Array, "n h2 w2 features"]:
    """Convolves `x`, or the concatenation of `low`, bilinearly resized to the size of x, and `x`.

    The latter is what decoders do with a skip `x`. Where the result is the same and cheaper,
    neither the resized map nor the concatenation is computed.
    """
    channels = x.shape[-1] + (0 if low is None else low.shape[-1])
    shape = (self.kernel, self.kernel, channels // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    kernel = kernel if self.mask is None else kernel * self.mask
    bias = self.param("bias", self.bias_init, (self.features,)) if self.bias else None
    x, low, kernel, bias = nn.dtypes.promote_dtype(x, low, kernel, bias, dtype=self.dtype)
    y = self._convolve(x, kernel) if low is None else self._join(low, x, kernel)
    return y if bias is None else y + jnp.expand_dims(bias, (0, 1, 2))

  def _join(self, low: Array, x: Array, kernel: Array) -> Array:
    size = x.shape[1:3]
    if self.groups > 1:
      return self._convolve(jnp.concatenate([bilinear(low, size), x], -1), kernel)
    of_low, of_x = jnp.split(kernel, [low.shape[-1]], axis=2)
    if (self.kernel, self.stride) == (1, 1):
      return bilinear(self._convolve(low, of_low), size) + self._convolve(x, of_x)
    doubles = (2 * low.shape[1], 2 * low.shape[2]) == size
    if doubles and (self.kernel, self.stride, self.dilation) == (3, 1, 1) and _for_cpus():
      return convolve_doubled(low, of_low) + self._convolve(x, of_x)
    return self._convolve(jnp.concatenate([bilinear(low, size), x], -1), kernel)

  def _convolve(self, x: Array, kernel: Array) -> Array:
    if (self.kernel, self.groups) == (1, 1):
      x = x[:, :: self.stride, :: self.stride]
      return convolve_pointwise(x, kernel[0, 0]) if _for_cpus() else x @ kernel[0, 0]
    if kernel.shape[2:] == (1, self.groups) and _for_cpus():
      return convolve_depthwise(x, kernel, self.stride, self.dilation)
    pad = ((self.kernel - 1) // 2 * self.dilation, self.kernel // 2 * self.dilation)
    return convolve(x, kernel, (pad, pad), self.stride, self.dilation, self.groups)


NORMS = ("none", "batch", "sync_batch", "group")


@dataclasses.dataclass(frozen=True)
class Norm:
  """A kind of normalization.

  Attributes:
    kind: "none", "batch" (statistics of each device's own share), "sync_batch" (statistics of
      the global batch) or "group" (32 groups).
    momentum: of the running statistics of batch norm: what is kept of them at every step.
    epsilon: added to the variance.
    frozen: batch norm uses its running statistics in training too, and leaves them as they are.

  Raises:
    ValueError: an unknown kind.
  """

  kind: str = "batch"
  momentum: float = 0.99
  epsilon: float = 1e-5
  frozen: bool = False

  def __post_init__(self):
    if self.kind not in NORMS:
      raise ValueError(f"unknown norm {self.kind!r}; known: {', '.join(NORMS)}")

  def layer(self, *, train: bool, name: str, dtype: Any = None) -> Callable[[Array], Array]:
    """The layer; with `train` it uses the batch's statistics and updates the running ones."""
    settings = {"epsilon": self.epsilon, "dtype": dtype, "name": name}
    if self.kind == "none":
      return lambda x: x
    if self.kind == "group":
      return nn.GroupNorm(**settings)
    axis = DEVICES if self.kind == "sync_batch" else None
    return BatchNorm(not train or self.frozen, momentum=self.momentum, axis_name=axis, **settings)


class Layers(NamedTuple):
  """What all convolutional layers of a network have in common.

  Attributes:
    norm: after each convolution, which has a bias only where there is none.
    activation: after that.
    conv: makes a convolution, with the arguments of `Conv`.
    dtype: compute type.
    train: whether the network is trained.
  """

  norm: Norm = Norm()
  activation: Callable[[Array], Array] = nn.relu
  conv: Callable[..., nn.Module] = Conv
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
    name: str,
  ) -> Float[Array, "n h w features"]:
    """A convolution `name`, its normalization `{name}_norm` and its activation.

    They belong to the module that calls this.

    Args:
      *x: what is convolved; a second one is joined as by `Conv`.
      features: output channels.
      kernel: see `Conv`, as are `stride`, `dilation` and `groups`.
      activate: whether the activation is applied.
      name: of the convolution.
    """
    conv = self.conv(
      features, kernel, stride, dilation, self.bias, self.dtype, groups=groups, name=name
    )
    return self.finish(conv(*x), activate=activate, name=name)

  @property
  def bias(self) -> bool:
    """Whether convolutions have one."""
    return self.norm.kind == "none"

  def finish(
    self, x: Float[Array, "n h w c"], *, activate: bool = True, name: str
  ) -> Float[Array, "n h w c"]:
    """What follows a convolution `name`."""
    x = self.norm.layer(train=self.train, name=f"{name}_norm", dtype=self.dtype)(x)
    return self.activation(x) if activate else x


class Network(nn.Module, kw_only=True):
  """What networks have in common: how their layers are made.

  Attributes:
    norm: after each convolution but the last ones.
    activation: after that.
    conv: makes a convolution, with the arguments of `Conv`.
    dtype: compute type.
  """

  norm: Norm = Norm()
  activation: Callable[[Array], Array] = nn.relu
  conv: Callable[..., nn.Module] = Conv
  dtype: Any = None

  def layers(self, *, train: bool) -> Layers:
    """The convolutional layers of this network."""
    return Layers(self.norm, self.activation, self.conv, self.dtype, train)


def with_compute_dtype(dtype: Any, module: nn.Module) -> nn.Module:
  """The module with this compute type, as well as all modules among its fields."""
  fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
  inner = {
    name: with_compute_dtype(dtype, each)
    for name, each in fields.items()
    if isinstance(each, nn.Module) and name != "parent"
  }
  return module.clone(dtype=dtype, **inner)


def check_output_stride(stride: int) -> None:
  """Raises ValueError unless a backbone can have this output stride."""
  if stride not in (8, 16, 32):
    raise ValueError(f"output_stride={stride}; known: 8, 16, 32")
