"""Which pixels of its inputs every value of a traced program can depend on.

Values are not computed. For every array and either axis of the image there is an interval of
pixels for each position, and it is propagated through the program: a convolution sees what any of
its taps sees, a sum of two maps what either sees. Intervals end at the borders of the image.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

# Of a value that sees nothing: lower than any end, however it is shifted.
NOTHING = -(2**30)

# So many intervals an array has at most; beyond, those of all its positions are joined.
MOST = 2**22

# Equations that do what the program within them does, and under which parameter it is.
CALLS = {"jit": "jaxpr", "remat2": "jaxpr"} | dict.fromkeys(
  ("custom_jvp_call", "custom_vjp_call"), "call_jaxpr"
)

# What multiplies and adds.
PRODUCTS = ("conv_general_dilated", "dot_general")

# Outputs have the shape of the input, but see more than the same place of it.
NOT_LOCAL = frozenset(
  ("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "fft", "sort", "scan", "while", "cond")
)

# From what is computed already, which it adds to, to a value.
Computation = Callable[[dict[object, Any]], Any]


class View(NamedTuple):
  """What the positions of an array see along one axis of the image.

  Attributes:
    ends: int32 (*shape, 2): minus the first and the last pixel; 1 in place of a side of the array
      along which they are the same.
    stride: pixels from one position to the next; infinite where there is only one.
  """

  ends: np.ndarray
  stride: Fraction | float

  @property
  def extent(self) -> int:
    """Pixels from the first to the last, of the position with most."""
    return int(max(self.ends.sum(-1).max() + 1, 0))


class Value(NamedTuple):
  """What is known of an array.

  Attributes:
    views: along the height and the width of the image; None if it depends on no image.
    known: computes it; None if it depends on an image or on a parameter.
  """

  views: tuple[View, View] | None = None
  known: Computation | None = None


def image(shape: Sequence[int]) -> Value:
  """An input (n, h, w, c), of which each position sees its own pixel."""
  ends = []
  for axis in (1, 2):
    places = np.arange(shape[axis], dtype=np.int32)
    ends.append(
      np.stack([-places, places], -1).reshape(
        [shape[i] if i == axis else 1 for i in range(4)] + [2]
      )
    )
  return Value(tuple(View(each, Fraction(1)) for each in ends))


def propagate(
  jaxpr: Any,
  constants: Sequence[Any],
  inputs: Sequence[Value],
  visit: Callable[[Any, Sequence[Value], Sequence[Value], str, str], None],
  scope: str = "",
) -> list[Value]:
  """Follows a program.

  Args:
    jaxpr: the program.
    constants: of the program.
    inputs: what is known of its arguments.
    visit: called after each equation with it, its operands and results, the names of the scopes
      that it stands in, and `scope`. A call is visited after the equations within it.
    scope: names of the scopes that the program stands in, different for each call.

  Returns:
    What is known of its results.

  Raises:
    ValueError: a loop or a branch holds convolutions or matrix products.
  """
  values = dict(zip(jaxpr.constvars, map(_constant, constants), strict=True))
  values |= dict(zip(jaxpr.invars, inputs, strict=True))
  read = lambda atom: _constant(atom.val) if hasattr(atom, "val") else values[atom]
  for i, equation in enumerate(jaxpr.eqns):
    operands, name = [read(atom) for atom in equation.invars], equation.primitive.name
    names = f"{scope}/{i}/{equation.source_info.name_stack}"
    if name in CALLS:
      inner = equation.params[CALLS[name]]
      inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
      results = propagate(inner, consts, operands, visit, names)
    else:
      _check_no_products_within(equation)
      results = _results(equation, operands)
    visit(equation, operands, results, names, scope)
    values |= dict(zip(equation.outvars, results, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _check_no_products_within(equation: Any) -> None:
  leaves = jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns"))
  inner = " ".join(str(leaf) for leaf in leaves if hasattr(leaf, "eqns"))
  if any(f"{name}[" in inner for name in PRODUCTS):
    raise ValueError(
      f"a {equation.primitive.name} holds convolutions or matrix products; expected all of them "
      "outside of loops and branches"
    )


def _constant(value: Any) -> Value:
  return Value(known=lambda computed: value)


def _results(equation: Any, operands: Sequence[Value]) -> list[Value]:
  if all(each.known for each in operands):
    return [
      Value(known=known) for known in _computations(equation, [each.known for each in operands])
    ]
  if all(each.views is None for each in operands):
    return [Value()] * len(equation.outvars)
  rule = RULES.get(equation.primitive.name, _other)
  if rule is _product:
    rule = functools.partial(_product, operands=operands)
  axes = [rule(equation, [each.views and each.views[axis] for each in operands]) for axis in (0, 1)]
  return [Value(pair) for pair in zip(*axes, strict=True)]


def _computations(equation: Any, operands: Sequence[Computation]) -> list[Computation]:
  key = object()

  def compute(computed, i):
    if key not in computed:
      values = [operand(computed) for operand in operands]
      results = equation.primitive.bind(*values, **equation.params)
      computed[key] = results if equation.primitive.multiple_results else [results]
    return computed[key][i]

  return [functools.partial(compute, i=i) for i in range(len(equation.outvars))]


# Every rule takes an equation and the views of its operands, None for those that see nothing, and
# returns those of its results.


def _other(equation: Any, views: Sequence[View | None]) -> list[View]:
  """Of results like the operands each position sees what it sees there; others see everything."""
  shapes = [atom.aval.shape for atom in equation.invars if atom.aval.shape]
  made = {out.aval.shape for out in equation.outvars}
  alike = len({len(shape) for shape in shapes}) == 1 and made == {np.broadcast_shapes(*shapes)}
  if alike and equation.primitive.name not in NOT_LOCAL:
    return [_joined(views, len(out.aval.shape)) for out in equation.outvars]
  ends = np.max([view.ends.reshape(-1, 2).max(0) for view in views if view], 0)
  return [View(ends.reshape([1] * len(out.aval.shape) + [2]), math.inf) for out in equation.outvars]


def _joined(views: Sequence[View | None], rank: int) -> View:
  ends = [
    view.ends if view.ends.ndim == rank + 1 else view.ends.reshape([1] * rank + [2])
    for view in views
    if view
  ]
  return View(functools.reduce(np.maximum, ends), min(view.stride for view in views if view))


def _reshaped(equation: Any, views: Sequence[View | None]) -> list[View]:
  """Sides that are joined or split are told apart; the others stay as they are."""
  ends, stride = views[0]
  old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  wanted, full, given = [], list(ends.shape[:-1]), ends.shape[:-1]
  for before, after in _groups(old, new):
    if all(given[i] == 1 for i in before):
      wanted += [1] * len(after)
      continue
    for i in before:
      full[i] = old[i]
    wanted += [new[i] for i in after]
    longest = [
      max((shape[i] for i in part), default=1) for shape, part in ((old, before), (new, after))
    ]
    stride = stride * Fraction(*longest)
  if math.prod(full) > MOST:
    return [View(ends.reshape(-1, 2).max(0).reshape([1] * len(new) + [2]), math.inf)]
  return [View(np.broadcast_to(ends, (*full, 2)).reshape(*wanted, 2), stride)]


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
  """Runs of axes of two shapes that hold the same values."""
  groups, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    first = i, j
    i, j = min(i + 1, len(old)), min(j + 1, len(new))
    while (before := math.prod(old[first[0] : i])) != (after := math.prod(new[first[1] : j])):
      i, j = (i + 1, j) if before < after else (i, j + 1)
    groups.append((range(first[0], i), range(first[1], j)))
  return groups


def _broadcast(equation: Any, views: Sequence[View | None]) -> list[View]:
  shape = [1] * len(equation.params["shape"])
  for axis, size in zip(equation.params["broadcast_dimensions"], views[0].ends.shape, strict=False):
    shape[axis] = size
  return [View(views[0].ends.reshape(*shape, 2), views[0].stride)]


def _moved(move: Callable[[np.ndarray, Any], np.ndarray], parameter: str):
  """The rule of what only moves positions."""
  return lambda equation, views: [
    View(move(views[0].ends, equation.params[parameter]), views[0].stride)
  ]


def _sliced(equation: Any, views: Sequence[View | None]) -> list[View]:
  ends, stride = views[0]
  starts, stops = equation.params["start_indices"], equation.params["limit_indices"]
  steps = equation.params["strides"] or (1,) * len(starts)
  for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
    if ends.shape[axis] > 1:
      ends, stride = _part(ends, axis, start, stop, step), stride * step
  return [View(ends, stride)]


def _split(equation: Any, views: Sequence[View | None]) -> list[View]:
  ends, axis = views[0].ends, equation.params["axis"]
  stops = list(itertools.accumulate(equation.params["sizes"]))
  whole = ends.shape[axis] == 1
  return [
    View(ends if whole else _part(ends, axis, start, stop), views[0].stride)
    for start, stop in zip([0, *stops], stops, strict=False)
  ]


def _part(ends: np.ndarray, axis: int, start: int, stop: int, step: int = 1) -> np.ndarray:
  return ends[(slice(None),) * axis + (slice(start, stop, step),)]


def _concatenated(equation: Any, views: Sequence[View | None]) -> list[View]:
  axis = equation.params["dimension"]
  return [_along(views, axis, [atom.aval.shape[axis] for atom in equation.invars])]


def _stacked(equation: Any, views: Sequence[View | None]) -> list[View]:
  axis = equation.params["axis"]
  views = [view and View(np.expand_dims(view.ends, axis), view.stride) for view in views]
  return [_along(views, axis, [1] * len(views))]


def _along(views: Sequence[View | None], axis: int, sizes: Sequence[int]) -> View:
  """One after the other along an axis; told apart there unless all see the same."""
  joined = _joined(views, next(view for view in views if view).ends.ndim - 1)
  alike = all(view and view.ends.shape[axis] == 1 for view in views)
  if alike and all(np.array_equal(view.ends, views[0].ends) for view in views):
    return joined
  shape = list(joined.ends.shape)
  if math.prod(shape) // shape[axis] * sum(sizes) > MOST:
    return View(joined.ends.max(axis, keepdims=True), joined.stride)
  parts = []
  for view, shape[axis] in zip(views, sizes, strict=True):
    parts.append(np.broadcast_to(view.ends if view else np.int32(NOTHING), shape))
  return View(np.concatenate(parts, axis), joined.stride)


def _padded(equation: Any, views: Sequence[View | None]) -> list[View]:
  if views[0] is None:
    return _other(equation, views)
  ends, stride = views[0]
  for axis, padding in enumerate(equation.params["padding_config"]):
    low, high, within = map(int, padding)
    if ends.shape[axis] > 1:
      ends, stride = _spread(ends, axis, low, high, within + 1), stride / (within + 1)
  return [View(ends, stride)]


def _spread(ends: np.ndarray, axis: int, low: int, high: int, every: int) -> np.ndarray:
  """Moves positions `every` apart and pads, with what sees nothing; negative padding crops."""
  size = (ends.shape[axis] - 1) * every + 1
  shape = list(ends.shape)
  shape[axis] = max(low, 0) + size + max(high, 0)
  spread = np.full(shape, NOTHING, np.int32)
  _part(spread, axis, max(low, 0), max(low, 0) + size, every)[...] = ends
  return _part(spread, axis, max(-low, 0), shape[axis] - max(-high, 0))


def _window(
  view: View, axis: int, taps: int, step: int, dilation: int, padding: Sequence[int], every: int
) -> View:
  """A window of `taps`, slid along an axis by `step`."""
  if view.ends.shape[axis] == 1:
    return view
  ends, reach = _spread(view.ends, axis, *padding, every), (taps - 1) * dilation
  last = ends.shape[axis] - reach
  parts = (_part(ends, axis, k, last + k, step) for k in range(0, reach + 1, dilation))
  return View(functools.reduce(np.maximum, parts), view.stride * step / every)


def _pooled(equation: Any, views: Sequence[View | None]) -> list[View]:
  params, view = equation.params, views[0]
  for axis in range(len(params["window_dimensions"])):
    view = _window(
      view,
      axis,
      *(
        params[key][axis]
        for key in (
          "window_dimensions",
          "window_strides",
          "window_dilation",
          "padding",
          "base_dilation",
        )
      ),
    )
  return [view] * len(equation.outvars)


def _reduced(equation: Any, views: Sequence[View | None]) -> list[View]:
  axes = tuple(equation.params["axes"])
  view = _joined(views, len(equation.invars[0].aval.shape))
  stride = math.inf if any(view.ends.shape[axis] > 1 for axis in axes) else view.stride
  return [View(view.ends.max(axes), stride)] * len(equation.outvars)


def _convolved(equation: Any, views: Sequence[View | None]) -> list[View]:
  view, kernel = views
  if kernel is not None or equation.params["batch_group_count"] > 1:
    return _other(equation, views)
  params, order = equation.params, equation.params["dimension_numbers"]
  taps = [equation.invars[1].aval.shape[i] for i in order.rhs_spec[2:]]
  rank = len(order.lhs_spec)
  view = View(view.ends.transpose(*order.lhs_spec, rank), view.stride)
  for i in range(rank - 2):
    view = _window(
      view,
      2 + i,
      taps[i],
      params["window_strides"][i],
      params["rhs_dilation"][i],
      params["padding"][i],
      params["lhs_dilation"][i],
    )
  ends, groups = view.ends, params["feature_group_count"]
  if ends.shape[1] > 1:
    outputs = equation.outvars[0].aval.shape[order.out_spec[1]]
    ends = ends.reshape(ends.shape[0], groups, -1, *ends.shape[2:]).max(2)
    ends = ends if groups == 1 else ends.repeat(outputs // groups, 1)
  return [View(ends.transpose(*np.argsort(order.out_spec), rank), view.stride)]


def _product(equation: Any, views: Sequence[View | None], operands: Sequence[Value]) -> list[View]:
  """Of a product with a known matrix only what is not multiplied with 0 is seen."""
  contracted, batch = equation.params["dimension_numbers"]
  rank, seen = len(equation.outvars[0].aval.shape), []
  for side, other in ((0, 1), (1, 0)):
    if views[side] is None:
      continue
    (ends, stride), axes = views[side], tuple(contracted[side])
    free = [i for i in range(ends.ndim - 1) if i not in (*axes, *batch[side])]
    varies = any(ends.shape[axis] > 1 for axis in axes)
    beyond = [1] * (rank - len(batch[side]) - len(free))
    matrix = len(axes) == len(beyond) == 1 and ends.size == 2 * ends.shape[axes[0]]
    if varies and matrix and operands[other].known:
      weights = np.asarray(jax.jit(functools.partial(operands[other].known, {}))())
      weights = np.moveaxis(weights, contracted[other][0], 0)
      seen_by = np.where(weights[..., None] != 0, ends.reshape(-1, 1, 2), NOTHING).max(0)
      stride, beyond = stride * Fraction(*weights.shape), [weights.shape[1]]
      lead, own = [1] * len(batch[side]), [1] * len(free)
    else:
      stride = math.inf if varies else stride
      seen_by = ends.max(axes, keepdims=True).transpose(*batch[side], *free, *axes, ends.ndim - 1)
      lead, own = ([ends.shape[i] for i in part] for part in (batch[side], free))
    sides = (*own, *beyond) if side == 0 else (*beyond, *own)
    seen.append(View(seen_by.reshape(*lead, *sides, 2), stride))
  return [_joined(seen, rank)]


RULES = {
  "broadcast_in_dim": _broadcast,
  "concatenate": _concatenated,
  "conv_general_dilated": _convolved,
  "dot_general": _product,
  "pad": _padded,
  "reshape": _reshaped,
  "rev": _moved(np.flip, "dimensions"),
  "slice": _sliced,
  "split": _split,
  "stack": _stacked,
  "squeeze": _moved(lambda ends, axes: ends.squeeze(tuple(axes)), "dimensions"),
  "transpose": _moved(lambda ends, order: ends.transpose(*order, len(order)), "permutation"),
  **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _pooled),
  **dict.fromkeys(
    (
      "argmax",
      "argmin",
      "reduce_and",
      "reduce_max",
      "reduce_min",
      "reduce_or",
      "reduce_prod",
      "reduce_sum",
    ),
    _reduced,
  ),
}
