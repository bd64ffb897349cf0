"""What a network is made of: its layers with their costs, and how much of the image they see.

All of it is read off the traced program, whatever modules it comes from. Nothing is computed.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from asmjax.analysis.network.receptive_field import PRODUCTS, Value, View, image, propagate
from asmjax.game import Term
from asmjax.ops import use_cpu_kernels
from asmjax.tasks.base import Task

# Sides of images that few fields of view exceed; a power of two, so that strides divide it.
LARGE = (4096, 6144)

POOLS = {
  "reduce_window_max": "max pool",
  "reduce_window_min": "min pool",
  "reduce_window_sum": "avg pool",
}


@dataclasses.dataclass(frozen=True)
class Layer:
  """One call of a module that convolves or multiplies; or a pool; or a resize by matrices.

  Attributes:
    name: path of the module, joined by "/"; for a pool or a resize that of the module it stands
      in, "" for the network itself.
    kind: "conv", "depthwise", "grouped conv" or "transposed conv"; "matmul" of a map's channels,
      which is how 1x1 convolutions are computed, or of other arrays; "max pool", "min pool" or
      "avg pool"; "resize".
    kernel: (h, w) of the window; of several convolutions in one call the largest; empty where
      there is none.
    stride: (h, w) of the window, or of the rows and columns that a 1x1 convolution takes.
    dilation: (h, w) of the kernel.
    groups: of channels that are convolved on their own.
    shape: of the layer's output.
    parameters: of the layer, and of those that follow it up to the next one and neither convolve
      nor multiply, as normalizations. A layer that is called twice has them the first time.
    multiply_adds: of the convolutions and matrix products of the call.
    field: (h, w) of the smallest window of pixels that holds all those that an output depends on,
      of the output with the largest; infinite if it is the whole image. Of several inputs,
      the largest. What only depends on weights that are zero by chance counts as seen.
    jump: (h, w), pixels from one output to the next; infinite if there is only one.
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
  field: tuple[float, float]
  jump: tuple[Fraction | float, Fraction | float]


@dataclasses.dataclass(frozen=True)
class Summary:
  """The layers of a network in the order of application.

  Attributes:
    layers: that depend on the inputs; spectral normalization's products of kernels do not.
    inputs: shapes of the images that it is for.
    parameters: numbers that are learned.
  """

  layers: tuple[Layer, ...]
  inputs: tuple[tuple[int, ...], ...]
  parameters: int

  @property
  def multiply_adds(self) -> int:
    """Of convolutions and matrix products, without resizes, as published counts have it.

    Products with the zeros of a padding count; those with zeros between the pixels of a transposed
    convolution do not. CPUs compute some convolutions in cheaper ways, which are not considered.
    """
    return sum(layer.multiply_adds for layer in self.layers if layer.kind != "resize")

  @property
  def resizing(self) -> int:
    """Multiply-adds of resizes by matrices; doubling a map needs none."""
    return sum(layer.multiply_adds for layer in self.layers if layer.kind == "resize")


def summary(network: nn.Module, size: tuple[int, int], batch: int = 1) -> Summary:
  """What a predictor or a backbone does in evaluation.

  Args:
    network: from images to maps.
    size: (h, w) of the images.
    batch: their number.

  Raises:
    ValueError: a loop or a branch holds convolutions or matrix products.
  """
  images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
  return summary_of_call(network, images, train=False)


def critic_summary(term: Term, tasks: Mapping[str, Task], size: tuple[int, int]) -> Summary:
  """What a term's critic does for one prediction, in evaluation.

  Args:
    term: with a critic.
    tasks: that are predicted.
    size: (h, w) of the predictor's outputs.
  """
  calls = []

  def note(apply, arguments, options, context):
    if context.method_name == "__call__":
      calls.append((arguments, options))
    return apply(*arguments, **options)

  with nn.intercept_methods(note):
    jax.eval_shape(lambda: term.init(jax.random.key(0), tasks, size))
  arguments, options = calls[0]
  shapes = (jax.ShapeDtypeStruct(x.shape, x.dtype) if _is_array(x) else x for x in arguments)
  return summary_of_call(term.critic, *shapes, **options)


def summary_of_call(network: nn.Module, *inputs: Any, **options: Any) -> Summary:
  """What a network does when it is called so.

  A field of view that exceeds half of the image is looked for in larger images; one that
  grows with them, as that of a mean over cells, is given as it is in this one.

  Args:
    network: any module.
    *inputs: arrays or their `jax.ShapeDtypeStruct`; (n, h, w, c) are images.
    **options: further arguments.

  Raises:
    ValueError: a loop or a branch holds convolutions or matrix products.
  """
  variables = _variables(network, inputs, options)
  trace = _traced(network, variables, inputs, options)
  views = [call.views for call in trace.calls]
  shapes = tuple(x.shape for x in inputs if _is_image(x))
  size = tuple(max(shape[axis] for shape in shapes) for axis in (1, 2)) if shapes else ()
  larger = []
  if not all(_fits(view, side) for pair in views for view, side in zip(pair, size, strict=True)):
    with contextlib.suppress(ScopeParamShapeError):  # There are parameters for each pixel.
      traces = [_traced(network, variables, _enlarged(inputs, side), options) for side in LARGE]
      larger = [[call.views for call in each.calls if not call.resizes] for each in traces]
  layers, i = [], 0
  for call, owned in zip(trace.calls, trace.owned(), strict=True):
    # Which maps are resized by matrices depends on the size; all else is there at every size.
    others = [] if call.resizes else [views[i] for views in larger]
    i += not call.resizes
    seen = [
      _measured(view, side, [pair[axis] for pair in others])
      for axis, (view, side) in enumerate(zip(call.views, size, strict=True))
    ]
    field, jump = zip(*seen, strict=True)
    layers.append(Layer(**call.facts, parameters=owned, field=field, jump=jump))
  return Summary(tuple(layers), shapes, _count(trace.params))


def _fits(view: View, side: int) -> bool:
  """Whether the field of view is surely not cut off by the borders of the image."""
  return 2 * view.extent <= side


def _measured(view: View, side: int, larger: Sequence[View]) -> tuple[float, Fraction | float]:
  """Field of view and jump along an axis, from an image and perhaps larger ones."""
  if not _fits(view, side) and len({other.extent for other in larger}) == 1:
    return float(larger[0].extent), larger[0].stride
  return (math.inf if view.extent >= side else float(view.extent)), view.stride


def _is_image(x: Any) -> bool:
  return len(getattr(x, "shape", ())) == 4


def _enlarged(inputs: Iterable[Any], side: int) -> list[Any]:
  """Square images of which the first has this side, in the same proportion to each other."""
  first = next(x.shape for x in inputs if _is_image(x))
  return [
    jax.ShapeDtypeStruct(
      (x.shape[0], *(side * x.shape[i] // first[i] for i in (1, 2)), x.shape[3]), x.dtype
    )
    if _is_image(x)
    else x
    for x in inputs
  ]


def _count(tree: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass
class _Call:
  """A layer as it is found, equation by equation.

  Attributes:
    facts: the entries of `Layer` of these names.
    views: of the output so far.
    order: number of the module's call; -1 if it is not that which the layer is.
  """

  facts: dict[str, Any]
  views: tuple[View, View]
  order: int

  @property
  def resizes(self) -> bool:
    """Whether it is a resize by matrices."""
    return self.facts["kind"] == "resize"

  def add(self, **facts: Any) -> None:
    """Takes in a convolution or product: of several the largest window."""
    mine = self.facts
    if facts["kind"] != "matmul":
      mine["kind"] = facts["kind"]
    for key in ("kernel", "stride", "dilation"):
      mine[key] = max(mine[key], facts[key])
    mine["groups"] = max(mine["groups"], facts["groups"])
    mine["multiply_adds"] += facts["multiply_adds"]


class _Trace:
  """The layers of a traced program.

  Attributes:
    params: the network's parameters, as shapes.
    paths: of the modules, in the order of their calls.
  """

  def __init__(self, params: Any) -> None:
    self.params = params
    self.paths: list[str] = []
    self._calls: dict[Any, _Call] = {}
    self._steps: dict[int, tuple[int, int]] = {}

  @property
  def calls(self) -> list[_Call]:
    """The layers in the order of application."""
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
    """Takes an equation in; see `propagate`."""
    if not results or results[0].views is None:
      return
    order, name = int(re.findall("<([0-9]+)>", names)[-1]), equation.primitive.name
    shape, views = equation.outvars[0].aval.shape, results[0].views
    if name in PRODUCTS:
      resizes = any(each.known for each in operands)
      facts = _facts(equation, operands, views, resizes)
      if name == "dot_general":
        facts["stride"] = self._steps.get(order, (1, 1))
      key = scope if resizes else order
      if key in self._calls:
        self._calls[key].add(**facts)
      else:
        facts["name"] = self.paths[order]
        self._calls[key] = _Call(facts, views, -1 if resizes else order)
    elif name in POOLS:
      facts = _pool(equation) | {"name": self.paths[order], "shape": shape}
      self._calls[names] = _Call(facts, views, -1)
    elif name == "slice" and equation.params["strides"] and len(shape) == 4:
      self._steps[order] = equation.params["strides"][1:3]
    for key in (order, scope):
      if key in self._calls:
        self._calls[key].views, self._calls[key].facts["shape"] = views, shape

  def owned(self) -> list[int]:
    """The parameters of each layer and of what follows it."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      module = "/".join(key.key for key in path[:-1])
      counts[module] = counts.get(module, 0) + leaf.size
    calls, owned = self.calls, [0] * len(self._calls)
    for module, count in counts.items():
      order = self.paths.index(module) if module in self.paths else math.inf
      before = [i for i, call in enumerate(calls) if 0 <= call.order <= order]
      if calls:
        owned[max(before, key=lambda i: calls[i].order, default=0)] += count
    return owned


def _variables(network: nn.Module, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
  init = lambda *arrays: network.init(jax.random.key(0), *_filled(inputs, arrays), **options)
  with use_cpu_kernels(False):
    return jax.eval_shape(init, *filter(_is_array, inputs))


def _traced(
  network: nn.Module, variables: Any, inputs: Sequence[Any], options: Mapping[str, Any]
) -> _Trace:
  trace = _Trace(variables.get("params", {}))

  def apply(variables, *arrays):
    with nn.intercept_methods(trace.intercept):
      return network.apply(variables, *_filled(inputs, arrays), **options)

  arrays = list(filter(_is_array, inputs))
  with use_cpu_kernels(False):
    traced = jax.make_jaxpr(apply)(variables, *arrays)
  known = [Value()] * len(jax.tree.leaves(variables))
  known += [image(x.shape) if _is_image(x) else Value() for x in arrays]
  propagate(traced.jaxpr, traced.consts, known, trace.visit)
  return trace


def _is_array(x: Any) -> bool:
  return hasattr(x, "shape")


def _filled(inputs: Iterable[Any], arrays: Iterable[Any]) -> list[Any]:
  """The inputs with these arrays in place of their own."""
  given = iter(arrays)
  return [next(given) if _is_array(x) else x for x in inputs]


def _facts(
  equation: Any, operands: Sequence[Value], views: tuple[View, View], resizes: bool
) -> dict[str, Any]:
  """What an equation says of its layer."""
  facts = {"kernel": (), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
  left, right = (atom.aval.shape for atom in equation.invars)
  made, params = equation.outvars[0].aval, equation.params
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    local = any(each.views is None for each in operands) and not resizes
    facts |= {"kernel": (1, 1)} if local and len(made.shape) == 4 else {}
    products = made.size * math.prod(left[axis] for axis in contracted)
    return facts | {
      "kind": "resize" if resizes else "matmul",
      "shape": made.shape,
      "multiply_adds": products,
    }
  order, groups = params["dimension_numbers"], params["feature_group_count"]
  kernel = tuple(right[axis] for axis in order.rhs_spec[2:])
  kind = "conv"
  if groups > 1:
    kind = "depthwise" if groups == left[order.lhs_spec[1]] else "grouped conv"
  if max(params["lhs_dilation"]) > 1:
    kind = "transposed conv"
  products = made.shape[order.out_spec[0]] * made.shape[order.out_spec[1]]
  products *= right[order.rhs_spec[1]]
  for i, axis in enumerate(order.out_spec[2:]):
    products *= _taps(
      made.shape[axis],
      kernel[i],
      *(params[key][i] for key in ("window_strides", "rhs_dilation", "lhs_dilation", "padding")),
    )
  return facts | {
    "kind": "resize" if resizes else kind,
    "kernel": kernel,
    "stride": params["window_strides"],
    "dilation": params["rhs_dilation"],
    "groups": groups,
    "shape": made.shape,
    "multiply_adds": products,
  }


def _taps(
  size: int, kernel: int, stride: int, dilation: int, every: int, padding: tuple[int, int]
) -> int:
  """How many taps of all windows along an axis meet a pixel, or padding, and no zero between."""
  places = (stride * i + dilation * k - padding[0] for i in range(size) for k in range(kernel))
  return sum(place % every == 0 for place in places) if every > 1 else size * kernel


def _pool(equation: Any) -> dict[str, Any]:
  params = equation.params
  window = lambda key: tuple(params[key][1:3])
  return {
    "kind": POOLS[equation.primitive.name],
    "kernel": window("window_dimensions"),
    "stride": window("window_strides"),
    "dilation": window("window_dilation"),
    "groups": 1,
    "multiply_adds": 0,
  }
