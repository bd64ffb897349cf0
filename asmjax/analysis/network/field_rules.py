"""Rules by which receptive fields pass through the primitives of a traced program.

A rule takes an equation and the receptive fields of its operands along one axis of the image, None
for operands that depend on no image, and returns those of its results.
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

# Upper limit of the number of intervals of pairs of positions of two arrays.
MAX_PAIRS = 2**16

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


Fields = Sequence[ReceptiveField | None]


def propagate_fields(
  equation: Any, fields: Fields, computations: Sequence[Computation | None]
) -> list[ReceptiveField]:
  """Propagates receptive fields along one axis of the image through an equation.

  Args:
    equation: Equation of a traced program.
    fields: Field of each operand, at least one.
    computations: Computation of each operand that depends on neither images nor parameters.
  """
  name, first = equation.primitive.name, fields[0]
  if name == "dot_general":
    return [_multiply(equation, fields, computations)]
  if name in JOIN_RULES:
    return [JOIN_RULES[name](equation, fields)]
  if name in MAP_RULES and first and not any(fields[1:]):
    return MAP_RULES[name](equation, first)
  return _default(equation, fields)


def _default(equation: Any, fields: Fields) -> list[ReceptiveField]:
  """Joins fields position by position where shapes agree; other results depend on everything."""
  shapes = [atom.aval.shape for atom in equation.invars if atom.aval.shape]
  results = {out.aval.shape for out in equation.outvars}
  same_rank = len({len(shape) for shape in shapes}) == 1
  is_local = equation.primitive.name not in NOT_LOCAL
  if is_local and same_rank and results == {np.broadcast_shapes(*shapes)}:
    return [_join(fields, len(out.aval.shape)) for out in equation.outvars]
  joined = np.max([field.ends.reshape(-1, 2).max(0) for field in fields if field], 0)
  return [_uniform(joined, len(out.aval.shape)) for out in equation.outvars]


def _uniform(ends: np.ndarray, rank: int) -> ReceptiveField:
  """Returns the field of an array whose positions all depend on the interval `ends`, (2,)."""
  return ReceptiveField(ends.reshape([1] * rank + [2]), math.inf)


def _join(fields: Fields, rank: int) -> ReceptiveField:
  """Joins fields position by position; those of scalars hold at every position.

  Pairs of positions, as of queries and keys, have an interval each only if there are few of them.
  """
  ends = [
    field.ends if field.ends.ndim == rank + 1 else field.ends.reshape([1] * rank + [2])
    for field in fields
    if field
  ]
  shape = np.broadcast_shapes(*(part.shape for part in ends))
  if math.prod(shape) > MAX_INTERVALS:  # As of all pairs of queries and keys.
    return _uniform(np.max([part.reshape(-1, 2).max(0) for part in ends], 0), rank)
  stride = min(field.stride for field in fields if field)
  size = math.prod(np.broadcast_shapes(*(part.shape for part in ends)))
  if size > max(2 * MAX_PAIRS, *(part.size for part in ends)):
    return _uniform(np.max([part.reshape(-1, 2).max(0) for part in ends], 0), rank)
  return ReceptiveField(functools.reduce(np.maximum, ends), stride)


def _reshape(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  """Keeps an interval for each position of sides that are joined or split."""
  old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
  (ends, stride), sides = field, field.ends.shape[:-1]
  expanded, target = list(sides), []
  for before, after in _match_axes(old, new):
    if all(sides[i] == 1 for i in before):
      target += [1] * len(after)
      continue
    for i in before:
      expanded[i] = old[i]
    target += [new[i] for i in after]
    longest = [
      max((shape[i] for i in axes), default=1) for shape, axes in ((old, before), (new, after))
    ]
    stride = stride * Fraction(*longest)
  if math.prod(expanded) > MAX_INTERVALS:
    return [_uniform(ends.reshape(-1, 2).max(0), len(new))]
  return [ReceptiveField(np.broadcast_to(ends, (*expanded, 2)).reshape(*target, 2), stride)]


def _match_axes(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
  """Pairs runs of axes of two shapes that hold the same values."""
  pairs, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    first = i, j
    i, j = min(i + 1, len(old)), min(j + 1, len(new))
    while (before := math.prod(old[first[0] : i])) != (after := math.prod(new[first[1] : j])):
      i, j = (i + 1, j) if before < after else (i, j + 1)
    pairs.append((range(first[0], i), range(first[1], j)))
  return pairs


def _broadcast(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  sides = [1] * len(equation.params["shape"])
  for axis, side in zip(equation.params["broadcast_dimensions"], field.ends.shape, strict=False):
    sides[axis] = side
  return [ReceptiveField(field.ends.reshape(*sides, 2), field.stride)]


def _move_positions(move: Callable[[np.ndarray, Any], np.ndarray], parameter: str):
  """Returns the rule of a primitive that only moves positions."""
  return lambda equation, field: [
    ReceptiveField(move(field.ends, equation.params[parameter]), field.stride)
  ]


def _slice(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  ends, stride = field
  starts, stops = equation.params["start_indices"], equation.params["limit_indices"]
  steps = equation.params["strides"] or (1,) * len(starts)
  for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
    if ends.shape[axis] > 1:
      ends, stride = _slice_axis(ends, axis, start, stop, step), stride * step
  return [ReceptiveField(ends, stride)]


def _slice_axis(ends: np.ndarray, axis: int, start: int, stop: int, step: int = 1) -> np.ndarray:
  return ends[(slice(None),) * axis + (slice(start, stop, step),)]


def _split(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  sizes, axis = equation.params["sizes"], equation.params["axis"]
  if field.ends.shape[axis] == 1:
    return [field] * len(sizes)
  parts = np.split(field.ends, list(itertools.accumulate(sizes))[:-1], axis)
  return [ReceptiveField(part, field.stride) for part in parts]


def _concatenate(equation: Any, fields: Fields) -> ReceptiveField:
  axis = equation.params["dimension"]
  return _concatenate_fields(fields, axis, [atom.aval.shape[axis] for atom in equation.invars])


def _stack(equation: Any, fields: Fields) -> ReceptiveField:
  axis = equation.params["axis"]
  expand = lambda field: ReceptiveField(np.expand_dims(field.ends, axis), field.stride)
  return _concatenate_fields([field and expand(field) for field in fields], axis, [1] * len(fields))


def _concatenate_fields(fields: Fields, axis: int, sizes: Sequence[int]) -> ReceptiveField:
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


def _pad(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  for axis, padding in enumerate(equation.params["padding_config"]):
    low, high, interior = map(int, padding)
    field = _slide_window(field, axis, 1, 1, 1, (low, high), interior + 1)
  return [field]


def _dilate(ends: np.ndarray, axis: int, low: int, high: int, dilation: int) -> np.ndarray:
  """Moves positions `dilation` apart and pads with empty intervals; negative padding crops."""
  size = (ends.shape[axis] - 1) * dilation + 1
  shape = list(ends.shape)
  shape[axis] = max(low, 0) + size + max(high, 0)
  dilated = np.full(shape, EMPTY, np.int32)
  _slice_axis(dilated, axis, max(low, 0), max(low, 0) + size, dilation)[...] = ends
  return _slice_axis(dilated, axis, max(-low, 0), shape[axis] - max(-high, 0))


def _slide_window(
  field: ReceptiveField,
  axis: int,
  taps: int,
  stride: int,
  dilation: int,
  padding: tuple[int, int],
  input_dilation: int,
) -> ReceptiveField:
  """Slides a window of `taps` along an axis; as a convolution and a pool do."""
  if field.ends.shape[axis] == 1:
    return field
  ends = _dilate(field.ends, axis, *padding, input_dilation)
  reach = (taps - 1) * dilation
  last = ends.shape[axis] - reach
  parts = (_slice_axis(ends, axis, k, last + k, stride) for k in range(0, reach + 1, dilation))
  return ReceptiveField(functools.reduce(np.maximum, parts), field.stride * stride / input_dilation)


def _pool(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  options = ("window_dimensions", "window_strides", "window_dilation", "padding", "base_dilation")
  windows = zip(*(equation.params[key] for key in options), strict=True)
  for axis, window in enumerate(windows):
    field = _slide_window(field, axis, *window)
  return [field] * len(equation.outvars)


def _reduce(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  axes = tuple(equation.params["axes"])
  is_total = any(field.ends.shape[axis] > 1 for axis in axes)
  stride = math.inf if is_total else field.stride
  return [ReceptiveField(field.ends.max(axes), stride)] * len(equation.outvars)


def _convolve(equation: Any, field: ReceptiveField) -> list[ReceptiveField]:
  params, order = equation.params, equation.params["dimension_numbers"]
  if params["batch_group_count"] > 1:
    return _default(equation, [field])
  taps = [equation.invars[1].aval.shape[i] for i in order.rhs_spec[2:]]
  options = ("window_strides", "rhs_dilation", "padding", "lhs_dilation")
  rank = len(order.lhs_spec)
  field = ReceptiveField(field.ends.transpose(*order.lhs_spec, rank), field.stride)
  windows = zip(taps, *(params[key] for key in options), strict=True)
  for axis, window in enumerate(windows, start=2):
    field = _slide_window(field, axis, *window)
  ends, groups = field.ends, params["feature_group_count"]
  if ends.shape[1] > 1:
    outputs = equation.outvars[0].aval.shape[order.out_spec[1]]
    ends = ends.reshape(ends.shape[0], groups, -1, *ends.shape[2:]).max(2)
    ends = ends if groups == 1 else ends.repeat(outputs // groups, 1)
  return [ReceptiveField(ends.transpose(*np.argsort(order.out_spec), rank), field.stride)]


def _multiply(
  equation: Any, fields: Fields, computations: Sequence[Computation | None]
) -> ReceptiveField:
  """Joins the fields of both operands of a product."""
  parts = [
    _multiply_operand(equation, i, field, computations[1 - i])
    for i, field in enumerate(fields)
    if field
  ]
  return _join(parts, len(equation.outvars[0].aval.shape))


def _multiply_operand(
  equation: Any, operand: int, field: ReceptiveField, compute: Computation | None
) -> ReceptiveField:
  """Joins all positions of an operand that are summed.

  If the other operand is a known matrix, as in a resize, positions with a weight of 0 are not.
  """
  contracted, batch = equation.params["dimension_numbers"]
  axes, leading = contracted[operand], batch[operand]
  (ends, stride), rank = field, len(equation.outvars[0].aval.shape)
  free = [i for i in range(ends.ndim - 1) if i not in (*axes, *leading)]
  sides = [ends.shape[i] for i in (*leading, *free)]
  beyond = [1] * (rank - len(sides))  # Sides of the other operand in the result.
  summed = ends.transpose(*leading, *free, *axes, ends.ndim - 1).reshape(*sides, -1, 2)
  is_matrix = len(equation.invars[1 - operand].aval.shape) == 2 and len(axes) == 1
  if summed.shape[-2] == 1:
    joined = summed
  elif compute is not None and is_matrix and math.prod(sides) == 1:
    weights = np.asarray(jax.jit(functools.partial(compute, {}))())
    weights = np.moveaxis(weights, contracted[1 - operand][0], 0)
    joined = np.where(weights[..., None] != 0, summed.reshape(-1, 1, 2), EMPTY).max(0)
    stride, beyond = stride * Fraction(*weights.shape), [weights.shape[1]]
  else:
    joined, stride = summed.max(-2), math.inf
  pair = (sides[len(leading) :], beyond)
  left, right = pair if operand == 0 else pair[::-1]
  return ReceptiveField(joined.reshape(*sides[: len(leading)], *left, *right, 2), stride)


# Rules for several operands that depend on the image.
JOIN_RULES = {"concatenate": _concatenate, "stack": _stack}

# Rules for a first operand that depends on the image where no other one does.
MAP_RULES = {
  "broadcast_in_dim": _broadcast,
  "conv_general_dilated": _convolve,
  "pad": _pad,
  "reshape": _reshape,
  "rev": _move_positions(np.flip, "dimensions"),
  "slice": _slice,
  "split": _split,
  "squeeze": _move_positions(lambda ends, axes: ends.squeeze(tuple(axes)), "dimensions"),
  "transpose": _move_positions(
    lambda ends, order: ends.transpose(*order, len(order)), "permutation"
  ),
  **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _pool),
  **dict.fromkeys(("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min"), _reduce),
  **dict.fromkeys(("reduce_or", "reduce_prod", "reduce_sum"), _reduce),
}
