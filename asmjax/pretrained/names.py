"""Name maps: where in a file of weights each variable of a network comes from.

A map is a plain dict from the path of our variable, its collection first ("params/conv1/kernel",
"batch_stats/conv1_norm/mean"), to its `Origin`. The functions below give the entries of a single
layer, to be joined with `|`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where one variable comes from.

  Attributes:
    names: of the arrays in the file, mostly of one.
    transform: from the file's arrays to ours; raises ValueError if one has not its rank.
  """

  names: tuple[str, ...]
  transform: Callable[..., np.ndarray] = np.asarray


NameMap = dict[str, Origin]


def named(path: jax.tree_util.KeyPath) -> str:
  """The place of a leaf in a tree as a path: "params/conv1/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: PyTree) -> dict[str, Any]:
  """The leaves of a tree by path."""
  return {named(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def under(module: str, name_map: Mapping[str, Origin]) -> NameMap:
  """The map of a network that has become the part `module` of a larger one.

  Example:
    >>> list(under("backbone", {"params/conv1/kernel": Origin(("conv1.weight",))}))
    ['params/backbone/conv1/kernel']
  """
  placed = {}
  for path, origin in name_map.items():
    collection, rest = path.split("/", 1)
    placed[f"{collection}/{module}/{rest}"] = origin
  return placed


def prefixed(prefix: str, name_map: Mapping[str, Origin]) -> NameMap:
  """The map for a file whose names begin with `prefix`.

  Example:
    >>> prefixed("backbone.", {"params/conv1/kernel": Origin(("conv1.weight",))})
    ... # doctest: +ELLIPSIS
    {'params/conv1/kernel': Origin(names=('backbone.conv1.weight',), ...)}
  """
  return {
    path: dataclasses.replace(origin, names=tuple(prefix + name for name in origin.names))
    for path, origin in name_map.items()
  }


def hwio_from_oihw(kernel: np.ndarray) -> np.ndarray:
  """PyTorch's convolution (out, in / groups, h, w) to (h, w, in / groups, out).

  That includes depthwise ones: (channels * m, 1, h, w) to (h, w, 1, channels * m).
  """
  return np.transpose(kernel, (2, 3, 1, 0))


def hwio_from_oi(side: int) -> Callable[[np.ndarray], np.ndarray]:
  """PyTorch's linear layer of a flattened map to the convolution that covers the map.

  Args:
    side: of the map.

  Returns:
    A function from (out, in * side * side) to (side, side, in, out).
  """

  def transform(kernel: np.ndarray) -> np.ndarray:
    out, _ = kernel.shape
    return hwio_from_oihw(kernel.reshape(out, -1, side, side))

  return transform


def hwio_from_hwcm(kernel: np.ndarray) -> np.ndarray:
  """TensorFlow's depthwise convolution (h, w, channels, m) to (h, w, 1, channels * m)."""
  h, w, channels, multiplier = kernel.shape
  return kernel.reshape(h, w, 1, channels * multiplier)


def torch_conv(ours: str, theirs: str, *, bias: bool = False) -> NameMap:
  """A convolution of PyTorch, depthwise and grouped ones included.

  Args:
    ours: path of our module, such as "block1/conv1".
    theirs: name of theirs, such as "features.1.conv.0.0".
    bias: whether it has one.
  """
  return _conv(ours, Origin((f"{theirs}.weight",), hwio_from_oihw), bias and f"{theirs}.bias")


def torch_batch_norm(ours: str, theirs: str, *, shift: float) -> NameMap:
  """A batch norm of PyTorch.

  Args:
    ours: path of our module.
    theirs: name of theirs, such as "features.0.1".
    shift: their epsilon less ours. It is added to the running variance, so that in evaluation
      the layer computes the very same.
  """
  return _batch_norm(ours, theirs, ".", ("weight", "bias", "running_mean", "running_var"), shift)


def torch_layer(ours: str, conv: str, norm: str, *, shift: float, bias: bool = False) -> NameMap:
  """A convolution of PyTorch and the batch norm after it, ours `{ours}_norm`.

  Args:
    ours: path of our convolution, which has no bias.
    conv: name of their convolution.
    norm: name of their batch norm.
    shift: see `torch_batch_norm`.
    bias: whether their convolution has one. The running mean takes it: what is normalized is
      x + bias - mean.
  """
  entries = torch_conv(ours, conv) | torch_batch_norm(f"{ours}_norm", norm, shift=shift)
  mean = Origin((f"{norm}.running_mean", f"{conv}.bias"), np.subtract)
  return entries | {f"batch_stats/{ours}_norm/mean": mean} if bias else entries


def slim_conv(ours: str, theirs: str, *, depthwise: bool = False, bias: bool = False) -> NameMap:
  """A convolution of TF-Slim.

  Args:
    ours: path of our module, such as "stage1_block1/conv1".
    theirs: name of theirs, such as "MobilenetV2/Conv".
    depthwise: whether it is a depthwise one.
    bias: whether it has one.
  """
  kernel = Origin((f"{theirs}/weights",))
  if depthwise:
    kernel = Origin((f"{theirs}/depthwise_weights",), hwio_from_hwcm)
  return _conv(ours, kernel, bias and f"{theirs}/biases")


def slim_layer(ours: str, theirs: str, *, shift: float, depthwise: bool = False) -> NameMap:
  """A convolution of TF-Slim and its batch norm, ours `{ours}_norm`.

  Args:
    ours: path of our convolution.
    theirs: name of theirs.
    shift: their epsilon less ours; see `torch_batch_norm`.
    depthwise: whether it is a depthwise one.
  """
  names = ("gamma", "beta", "moving_mean", "moving_variance")
  return slim_conv(ours, theirs, depthwise=depthwise) | _batch_norm(
    f"{ours}_norm", f"{theirs}/BatchNorm", "/", names, shift
  )


def _conv(ours: str, kernel: Origin, bias: str | bool) -> NameMap:
  entries = {f"params/{ours}/kernel": kernel}
  return entries | {f"params/{ours}/bias": Origin((bias,))} if bias else entries


def _batch_norm(
  ours: str, theirs: str, separator: str, names: tuple[str, ...], shift: float
) -> NameMap:
  scale, bias, mean, variance = (f"{theirs}{separator}{name}" for name in names)
  return {
    f"params/{ours}/scale": Origin((scale,)),
    f"params/{ours}/bias": Origin((bias,)),
    f"batch_stats/{ours}/mean": Origin((mean,)),
    f"batch_stats/{ours}/var": Origin((variance,), lambda variance: variance + shift),
  }
