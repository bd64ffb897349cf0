"""Summary of a network: its layers with their costs and receptive fields. Nothing is computed.

`flax.linen.tabulate` lists modules with their shapes, parameters and FLOPs, and is the quick look
from code. It knows no receptive fields, and its FLOPs, XLA's estimate for the compiled program, are
no published measure: they include normalizations and activations, leave products with padding out,
and follow whatever the backend rewrites (1.149 G for MobileNet, of which half is 574 M; the paper
has 568 M multiply-adds without the classifier). So multiply-adds are counted from the same trace as
receptive fields.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from asmjax.analysis.network.field_rules import ReceptiveField
from asmjax.analysis.network.trace import fill_arrays, is_array, is_image, trace_call
from asmjax.game import Term
from asmjax.ops import use_cpu_kernels
from asmjax.tasks.base import Task

# Sides of images that few receptive fields exceed; multiples of a power of two, so that strides
# divide them. Two of them tell a field of fixed size from one that grows with the image.
LARGE_SIDES = (4096, 6144)


@dataclasses.dataclass(frozen=True)
class Layer:
  """One call of a module that convolves or multiplies; or a pool; or a resize by matrices.

  Attributes:
    name: Path of the module, joined by "/"; for a pool or a resize that of the module around it,
      "" for the network itself.
    kind: "conv", "depthwise", "grouped conv" or "transposed conv"; "matmul" of a map's channels,
      which is how 1x1 convolutions are computed, or of other arrays; "max pool", "min pool" or
      "avg pool"; "resize".
    kernel: Size (h, w) of the window; of several convolutions in one call the largest; empty where
      there is none.
    stride: Stride (h, w) of the window, or of the rows and columns that a 1x1 convolution takes.
    dilation: Dilation (h, w) of the kernel.
    groups: Number of groups of channels that are convolved separately.
    shape: Shape of the layer's output.
    parameters: Number of parameters of the layer, and of those that follow it up to the next one
      and neither convolve nor multiply, as normalizations. A layer that is called twice has them
      the first time.
    multiply_adds: Multiply-adds of the convolutions and matrix products of the call.
    receptive_field: Size (h, w) of the smallest window of pixels that holds all those that an
      output depends on, for the output with the largest; infinite if it is the whole image, and
      the largest of several inputs. Weights that are zero by chance count as if they were not.
    effective_stride: Pixels (h, w) from one output to the next; infinite if there is only one.
  """

  name: str
  kind: str
  kernel: tuple[int, ...]
  stride: tuple[int, int]
  dilation: tuple[int, int]
  groups: int
  shape: tuple[int, ...]
  parameters: int
  multiply_adds: int
  receptive_field: tuple[float, float]
  effective_stride: tuple[Fraction | float, Fraction | float]


@dataclasses.dataclass(frozen=True)
class NetworkSummary:
  """The layers of a network in the order of application.

  Attributes:
    layers: Layers that depend on the inputs; spectral normalization's products of kernels do not.
    inputs: Shapes of the images that the summary is for.
    parameters: Number of parameters of the network.
  """

  layers: tuple[Layer, ...]
  inputs: tuple[tuple[int, ...], ...]
  parameters: int

  @property
  def multiply_adds(self) -> int:
    """Multiply-adds of convolutions and matrix products without resizes, as published counts.

    Products with the zeros of a padding count; those with zeros between the pixels of a transposed
    convolution do not. Cheaper ways of computing a convolution are not considered.
    """
    return sum(layer.multiply_adds for layer in self.layers if layer.kind != "resize")

  @property
  def resize_multiply_adds(self) -> int:
    """Multiply-adds of resizes by matrices; doubling a map needs none."""
    return sum(layer.multiply_adds for layer in self.layers if layer.kind == "resize")


def summarize(network: nn.Module, size: tuple[int, int]) -> NetworkSummary:
  """Summarizes a predictor or a backbone in evaluation, for an image of `size` (h, w).

  Raises:
    ValueError: A loop or a branch holds convolutions or matrix products.
  """
  image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  return summarize_call(network, image, train=False)


def summarize_critic(
  term: Term, tasks: Mapping[str, Task], size: tuple[int, int]
) -> NetworkSummary:
  """Summarizes a term's critic for one prediction, in evaluation.

  Args:
    term: Term with a critic.
    tasks: Tasks of the predictor, by name.
    size: Size (h, w) of the predictor's outputs.

  Raises:
    ValueError: The term has no critic.
  """
  if term.critic is None:
    raise ValueError(f"{type(term).__name__} has no critic")
  calls = []

  def record(apply, arguments, options, context):
    if context.method_name == "__call__":
      calls.append((arguments, options))
    return apply(*arguments, **options)

  with nn.intercept_methods(record):
    jax.eval_shape(lambda: term.init(jax.random.key(0), tasks, size))
  arguments, options = calls[0]
  shapes = (jax.ShapeDtypeStruct(x.shape, x.dtype) if is_array(x) else x for x in arguments)
  return summarize_call(term.critic, *shapes, **options)


def summarize_call(network: nn.Module, *inputs: Any, **options: Any) -> NetworkSummary:
  """Summarizes a call of any module.

  A receptive field that exceeds half of the image is measured in larger images; one that grows
  with them, as that of a mean over cells, is given as it is in this one.

  Args:
    network: Module to call.
    *inputs: Positional arguments; arrays may be `jax.ShapeDtypeStruct`, and those of shape
      (n, h, w, c) are images.
    **options: Keyword arguments.

  Raises:
    ValueError: A loop or a branch holds convolutions or matrix products.
  """
  variables = _init_shapes(network, inputs, options)
  trace = trace_call(network, variables, inputs, options)
  shapes = tuple(x.shape for x in inputs if is_image(x))
  size = tuple(max(shape[axis] for shape in shapes) for axis in (1, 2)) if shapes else ()
  fits = all(_fits(*pair) for call in trace.calls for pair in zip(call.fields, size, strict=True))
  larger = iter(()) if fits else _trace_larger(network, variables, inputs, options)
  layers = []
  for call, parameters in zip(trace.calls, trace.count_parameters(), strict=True):
    in_larger = () if call.is_resize else next(larger, ())
    measured = [
      _measure(field, side, [fields[axis] for fields in in_larger])
      for axis, (field, side) in enumerate(zip(call.fields, size, strict=True))
    ]
    field, stride = zip(*measured, strict=True)
    layers.append(
      Layer(
        **call.attributes, parameters=parameters, receptive_field=field, effective_stride=stride
      )
    )
  return NetworkSummary(
    tuple(layers), shapes, sum(leaf.size for leaf in jax.tree.leaves(trace.params))
  )


def _trace_larger(
  network: nn.Module, variables: Any, inputs: Sequence[Any], options: Mapping[str, Any]
) -> Iterator[tuple[tuple[ReceptiveField, ReceptiveField], ...]]:
  """Yields the fields of each layer in larger images; nothing if parameters fix the size.

  Resizes are left out: the size decides which maps are resized by matrices, and all other layers
  exist at every size.
  """
  try:
    traces = [
      trace_call(network, variables, _enlarge(inputs, side), options) for side in LARGE_SIDES
    ]
  except ScopeParamShapeError:  # There are parameters for each pixel.
    return
  fields = [[call.fields for call in trace.calls if not call.is_resize] for trace in traces]
  yield from zip(*fields, strict=True)


def _init_shapes(network: nn.Module, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
  init = lambda *arrays: network.init(jax.random.key(0), *fill_arrays(inputs, arrays), **options)
  with use_cpu_kernels(False):
    return jax.eval_shape(init, *filter(is_array, inputs))


def _fits(field: ReceptiveField, side: int) -> bool:
  """Tells whether the borders of the image surely cut nothing off the receptive field."""
  return 2 * field.extent <= side


def _measure(
  field: ReceptiveField, side: int, in_larger: Sequence[ReceptiveField]
) -> tuple[float, Fraction | float]:
  """Returns receptive field and effective stride along an axis, in larger images if needed."""
  if not _fits(field, side) and len({larger.extent for larger in in_larger}) == 1:
    return float(in_larger[0].extent), in_larger[0].stride
  return (math.inf if field.extent >= side else float(field.extent)), field.stride


def _enlarge(inputs: Sequence[Any], side: int) -> list[Any]:
  """Scales images in the same proportion to each other, so that the first is a square of `side`."""
  height, width = next(x.shape[1:3] for x in inputs if is_image(x))

  def scale(x: Any) -> Any:
    n, h, w, c = x.shape
    return jax.ShapeDtypeStruct((n, side * h // height, side * w // width, c), x.dtype)

  return [scale(x) if is_image(x) else x for x in inputs]
