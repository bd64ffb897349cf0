"""Receptive fields: the pixels that every value of a traced program can depend on.

Values are not computed. For every array and either axis of the image there is an interval of
pixels for each position, and it is propagated through the program: that of a convolution's output
joins those of all its taps, that of a sum those of its terms. Intervals end at the borders of the
image. Formulas for a chain of layers (Araujo et al. 2019, "Computing Receptive Fields of
Convolutional Neural Networks") do not cover skips, resizes, crops and means over cells.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

# End of an empty interval: lower than any other, however it is shifted.
EMPTY = -(2**30)

# Upper limit of the number of intervals of an array, 32 MiB of them; beyond it the intervals of all
# positions are joined into one.
MAX_INTERVALS = 2**22

# Equations that call an inner program, and the parameter that holds it.
CALLS = {"jit": "jaxpr", "remat2": "jaxpr"} | dict.fromkeys(
  ("custom_jvp_call", "custom_vjp_call"), "call_jaxpr"
)

# Primitives that multiply and add.
PRODUCTS = ("conv_general_dilated", "dot_general")

# Primitives whose outputs have the shape of the input, but depend on more than the same position.
NOT_LOCAL = frozenset(
  ("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "fft", "sort", "scan", "while", "cond")
)

# Function from a cache of results, which it adds to, to the value of an array.
Computation = Callable[[dict[object, Any]], Any]


class ReceptiveField(NamedTuple):
  """Receptive fields of the positions of an array along one axis of the image.

  Attributes:
    ends: Array of int32 (*shape, 2): minus the first pixel, and the last pixel; the shape has 1 in
      place of a side of the array along which they are the same. So the maximum joins intervals.
    stride: Pixels from one position to the next; infinite where there is only one.
  """

  ends: np.ndarray
  stride: Fraction | float

  @property
  def extent(self) -> int:
    """Pixels from the first to the last, at the position with the largest field."""
    return int(max(self.ends.sum(-1).max() + 1, 0))


class Value(NamedTuple):
  """An array of the program, as far as it is known without images and parameters.

  Attributes:
    fields: Receptive fields along the height and the width; None if it depends on no image.
    compute: Computation of the array; None if it depends on an image or on a parameter.
  """

  fields: tuple[ReceptiveField, ReceptiveField] | None = None
  compute: Computation | None = None


def image(shape: Sequence[int]) -> Value:
  """Creates an input (n, h, w, c), whose positions depend on their own pixel alone."""

  def own_pixels(axis: int) -> ReceptiveField:
    pixels = np.arange(shape[axis], dtype=np.int32)
    sides = [shape[i] if i == axis else 1 for i in range(4)]
    return ReceptiveField(np.stack([-pixels, pixels], -1).reshape(*sides, 2), Fraction(1))

  return Value((own_pixels(1), own_pixels(2)))


def propagate(
  jaxpr: Any,
  constants: Sequence[Any],
  inputs: Sequence[Value],
  visit: Callable[[Any, Sequence[Value], Sequence[Value], str, str], None],
  scope: str = "",
) -> list[Value]:
  """Propagates receptive fields through a program.

  Args:
    jaxpr: Program.
    constants: Values of the program's constants.
    inputs: Arguments of the program.
    visit: Function that is called after each equation with it, its operands and results, the names
      of the scopes around it, and `scope`. A call is visited after the equations within it.
    scope: Names of the scopes around the program, different for each call.

  Returns:
    Results of the program.

  Raises:
    ValueError: A loop or a branch holds convolutions or matrix products.
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
      results = _propagate_equation(equation, operands)
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
  return Value(compute=lambda cache: value)


def _propagate_equation(equation: Any, operands: Sequence[Value]) -> list[Value]:
  computations = [operand.compute for operand in operands if operand.compute]
  if len(computations) == len(operands):
    return [Value(compute=compute) for compute in _compute_later(equation, computations)]
  if all(operand.fields is None for operand in operands):
    return [Value()] * len(equation.outvars)
  rule = RULES.get(equation.primitive.name, _default)
  if rule is _multiply:
    rule = functools.partial(_multiply, operands=operands)
  rows, columns = (
    rule(equation, [operand.fields and operand.fields[axis] for operand in operands])
    for axis in (0, 1)
  )
  return [Value(pair) for pair in zip(rows, columns, strict=True)]


def _compute_later(equation: Any, operands: Sequence[Computation]) -> list[Computation]:
  key = object()

  def compute(cache, i):
    if key not in cache:
      values = [operand(cache) for operand in operands]
      results = equation.primitive.bind(*values, **equation.params)
      cache[key] = results if equation.primitive.multiple_results else [results]
    return cache[key][i]

  return [functools.partial(compute, i=i) for i in range(len(equation.outvars))]


# Every rule takes an equation and the receptive fields of its operands, None for those that depend
# on no image, and returns those of its results.


def _single(fields: Sequence[ReceptiveField | None]) -> ReceptiveField:
  """Returns the field of the first operand, where only that one can depend on the image."""
  field = fields[0]
  if field is None:
    raise ValueError("an operand that depends on no image has no receptive field")
  return field


def _default(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  """Joins fields position by position where shapes agree; other results depend on everything."""
  shapes = [atom.aval.shape for atom in equation.invars if atom.aval.shape]
  results = {out.aval.shape for out in equation.outvars}
  alike = len({len(shape) for shape in shapes}) == 1 and results == {np.broadcast_shapes(*shapes)}
  if alike and equation.primitive.name not in NOT_LOCAL:
    return [_join(fields, len(out.aval.shape)) for out in equation.outvars]
  ends = np.max([field.ends.reshape(-1, 2).max(0) for field in fields if field], 0)
  return [
    ReceptiveField(ends.reshape([1] * len(out.aval.shape) + [2]), math.inf)
    for out in equation.outvars
  ]


def _join(fields: Sequence[ReceptiveField | None], rank: int) -> ReceptiveField:
  ends = [
    field.ends if field.ends.ndim == rank + 1 else field.ends.reshape([1] * rank + [2])
    for field in fields
    if field
  ]
  return ReceptiveField(
    functools.reduce(np.maximum, ends), min(field.stride for field in fields if field)
  )


def _reshape(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  """Keeps an interval for each position of sides that are joined or split."""
  ends, stride = _single(fields)
  old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  target, full, given = [], list(ends.shape[:-1]), ends.shape[:-1]
  for before, after in _groups(old, new):
    if all(given[i] == 1 for i in before):
      target += [1] * len(after)
      continue
    for i in before:
      full[i] = old[i]
    target += [new[i] for i in after]
    longest = [
      max((shape[i] for i in part), default=1) for shape, part in ((old, before), (new, after))
    ]
    stride = stride * Fraction(*longest)
  if math.prod(full) > MAX_INTERVALS:
    return [ReceptiveField(ends.reshape(-1, 2).max(0).reshape([1] * len(new) + [2]), math.inf)]
  return [ReceptiveField(np.broadcast_to(ends, (*full, 2)).reshape(*target, 2), stride)]


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
  """Pairs runs of axes of two shapes that hold the same values."""
  groups, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    first = i, j
    i, j = min(i + 1, len(old)), min(j + 1, len(new))
    while (before := math.prod(old[first[0] : i])) != (after := math.prod(new[first[1] : j])):
      i, j = (i + 1, j) if before < after else (i, j + 1)
    groups.append((range(first[0], i), range(first[1], j)))
  return groups


def _broadcast(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  (ends, stride), shape = _single(fields), [1] * len(equation.params["shape"])
  for axis, size in zip(equation.params["broadcast_dimensions"], ends.shape, strict=False):
    shape[axis] = size
  return [ReceptiveField(ends.reshape(*shape, 2), stride)]


def _move_positions(move: Callable[[np.ndarray, Any], np.ndarray], parameter: str):
  """Returns the rule of a primitive that only moves positions."""

  def rule(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
    ends, stride = _single(fields)
    return [ReceptiveField(move(ends, equation.params[parameter]), stride)]

  return rule


def _slice(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  ends, stride = _single(fields)
  starts, stops = equation.params["start_indices"], equation.params["limit_indices"]
  steps = equation.params["strides"] or (1,) * len(starts)
  for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
    if ends.shape[axis] > 1:
      ends, stride = _slice_axis(ends, axis, start, stop, step), stride * step
  return [ReceptiveField(ends, stride)]


def _split(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  (ends, stride), axis = _single(fields), equation.params["axis"]
  stops = list(itertools.accumulate(equation.params["sizes"]))
  uniform = ends.shape[axis] == 1
  return [
    ReceptiveField(ends if uniform else _slice_axis(ends, axis, start, stop), stride)
    for start, stop in zip([0, *stops], stops, strict=False)
  ]


def _slice_axis(ends: np.ndarray, axis: int, start: int, stop: int, step: int = 1) -> np.ndarray:
  return ends[(slice(None),) * axis + (slice(start, stop, step),)]


def _concatenate(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  axis = equation.params["dimension"]
  return [_concatenate_fields(fields, axis, [atom.aval.shape[axis] for atom in equation.invars])]


def _stack(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  axis = equation.params["axis"]
  fields = [
    field and ReceptiveField(np.expand_dims(field.ends, axis), field.stride) for field in fields
  ]
  return [_concatenate_fields(fields, axis, [1] * len(fields))]


def _concatenate_fields(
  fields: Sequence[ReceptiveField | None], axis: int, sizes: Sequence[int]
) -> ReceptiveField:
  """Concatenates fields along an axis, of size 1 if all of them are the same."""
  joined = _join(fields, next(field for field in fields if field).ends.ndim - 1)
  uniform = all(field and field.ends.shape[axis] == 1 for field in fields)
  if uniform and all(field and np.array_equal(field.ends, joined.ends) for field in fields):
    return joined
  shape = list(joined.ends.shape)
  if math.prod(shape) // shape[axis] * sum(sizes) > MAX_INTERVALS:
    return ReceptiveField(joined.ends.max(axis, keepdims=True), joined.stride)
  parts = []
  for field, shape[axis] in zip(fields, sizes, strict=True):
    parts.append(np.broadcast_to(field.ends if field else np.int32(EMPTY), shape))
  return ReceptiveField(np.concatenate(parts, axis), joined.stride)


def _pad(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  if fields[0] is None:
    return _default(equation, fields)
  ends, stride = _single(fields)
  for axis, padding in enumerate(equation.params["padding_config"]):
    low, high, within = map(int, padding)
    if ends.shape[axis] > 1:
      ends, stride = _spread(ends, axis, low, high, within + 1), stride / (within + 1)
  return [ReceptiveField(ends, stride)]


def _spread(ends: np.ndarray, axis: int, low: int, high: int, every: int) -> np.ndarray:
  """Moves positions `every` apart and pads with empty intervals; negative padding crops."""
  size = (ends.shape[axis] - 1) * every + 1
  shape = list(ends.shape)
  shape[axis] = max(low, 0) + size + max(high, 0)
  spread = np.full(shape, EMPTY, np.int32)
  _slice_axis(spread, axis, max(low, 0), max(low, 0) + size, every)[...] = ends
  return _slice_axis(spread, axis, max(-low, 0), shape[axis] - max(-high, 0))


def _slide_window(
  field: ReceptiveField,
  axis: int,
  taps: int,
  step: int,
  dilation: int,
  padding: Sequence[int],
  every: int,
) -> ReceptiveField:
  """Slides a window of `taps` along an axis by `step`."""
  if field.ends.shape[axis] == 1:
    return field
  (low, high), reach = padding, (taps - 1) * dilation
  ends = _spread(field.ends, axis, low, high, every)
  last = ends.shape[axis] - reach
  parts = (_slice_axis(ends, axis, k, last + k, step) for k in range(0, reach + 1, dilation))
  return ReceptiveField(functools.reduce(np.maximum, parts), field.stride * step / every)


def _pool(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  params, field = equation.params, _single(fields)
  for axis in range(len(params["window_dimensions"])):
    field = _slide_window(
      field,
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
  return [field] * len(equation.outvars)


def _reduce(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  axes = tuple(equation.params["axes"])
  field = _join(fields, len(equation.invars[0].aval.shape))
  stride = math.inf if any(field.ends.shape[axis] > 1 for axis in axes) else field.stride
  return [ReceptiveField(field.ends.max(axes), stride)] * len(equation.outvars)


def _convolve(equation: Any, fields: Sequence[ReceptiveField | None]) -> list[ReceptiveField]:
  field, kernel = fields
  if field is None or kernel is not None or equation.params["batch_group_count"] > 1:
    return _default(equation, fields)
  params, order = equation.params, equation.params["dimension_numbers"]
  taps = [equation.invars[1].aval.shape[i] for i in order.rhs_spec[2:]]
  rank = len(order.lhs_spec)
  field = ReceptiveField(field.ends.transpose(*order.lhs_spec, rank), field.stride)
  for i in range(rank - 2):
    field = _slide_window(
      field,
      2 + i,
      taps[i],
      params["window_strides"][i],
      params["rhs_dilation"][i],
      params["padding"][i],
      params["lhs_dilation"][i],
    )
  ends, groups = field.ends, params["feature_group_count"]
  if ends.shape[1] > 1:
    outputs = equation.outvars[0].aval.shape[order.out_spec[1]]
    ends = ends.reshape(ends.shape[0], groups, -1, *ends.shape[2:]).max(2)
    ends = ends if groups == 1 else ends.repeat(outputs // groups, 1)
  return [ReceptiveField(ends.transpose(*np.argsort(order.out_spec), rank), field.stride)]


def _multiply(
  equation: Any, fields: Sequence[ReceptiveField | None], operands: Sequence[Value]
) -> list[ReceptiveField]:
  """Joins the fields of all positions that are summed, in a known matrix those that are not 0."""
  contracted, batch = equation.params["dimension_numbers"]
  rank, parts = len(equation.outvars[0].aval.shape), []
  for side, other in ((0, 1), (1, 0)):
    field = fields[side]
    if field is None:
      continue
    (ends, stride), axes = field, tuple(contracted[side])
    free = [i for i in range(ends.ndim - 1) if i not in (*axes, *batch[side])]
    varies = any(ends.shape[axis] > 1 for axis in axes)
    beyond = [1] * (rank - len(batch[side]) - len(free))
    matrix = len(axes) == len(beyond) == 1 and ends.size == 2 * ends.shape[axes[0]]
    compute = operands[other].compute
    if varies and matrix and compute is not None:
      weights = np.asarray(jax.jit(functools.partial(compute, {}))())
      weights = np.moveaxis(weights, contracted[other][0], 0)
      joined = np.where(weights[..., None] != 0, ends.reshape(-1, 1, 2), EMPTY).max(0)
      stride, beyond = stride * Fraction(*weights.shape), [weights.shape[1]]
      lead, own = [1] * len(batch[side]), [1] * len(free)
    else:
      stride = math.inf if varies else stride
      joined = ends.max(axes, keepdims=True).transpose(*batch[side], *free, *axes, ends.ndim - 1)
      lead, own = ([ends.shape[i] for i in part] for part in (batch[side], free))
    sides = (*own, *beyond) if side == 0 else (*beyond, *own)
    parts.append(ReceptiveField(joined.reshape(*lead, *sides, 2), stride))
  return [_join(parts, rank)]


RULES = {
  "broadcast_in_dim": _broadcast,
  "concatenate": _concatenate,
  "conv_general_dilated": _convolve,
  "dot_general": _multiply,
  "pad": _pad,
  "reshape": _reshape,
  "rev": _move_positions(np.flip, "dimensions"),
  "slice": _slice,
  "split": _split,
  "stack": _stack,
  "squeeze": _move_positions(lambda ends, axes: ends.squeeze(tuple(axes)), "dimensions"),
  "transpose": _move_positions(
    lambda ends, order: ends.transpose(*order, len(order)), "permutation"
  ),
  **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _pool),
  **dict.fromkeys(("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min"), _reduce),
  **dict.fromkeys(("reduce_or", "reduce_prod", "reduce_sum"), _reduce),
}
