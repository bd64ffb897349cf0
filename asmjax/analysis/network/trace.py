"""Traces of a network's call: its layers, read off the traced program whatever makes them."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from asmjax.analysis.network.field_rules import ReceptiveField
from asmjax.analysis.network.receptive_field import PRODUCTS, Value, trace_fields

# Kind of a layer by the primitive of its pooling.
POOLS = {
  "reduce_window_max": "max pool",
  "reduce_window_min": "min pool",
  "reduce_window_sum": "avg pool",
}


def trace_call(
  network: nn.Module, variables: Any, inputs: Sequence[Any], options: Mapping[str, Any]
) -> "Trace":
  """Traces a call of a network, and propagates receptive fields through it.

  Args:
    network: Any module.
    variables: Variables of the network, as shapes.
    inputs: Positional arguments; arrays may be shapes, and those of four axes are images.
    options: Keyword arguments.

  Raises:
    ValueError: A loop or a branch holds convolutions or matrix products.
  """
  trace = Trace(variables.get("params", {}))

  def apply(variables, *arrays):
    with nn.intercept_methods(trace.intercept):
      return network.apply(variables, *fill_arrays(inputs, arrays), **options)

  trace_fields(apply, variables, list(filter(is_array, inputs)), trace.visit)
  return trace


@dataclasses.dataclass
class LayerCall:
  """A layer, to which equations are added one by one.

  Attributes:
    attributes: Entries of `asmjax.analysis.network.summary.Layer` by name.
    fields: Receptive fields of the output so far.
    order: Number of the module's call; -1 for a pool or a resize within it.
  """

  attributes: dict[str, Any]
  fields: tuple[ReceptiveField, ReceptiveField]
  order: int

  @property
  def is_resize(self) -> bool:
    """Whether it is a resize by matrices."""
    return self.attributes["kind"] == "resize"

  def add(self, **attributes: Any) -> None:
    """Adds a convolution or product to those of the call: the largest window counts."""
    if attributes["kind"] != "matmul":
      self.attributes["kind"] = attributes["kind"]
    for key in ("kernel", "stride", "dilation", "groups"):
      self.attributes[key] = max(self.attributes[key], attributes[key])
    self.attributes["multiply_adds"] += attributes["multiply_adds"]


class Trace:
  """Layers of a traced program, filled by `visit`.

  Attributes:
    params: Parameters of the network, as shapes.
    paths: Paths of the modules, in the order of their calls.
  """

  def __init__(self, params: Any) -> None:
    self.params = params
    self.paths: list[str] = []
    self._calls: dict[Any, LayerCall] = {}
    self._slice_strides: dict[int, tuple[int, int]] = {}

  @property
  def calls(self) -> list[LayerCall]:
    """Layers in the order of application."""
    return list(self._calls.values())

  def intercept(self, apply: Any, arguments: Any, options: Any, context: Any) -> Any:
    """Numbers the calls of modules and puts the number into the names of their scopes."""
    if context.method_name != "__call__":
      return apply(*arguments, **options)
    self.paths.append("/".join(context.module.path))
    with jax.named_scope(f"<{len(self.paths) - 1}>"):
      return apply(*arguments, **options)

  def visit(
    self, equation: Any, operands: Sequence[Value], results: Sequence[Value], names: str, scope: str
  ) -> None:
    """Adds an equation to its layer: of a module's call, or of a pool or resize within it."""
    if not results or results[0].fields is None:
      return
    order, name = int(re.findall("<([0-9]+)>", names)[-1]), equation.primitive.name
    shape, fields = equation.outvars[0].aval.shape, results[0].fields
    if name in PRODUCTS:
      describe = _describe_matmul if name == "dot_general" else _describe_convolution
      attributes = describe(equation, operands)
      is_resize = any(operand.compute for operand in operands)
      if is_resize:
        attributes["kind"] = "resize"
      if name == "dot_general":
        # A 1x1 convolution takes every stride-th row and column before it multiplies.
        attributes["stride"] = self._slice_strides.get(order, (1, 1))
      key = scope if is_resize else order
      if key in self._calls:
        self._calls[key].add(**attributes)
      else:
        attributes["name"] = self.paths[order]
        self._calls[key] = LayerCall(attributes, fields, -1 if is_resize else order)
    elif name in POOLS:
      attributes = _describe_pool(equation) | {"name": self.paths[order]}
      self._calls[names] = LayerCall(attributes, fields, -1)
    elif name == "slice" and equation.params["strides"] and len(shape) == 4:
      self._slice_strides[order] = equation.params["strides"][1:3]
    for key in (order, scope, names):
      if key in self._calls:
        self._calls[key].fields, self._calls[key].attributes["shape"] = fields, shape

  def count_parameters(self) -> list[int]:
    """Counts the parameters of each layer and of what follows it up to the next one."""
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      module = "/".join(key.key for key in path[:-1])
      sizes[module] = sizes.get(module, 0) + leaf.size
    calls, counts = self.calls, [0] * len(self._calls)
    for module, size in sizes.items():
      order = self.paths.index(module) if module in self.paths else math.inf
      before = [i for i, call in enumerate(calls) if 0 <= call.order <= order]
      if calls:
        counts[max(before, key=lambda i: calls[i].order, default=0)] += size
    return counts


def is_array(x: Any) -> bool:
  """Tells whether an argument is an array or the shape of one."""
  return hasattr(x, "shape")


def is_image(x: Any) -> bool:
  """Tells whether an argument is an array (n, h, w, c)."""
  return len(getattr(x, "shape", ())) == 4


def fill_arrays(inputs: Iterable[Any], arrays: Iterable[Any]) -> list[Any]:
  """Returns arguments with these arrays, one after the other, in place of their own."""
  remaining = iter(arrays)
  return [next(remaining) if is_array(x) else x for x in inputs]


def _describe_convolution(equation: Any, _: Sequence[Value]) -> dict[str, Any]:
  left, right = (atom.aval.shape for atom in equation.invars)
  shape, params = equation.outvars[0].aval.shape, equation.params
  order, groups = params["dimension_numbers"], params["feature_group_count"]
  kernel = tuple(right[axis] for axis in order.rhs_spec[2:])
  kind = "conv"
  if groups > 1:
    kind = "depthwise" if groups == left[order.lhs_spec[1]] else "grouped conv"
  if max(params["lhs_dilation"]) > 1:
    kind = "transposed conv"
  products = shape[order.out_spec[0]] * shape[order.out_spec[1]] * right[order.rhs_spec[1]]
  for i, axis in enumerate(order.out_spec[2:]):
    options = ("window_strides", "rhs_dilation", "lhs_dilation", "padding")
    products *= _count_taps(shape[axis], kernel[i], *(params[key][i] for key in options))
  return {
    "kind": kind,
    "kernel": kernel,
    "stride": params["window_strides"],
    "dilation": params["rhs_dilation"],
    "groups": groups,
    "multiply_adds": products,
  }


def _describe_matmul(equation: Any, operands: Sequence[Value]) -> dict[str, Any]:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left, shape = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  by_parameters = any(operand.fields is None and not operand.compute for operand in operands)
  is_pointwise = by_parameters and len(shape) == 4
  return {
    "kind": "matmul",
    "kernel": (1, 1) if is_pointwise else (),
    "stride": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "multiply_adds": math.prod(shape) * math.prod(left[axis] for axis in contracted),
  }


def _describe_pool(equation: Any) -> dict[str, Any]:
  window = lambda key: tuple(equation.params[key][1:3])
  return {
    "kind": POOLS[equation.primitive.name],
    "kernel": window("window_dimensions"),
    "stride": window("window_strides"),
    "dilation": window("window_dilation"),
    "groups": 1,
    "multiply_adds": 0,
  }


def _count_taps(
  outputs: int,
  kernel: int,
  stride: int,
  dilation: int,
  input_dilation: int,
  padding: tuple[int, int],
) -> int:
  """Counts the taps of all windows along an axis that meet a pixel, or padding.

  Those that meet a zero between the pixels of a transposed convolution do not count.
  """
  if input_dilation == 1:
    return outputs * kernel
  rows = (stride * i + dilation * k - padding[0] for i in range(outputs) for k in range(kernel))
  return sum(row % input_dilation == 0 for row in rows)
