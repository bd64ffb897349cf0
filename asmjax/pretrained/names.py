"""Name maps: where in a file of weights each variable of a network comes from.

A map is a dict from the path of a variable, its collection first ("params/conv1/kernel",
"batch_stats/conv1_norm/mean"), to its `WeightSource`. The functions below return the entries of a
single layer, to be joined with `|`. In their arguments `module` is the path of the layer in the
network, and `name` its name in the file.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import PyTree

from asmjax.utils.trees import leaves_by_path


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """Arrays of a file that one variable is made of.

  Attributes:
    names: Names of the arrays in the file, mostly of a single one.
    transform: Function from the file's arrays to the variable; raises ValueError if an array has
      not the rank that it expects.
  """

  names: tuple[str, ...]
  transform: Callable[..., np.ndarray] = np.asarray


NameMap = dict[str, WeightSource]


def identity_map(variables: PyTree) -> NameMap:
  """Returns the map for a file that names arrays by the paths of our variables."""
  return {path: WeightSource((path,)) for path in leaves_by_path(variables)}


def nest(module: str, name_map: Mapping[str, WeightSource]) -> NameMap:
  """Returns the map of a network that has become the part `module` of a larger one.

  Examples:
    >>> list(nest("backbone", {"params/conv1/kernel": WeightSource(("conv1.weight",))}))
    ['params/backbone/conv1/kernel']
  """
  nested = {}
  for path, source in name_map.items():
    collection, inner = path.split("/", 1)
    nested[f"{collection}/{module}/{inner}"] = source
  return nested


def prefix_names(prefix: str, name_map: Mapping[str, WeightSource]) -> NameMap:
  """Returns the map for a file whose names begin with `prefix`.

  Examples:
    >>> prefix_names("backbone.", {"params/conv1/kernel": WeightSource(("conv1.weight",))})
    ... # doctest: +ELLIPSIS
    {'params/conv1/kernel': WeightSource(names=('backbone.conv1.weight',), ...)}
  """
  return {
    path: dataclasses.replace(source, names=tuple(prefix + name for name in source.names))
    for path, source in name_map.items()
  }


def hwio_from_oihw(kernel: np.ndarray) -> np.ndarray:
  """Transposes PyTorch's convolution (out, in / groups, h, w) to (h, w, in / groups, out).

  That includes depthwise ones: (channels * m, 1, h, w) to (h, w, 1, channels * m).
  """
  return np.transpose(kernel, (2, 3, 1, 0))


def io_from_oi(kernel: np.ndarray) -> np.ndarray:
  """Transposes PyTorch's linear layer (out, in) to (in, out)."""
  return np.transpose(kernel, (1, 0))


def hwio_from_oi(side: int) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the conversion of PyTorch's linear layer of a flattened map to a convolution.

  Args:
    side: Side of the map, which the kernel covers.

  Returns:
    A function from (out, in * side * side) to (side, side, in, out).
  """

  def transform(kernel: np.ndarray) -> np.ndarray:
    out, _ = kernel.shape
    return hwio_from_oihw(kernel.reshape(out, -1, side, side))

  return transform


def hwio_from_hwcm(kernel: np.ndarray) -> np.ndarray:
  """Reshapes TensorFlow's depthwise convolution (h, w, channels, m) to (h, w, 1, channels * m)."""
  h, w, channels, multiplier = kernel.shape
  return kernel.reshape(h, w, 1, channels * multiplier)


def torch_conv(module: str, name: str, *, bias: bool = False) -> NameMap:
  """Maps a convolution of PyTorch, depthwise and grouped ones included.

  Args:
    module: Path of the convolution, such as "block1/conv1".
    name: Name in the file, such as "features.1.conv.0.0".
    bias: Whether the convolution has a bias.
  """
  kernel = WeightSource((f"{name}.weight",), hwio_from_oihw)
  return _conv(module, kernel, f"{name}.bias" if bias else None)


def torch_linear(module: str, name: str) -> NameMap:
  """Maps a linear layer of PyTorch with a bias.

  Args:
    module: Path of the `asmjax.models.transformer.Linear`.
    name: Name in the file, such as "block.0.mlp.fc1".
  """
  return _conv(module, WeightSource((f"{name}.weight",), io_from_oi), f"{name}.bias")


def torch_layer_norm(module: str, name: str) -> NameMap:
  """Maps a layer norm of PyTorch.

  Args:
    module: Path of the layer norm.
    name: Name in the file, such as "block.0.layer_norm_1".
  """
  arrays = {"scale": "weight", "bias": "bias"}
  return {
    f"params/{module}/{ours}": WeightSource((f"{name}.{theirs}",))
    for ours, theirs in arrays.items()
  }


def torch_vector(path: str, name: str) -> NameMap:
  """Maps one number for each channel, whatever axes of length 1 the file has beside it.

  Args:
    path: Path of the parameter (c,), such as "block1/scale".
    name: Name in the file.
  """
  return {f"params/{path}": WeightSource((name,), np.ravel)}


def torch_batch_norm(module: str, name: str, *, shift: float) -> NameMap:
  """Maps a batch norm of PyTorch.

  Args:
    module: Path of the batch norm.
    name: Name in the file, such as "features.0.1".
    shift: Epsilon of the file's network less ours. It is added to the running variance, so that
      in evaluation the layer computes the very same.
  """
  return _batch_norm(module, name, ".", ("weight", "bias", "running_mean", "running_var"), shift)


def torch_layer(module: str, conv: str, norm: str, *, shift: float, bias: bool = False) -> NameMap:
  """Maps a convolution of PyTorch and the batch norm after it, `{module}_norm`.

  Args:
    module: Path of the convolution, which has no bias.
    conv: Name of the convolution in the file.
    norm: Name of the batch norm in the file.
    shift: Epsilon of the file's network less ours; see `torch_batch_norm`.
    bias: Whether the file's convolution has a bias. The running mean takes it, since what is
      normalized is x + bias - mean.
  """
  entries = torch_conv(module, conv) | torch_batch_norm(f"{module}_norm", norm, shift=shift)
  mean = WeightSource((f"{norm}.running_mean", f"{conv}.bias"), np.subtract)
  return entries | {f"batch_stats/{module}_norm/mean": mean} if bias else entries


def slim_conv(module: str, name: str, *, depthwise: bool = False, bias: bool = False) -> NameMap:
  """Maps a convolution of TF-Slim.

  Args:
    module: Path of the convolution, such as "stage1_block1/conv1".
    name: Name in the file, such as "MobilenetV2/Conv".
    depthwise: Whether it is a depthwise convolution.
    bias: Whether the convolution has a bias.
  """
  kernel = WeightSource((f"{name}/weights",))
  if depthwise:
    kernel = WeightSource((f"{name}/depthwise_weights",), hwio_from_hwcm)
  return _conv(module, kernel, f"{name}/biases" if bias else None)


def slim_layer(module: str, name: str, *, shift: float, depthwise: bool = False) -> NameMap:
  """Maps a convolution of TF-Slim and its batch norm, `{module}_norm`.

  Args:
    module: Path of the convolution.
    name: Name of the convolution in the file.
    shift: Epsilon of the file's network less ours; see `torch_batch_norm`.
    depthwise: Whether it is a depthwise convolution.
  """
  names = ("gamma", "beta", "moving_mean", "moving_variance")
  return slim_conv(module, name, depthwise=depthwise) | _batch_norm(
    f"{module}_norm", f"{name}/BatchNorm", "/", names, shift
  )


def _conv(module: str, kernel: WeightSource, bias: str | None) -> NameMap:
  entries = {f"params/{module}/kernel": kernel}
  return entries | {f"params/{module}/bias": WeightSource((bias,))} if bias else entries


def _batch_norm(
  module: str, name: str, separator: str, names: tuple[str, ...], shift: float
) -> NameMap:
  scale, bias, mean, variance = (f"{name}{separator}{array}" for array in names)
  return {
    f"params/{module}/scale": WeightSource((scale,)),
    f"params/{module}/bias": WeightSource((bias,)),
    f"batch_stats/{module}/mean": WeightSource((mean,)),
    f"batch_stats/{module}/var": WeightSource((variance,), lambda variance: variance + shift),
  }
