"""Receptive fields: the pixels that every value of a traced program can depend on.

Values are not computed. For every array and either axis of the image there is an interval of
pixels for each position, and it is propagated through the program: that of a convolution's output
joins those of all its taps, that of a sum those of its terms. Intervals end at the borders of the
image. Formulas for a chain of layers (Araujo et al. 2019, "Computing Receptive Fields of
Convolutional Neural Networks") do not cover skips, resizes, crops and means over cells; probing
with gradients or NaNs covers them, and the tests do so, but takes a pass for each row and column of
images much larger than the fields.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from asmjax.analysis.network.field_rules import Computation, ReceptiveField, propagate_fields
from asmjax.ops import use_cpu_kernels

# Equations that call an inner program, and the parameter that holds it.
CALLS = {"jit": "jaxpr", "remat2": "jaxpr"} | dict.fromkeys(
  ("custom_jvp_call", "custom_vjp_call"), "call_jaxpr"
)

# Primitives that multiply and add.
PRODUCTS = ("conv_general_dilated", "dot_general")


class Value(NamedTuple):
  """An array of the program, as far as it is known without images and parameters.

  Attributes:
    fields: Receptive fields along the height and the width; None if it depends on no image.
    compute: Computation of the array; None if it depends on an image or on a parameter.
  """

  fields: tuple[ReceptiveField, ReceptiveField] | None = None
  compute: Computation | None = None


# Function of an equation, its operands and results, the names of the scopes around it, and those
# around the program that it is in.
Visit = Callable[[Any, Sequence[Value], Sequence[Value], str, str], None]


def _image(shape: Sequence[int]) -> Value:
  """Creates an input (n, h, w, c), whose positions depend on their own pixel alone."""

  def own_pixels(axis: int) -> ReceptiveField:
    pixels = np.arange(shape[axis], dtype=np.int32)
    sides = [shape[i] if i == axis else 1 for i in range(4)]
    return ReceptiveField(np.stack([-pixels, pixels], -1).reshape(*sides, 2), Fraction(1))

  return Value((own_pixels(1), own_pixels(2)))


def trace_fields(
  function: Callable[..., Any],
  variables: Any,
  arrays: Sequence[jax.ShapeDtypeStruct],
  visit: Visit = lambda *_: None,
) -> tuple[list[Value], Any]:
  """Traces a function of variables and arrays, and propagates receptive fields through it.

  Args:
    function: Function `function(variables, *arrays)`.
    variables: Tree of arrays or their shapes, which depend on no image.
    arrays: Shapes of the arrays; those of four axes are images.
    visit: See `propagate`.

  Returns:
    Results as flat values, and the tree of their shapes.
  """
  with use_cpu_kernels(False):
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(variables, *arrays)
  inputs = [Value()] * len(jax.tree.leaves(variables))
  inputs += [_image(x.shape) if len(x.shape) == 4 else Value() for x in arrays]
  return propagate(traced.jaxpr, traced.consts, inputs, visit), shapes


def propagate(
  jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value], visit: Visit, scope: str = ""
) -> list[Value]:
  """Propagates receptive fields through a program.

  Args:
    jaxpr: Program.
    constants: Values of the program's constants.
    inputs: Arguments of the program.
    visit: Function that is called after each equation; a call follows the equations within it.
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
  rows, columns = (
    propagate_fields(
      equation,
      [operand.fields and operand.fields[axis] for operand in operands],
      [operand.compute for operand in operands],
    )
    for axis in (0, 1)
  )
  return [Value(pair) for pair in zip(rows, columns, strict=True)]


def _compute_later(equation: Any, operands: Sequence[Computation]) -> list[Computation]:
  """Returns the computations of an equation's results, which share one evaluation."""
  key = object()

  def compute(cache, i):
    if key not in cache:
      values = [operand(cache) for operand in operands]
      results = equation.primitive.bind(*values, **equation.params)
      cache[key] = results if equation.primitive.multiple_results else [results]
    return cache[key][i]

  return [functools.partial(compute, i=i) for i in range(len(equation.outvars))]
