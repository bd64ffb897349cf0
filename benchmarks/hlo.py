"""Floating-point operations and bytes of each instruction in the text of a compiled program."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

_BITS = {
  "pred": 8,
  "bf16": 16,
  **{f"{kind}{bits}": bits for kind in "su" for bits in (4, 8, 16, 32, 64)},
  **{f"f{bits}": bits for bits in (16, 32, 64)},
  **{f"c{bits}": bits for bits in (64, 128)},
}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
# What XLA computes as one kernel on CPUs, whose instructions have no times of their own.
_SMALL_CALL = 'xla_cpu_small_call="true"'

# Groups of instructions; a fusion belongs to the first that has one of its parts.
_KINDS: Mapping[str, frozenset[str]] = {
  "convolution": frozenset({"convolution"}),
  "matmul": frozenset({"dot"}),
  "gather, scatter, sort": frozenset({"gather", "scatter", "sort", "select-and-scatter"}),
  "collective": frozenset(
    {"all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"}
  ),
  "reduction": frozenset({"reduce", "reduce-window"}),
}
# What touches no memory.
_FREE = frozenset({"parameter", "constant", "bitcast", "tuple", "get-tuple-element"})
# What reads no more of its first operand than it returns.
_SLICES = frozenset({"slice", "dynamic-slice"})
_UPDATE = "dynamic-update-slice"
# What only moves numbers: a fusion of nothing else is a copy.
_MOVES = (
  _FREE
  | _SLICES
  | frozenset(
    {"copy", "transpose", "reshape", "broadcast", "concatenate", "pad", "reverse", "iota", _UPDATE}
  )
)
# What takes one operation for each number of its result; functions such as exp are left out.
_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "maximum", "minimum", "negate"})
# Kind of what runs instructions that are listed by themselves.
CONTROL = "control"
_CONTROL = frozenset({"while", "conditional", "call"})
# Instructions that calls of a GPU's libraries stand for.
_TARGETS = {
  "__cudnn$convForward": "convolution",
  "__cudnn$convBiasActivationForward": "convolution",
  "__cudnn$convBackwardInput": "convolution",
  "__cudnn$convBackwardFilter": "convolution",
  "__cublas$gemm": "dot",
  "__cublas$lt$matmul": "dot",
}


@dataclasses.dataclass(frozen=True)
class Operation:
  """What an instruction has to do.

  Attributes:
    kind: "convolution", "matmul", "reduction" or another group of instructions.
    flops: Floating-point operations: two for each product of a convolution or matmul, padding left
      out, and one for each sum, product, quotient or maximum of two numbers elsewhere. Functions
      such as exp, and reductions, are not counted.
    bytes: Bytes of all operands and results, once each; of an operand that is only sliced, no
      more than those of the slices.
    description: Arrays that it returns, and what in the code it comes from, where XLA knows.
  """

  kind: str
  flops: int
  bytes: int
  description: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
  """Line of a program.

  Attributes:
    result: Text of the shape that it returns.
    shapes: The arrays in it, as (type, sides).
    opcode: What it does.
    operands: Names of the instructions whose results it takes.
    attributes: Text behind the operands.
  """

  result: str
  shapes: Sequence[tuple[str, tuple[int, ...]]]
  opcode: str
  operands: Sequence[str]
  attributes: str

  @property
  def target(self) -> str:
    """Name of the library's function that a custom call stands for; empty for all others."""
    match = re.search(r'custom_call_target="([^"]*)"', self.attributes)
    return match[1] if match else ""


def read_operations(program: str) -> dict[str, Operation]:
  """Reads the cost of each instruction that runs by itself, by name.

  Args:
    program: Text of a compiled program, `compiled.as_text()`.

  Returns:
    Operations by name, each as often as it runs once: the body of a loop is there for one
    iteration. Loops, conditions and calls, of the kind `CONTROL`, cost nothing: the instructions
    that they run are there themselves.
  """
  computations = _read_computations(program)
  inner = {
    called
    for instructions in computations.values()
    for line in instructions.values()
    if not _runs_others(line)
    for called in _CALLED.findall(line.attributes)
  }
  return {
    name: _measure(line, instructions, computations)
    for computation, instructions in computations.items()
    if computation not in inner
    for name, line in instructions.items()
  }


_Computations = Mapping[str, Mapping[str, _Instruction]]


def _read_computations(program: str) -> _Computations:
  """Reads the instructions of each computation."""
  computations: dict[str, dict[str, _Instruction]] = {}
  for line in program.splitlines():
    if head := _COMPUTATION.match(line):
      computations[head[1]] = current = {}
    elif (match := _INSTRUCTION.match(line)) and computations:
      current[match[1]] = _read_instruction(match[2])
  return computations


def _read_instruction(text: str) -> _Instruction:
  """Reads what follows "name = ": the shapes, then the opcode, then operands in parentheses."""
  text = re.sub(r"/\*.*?\*/", "", text)
  end = _closing(text, 0) if text.startswith("(") else text.index(" ")
  shapes = [
    (kind, tuple(map(int, sides.split(","))) if sides else ())
    for kind, sides in _ARRAY.findall(text[:end])
  ]
  opcode, _, _ = text[end:].strip().partition("(")
  start = text.index("(", end)
  stop = _closing(text, start)
  operands = re.findall(r"%([\w.\-]+)", text[start:stop])
  return _Instruction(text[:end], shapes, opcode, operands, text[stop:])


def _closing(text: str, start: int) -> int:
  """Returns the index behind the parenthesis that closes the one at `start`."""
  depths = itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in text[start:])
  return start + 1 + next(i for i, depth in enumerate(depths) if depth == 0)


def _runs_others(line: _Instruction) -> bool:
  """Tells whether an instruction runs others that have times of their own."""
  return line.opcode in _CONTROL and _SMALL_CALL not in line.attributes


def _measure(
  line: _Instruction, scope: Mapping[str, _Instruction], computations: _Computations
) -> Operation:
  """Counts an instruction, with all that it fuses; `scope` has those of its computation."""
  if _runs_others(line):
    return Operation(CONTROL, 0, 0, line.result)
  parts = list(_list_parts(line, scope, computations))
  origin = re.search(r'op_name="([^"]*)"', line.attributes)
  return Operation(
    kind=_find_kind(part for part, _ in parts),
    flops=sum(_count_flops(*part) for part in parts),
    bytes=_count_moved(line, scope, computations),
    description=re.sub(r"{[^}]*}", "", line.result) + (f" {origin[1]}" if origin else ""),
  )


def _list_parts(
  line: _Instruction, scope: Mapping[str, _Instruction], computations: _Computations
) -> Iterator[tuple[_Instruction, Mapping[str, _Instruction]]]:
  """Yields an instruction, or all that it fuses, each with those of its own computation."""
  if line.opcode not in ("fusion", "call", "async-start"):
    yield line, scope
    return
  for name in _CALLED.findall(line.attributes):
    for part in computations[name].values():
      yield from _list_parts(part, computations[name], computations)


def _count_moved(
  line: _Instruction, scope: Mapping[str, _Instruction], computations: _Computations
) -> int:
  """Counts the bytes that an instruction reads and writes."""
  if line.opcode in _FREE or line.opcode.endswith("-done"):
    return 0
  operands = [scope[name] for name in dict.fromkeys(line.operands)]
  if line.opcode == _UPDATE:
    return 2 * _count_bytes(operands[1])
  if line.opcode in _SLICES:
    return 2 * _count_bytes(line)
  called = _CALLED.findall(line.attributes) if line.opcode == "fusion" else []
  if not called:
    return sum(map(_count_bytes, (line, *operands)))
  inner = computations[called[0]]
  root = list(inner.values())[-1]
  # An update is written in its place, and the rest of its array is not touched.
  written = _count_bytes(inner[root.operands[1]]) if root.opcode == _UPDATE else None
  read = 0
  for name, parameter in inner.items():
    if parameter.opcode != "parameter":
      continue
    users = [user for user in inner.values() if name in user.operands]
    if users and all(user.opcode in _SLICES for user in users):
      read += min(sum(map(_count_bytes, users)), _count_bytes(parameter))  # They may overlap.
    elif written is None or name != root.operands[0]:
      read += _count_bytes(parameter)
  return read + (_count_bytes(line) if written is None else written)


def _count_bytes(line: _Instruction) -> int:
  """Counts the bytes that an instruction returns; a type that is not a number's has none."""
  return sum(
    math.prod(sides) * (8 if kind.startswith("f8") else _BITS.get(kind, 0)) // 8
    for kind, sides in line.shapes
  )


def _find_kind(parts: Iterable[_Instruction]) -> str:
  """Returns the group that a fusion of these instructions belongs to."""
  opcodes = {
    _TARGETS.get(part.target, part.opcode).removesuffix("-start").removesuffix("-done")
    for part in parts
  }
  for kind, members in _KINDS.items():
    if opcodes & members:
      return kind
  return "copy" if opcodes <= _MOVES else "element-wise"


def _count_flops(line: _Instruction, scope: Mapping[str, _Instruction]) -> int:
  """Counts the floating-point operations of an instruction; see `Operation`."""
  opcode = _TARGETS.get(line.target, line.opcode)
  if opcode not in ("dot", "convolution", *_ARITHMETIC):
    return 0
  (kind, result), *_ = line.shapes
  if opcode in _ARITHMETIC:
    return math.prod(result) if "f" in kind else 0
  lhs, rhs = (scope[name].shapes[0][1] for name in line.operands[:2])
  if opcode == "dot":
    dims = re.search(r'lhs_contracting_dim(?:ensions"|s)[:=][\[{]([^\]}]*)', line.attributes)
    assert dims is not None, line.attributes
    return 2 * math.prod(result) * math.prod(lhs[int(i)] for i in re.findall(r"\d+", dims[1]))
  # What a library computes is always named after the forward convolution.
  if "BackwardInput" in line.target:
    result, lhs = lhs, result
  elif "BackwardFilter" in line.target:
    result, rhs = rhs, result
  return _count_convolution(line.attributes, lhs, rhs, result)


def _count_convolution(
  attributes: str, lhs: Sequence[int], rhs: Sequence[int], result: Sequence[int]
) -> int:
  """Counts the operations of a convolution, of which padding and holes are no part."""
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
  window = re.search(r"window={([^}]*)}", attributes)
  assert labels is not None, attributes
  settings = dict(part.split("=") for part in window[1].split()) if window else {}
  count = 2 * result[labels[3].index("b")] * result[labels[3].index("f")]
  count *= rhs[labels[2].index("i")]
  for i in range(len(lhs) - 2):
    numbers = {key: value.split("x")[i] for key, value in settings.items()}
    n, k, m = (
      sides[order.index(str(i))]
      for sides, order in zip((lhs, rhs, result), labels.groups(), strict=True)
    )
    stride, lhs_dilation, rhs_dilation = (
      int(numbers.get(key, 1)) for key in ("stride", "lhs_dilate", "rhs_dilate")
    )
    low = int(numbers.get("pad", "0_0").split("_")[0])
    read = np.arange(m)[:, None] * stride - low + np.arange(k) * rhs_dilation
    inside = (read >= 0) & (read <= (n - 1) * lhs_dilation) & (read % lhs_dilation == 0)
    count *= int(inside.sum())
  return count
