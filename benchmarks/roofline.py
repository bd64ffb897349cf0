"""Finds what limits a training step: its operations by time, against what the device could do.

An operation takes at least as long as its bytes do at the rate at which a large array is changed,
and as its floating-point operations do at the rate of a large matrix product: its roof. Both rates
are measured first. The profiler gives the time of each operation of the compiled program, the mean
of several steps on a batch of noise; no data set is needed.

  ms       time of the operations of a step, on each device; on CPUs of all threads together.
  roof     sum of their roofs over that time: 1 where nothing could be faster.
  compute  part of the time in operations whose roof is that of floating-point operations, not of
           bytes.

Other work on the machine makes times too long. On CPUs small arrays stay in the cache, and can be
faster than a roof of memory says.

  taskset -c 0 python benchmarks/roofline.py --config=scenes:asm
  python benchmarks/roofline.py --config=voc:asm@deeplab_v3_resnet50 --device=gpu
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
# Operations that a GPU takes as one graph have no times of their own.
os.environ.setdefault("XLA_FLAGS", "--xla_gpu_enable_command_buffer=")

import collections
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from asmjax.cli import config_flag
from benchmarks.abstract_step import lower_step
from benchmarks.harness import record_ratio, use_device, wait_for
from benchmarks.hlo import CONTROL, Operation, read_operations

config_flag.define_flags()
_STEPS = flags.DEFINE_integer("steps", 5, "profiled steps, after two that are not", lower_bound=1)
_COUNT = flags.DEFINE_integer("count", 10, "operations to list, the longest first", lower_bound=0)
_DEVICE = flags.DEFINE_enum("device", None, ["cpu", "gpu"], "JAX's own by default")
_SIDE = {"cpu": 2048, "gpu": 8192}  # Of the matrices: a product is long beside its start.


@dataclasses.dataclass(frozen=True)
class Peak:
  """What a device reaches where nothing else limits it: operations and bytes a second."""

  flops: float
  bytes: float

  def roof(self, operation: Operation) -> float:
    """Returns the fewest seconds that an operation can take."""
    return max(operation.flops / self.flops, operation.bytes / self.bytes)

  def is_compute_bound(self, operation: Operation) -> bool:
    """Returns whether floating-point operations take an operation longer than its bytes."""
    return operation.flops / self.flops > operation.bytes / self.bytes


def measure_peak(dtype: str) -> Peak:
  """Measures the product of large matrices, and the change of a large array in its place."""
  side = _SIDE["gpu" if jax.default_backend() == "gpu" else "cpu"]
  matrix, array = jnp.ones((side, side), dtype), jnp.ones(16 * side * side, jnp.float32)
  product = _time_best(jax.jit(lambda x: x @ x * (1 / side), donate_argnums=0), matrix)
  change = _time_best(jax.jit(lambda x: x * 0.5, donate_argnums=0), array)
  return Peak(flops=2 * side**3 / product, bytes=2 * array.nbytes / change)


def _time_best(function: Callable[[Any], Any], value: Any, rounds: int = 7) -> float:
  """Returns the least seconds of a call, each on the result of the one before."""
  seconds = []
  for _ in range(rounds):
    start = time.perf_counter()
    value = function(value)
    wait_for(value)
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def profile(run: Callable[[], Any], steps: int) -> dict[str, float]:
  """Returns the seconds of a step by name of the operation, on one device.

  Raises:
    RuntimeError: The profiler saw no operation.
  """
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(steps):
        result = run()
      wait_for(result)
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    seconds: dict[str, float] = collections.defaultdict(float)
    for line in _find_lines(jax.profiler.ProfileData.from_file(str(path))):
      for event in line.events:
        if name := dict(event.stats).get("hlo_op"):
          seconds[str(name)] += 1e-9 * event.duration_ns / steps / jax.local_device_count()
  if not seconds:
    raise RuntimeError(f"the profile of {steps} steps names no operation (`hlo_op`)")
  return seconds


def _find_lines(data: jax.profiler.ProfileData) -> Iterator[Any]:
  """Yields the lines with operations: threads, or a GPU's streams, which other lines repeat."""
  on_gpu = jax.default_backend() == "gpu"
  for plane in data.planes:
    if plane.name.startswith("/device:GPU") == on_gpu:
      yield from (line for line in plane.lines if not on_gpu or line.name.startswith("Stream"))


@dataclasses.dataclass(frozen=True)
class Row:
  """Line of the table: operations that are counted together, with the seconds of each."""

  label: str
  operations: Sequence[tuple[Operation, float]]

  @property
  def seconds(self) -> float:
    """Seconds of all operations."""
    return sum(seconds for _, seconds in self.operations)

  def measure_roof(self, peak: Peak) -> float:
    """Returns the fewest seconds that all can take over those that they take."""
    return sum(peak.roof(operation) for operation, _ in self.operations) / self.seconds

  def format(self, peak: Peak, whole: float) -> str:
    """Formats the line; `whole` is the seconds of the complete step."""
    compute = sum(seconds for op, seconds in self.operations if peak.is_compute_bound(op))
    cells = (
      f"{1e3 * self.seconds:9.2f}",
      f"{self.seconds / whole:7.2f}",
      f"{1e-9 * sum(op.flops for op, _ in self.operations):9.2f}",
      f"{1e-9 * sum(op.bytes for op, _ in self.operations):9.3f}",
      f"{self.measure_roof(peak):7.2f}",
      f"{compute / self.seconds:9.2f}",
    )
    return "".join(cells) + f"  {self.label}"


HEAD = "       ms  share    GFLOP       GB   roof  compute"


def make_rows(
  seconds: Mapping[str, float], operations: Mapping[str, Operation], count: int
) -> list[Row]:
  """Returns a row for all operations, one for each kind, and one for each of the longest.

  What the profiler saw and the program does not name is a kind of its own.
  """
  unnamed = Operation("not in the program", 0, 0, "")
  pairs = [(operations.get(name, unnamed), s) for name, s in seconds.items()]
  pairs = sorted((p for p in pairs if p[0].kind != CONTROL), key=lambda p: p[1], reverse=True)
  kinds = dict.fromkeys(operation.kind for operation, _ in pairs)
  by_kind = [Row(kind, [p for p in pairs if p[0].kind == kind]) for kind in kinds]
  by_kind.sort(key=lambda row: row.seconds, reverse=True)
  longest = [Row(f"{p[0].kind}: {p[0].description}", [p]) for p in pairs[:count]]
  return [Row("all", pairs), *by_kind, *longest]


def main(arguments: list[str]) -> None:
  """Measures the peaks, profiles the step, and prints the table."""
  logging.set_verbosity(logging.ERROR)
  use_device(_DEVICE.value)
  config = config_flag.read_config(arguments)
  name, dtype = flags.FLAGS.config, config.train.dtype
  peak = measure_peak(dtype)
  step = lower_step(config)
  compiled = step.lowered.compile()
  carry, batch = step.draw_inputs()

  def take_step() -> Any:
    nonlocal carry
    carry, reports = compiled(carry, batch)
    return reports

  for _ in range(2):
    wait_for(take_step())
  seconds = profile(take_step, _STEPS.value)
  rows = make_rows(seconds, read_operations(compiled.as_text() or ""), _COUNT.value)
  height, width = step.size
  print(f"{name}, {height}x{width}, batch {step.batch_size}, on {jax.devices()[0].device_kind}")
  print(f"peaks: {1e-9 * peak.flops:.0f} GFLOP/s ({dtype}), {1e-9 * peak.bytes:.0f} GB/s")
  print(HEAD)
  for row in rows:
    print(row.format(peak, rows[0].seconds))
  record_ratio(f"step of {name}: roof / time", rows[0].measure_roof(peak))


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
