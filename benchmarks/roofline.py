"""Finds what limits a training step: its operations by time, each against its roofline bound.

An operation takes at least as long as its bytes do at the memory bandwidth, and as its
floating-point operations do at the peak rate: the longer of both is its bound. Bandwidth and peak
are measured first, on a large array that is changed in its place and on a product of large
matrices. The profiler gives the time of each operation of the compiled program, the mean of several
steps on a batch of noise; no data set is needed.

  ms       time of the operations of a step, on each device.
  bound    sum of their bounds over that time: 1 where nothing could be faster.
  compute  part of the time in operations that the peak bounds, not the bandwidth.

On CPUs the process keeps to one core: the profiler does not say what several do for an operation.
Other work on the machine makes times too long; small arrays stay in the cache, and can be faster
than the bandwidth.

  python benchmarks/roofline.py --config=scenes:asm --device=cpu
  python benchmarks/roofline.py --config=voc:asm@deeplab_v3_resnet50 --device=gpu
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
# Operations that a GPU takes as one graph have no times of their own.
_FLAGS = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="
os.environ["XLA_FLAGS"] = _FLAGS.strip()

import collections
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from asmjax.cli import config_flag
from benchmarks.abstract_step import lower_step
from benchmarks.harness import (
  define_device_flag,
  limit_cores,
  record_ratio,
  time_in_turns,
  use_device,
  wait_for,
)
from benchmarks.hlo import CONTROL, Operation, read_operations

config_flag.define_flags()
_STEPS = flags.DEFINE_integer("steps", 5, "profiled steps, after two that are not", lower_bound=1)
_COUNT = flags.DEFINE_integer("count", 10, "operations to list, the longest first", lower_bound=0)
_DEVICE = define_device_flag()
_SIDE = {"cpu": 2048, "gpu": 8192}  # Of the matrices: a product is long beside its start.


@dataclasses.dataclass(frozen=True)
class Timed:
  """Operation with what the profiler saw of it in a step, on one device.

  Attributes:
    operation: What it does each time.
    seconds: Seconds of all times together.
    times: How often it ran; more than once in a loop.
  """

  operation: Operation
  seconds: float
  times: float

  @property
  def flops(self) -> float:
    """Floating-point operations of all times together."""
    return self.times * self.operation.flops

  @property
  def bytes(self) -> float:
    """Bytes of all times together."""
    return self.times * self.operation.bytes


@dataclasses.dataclass(frozen=True)
class Peak:
  """What a device reaches where nothing else limits it: operations and bytes a second."""

  flops: float
  bytes: float

  def bound(self, timed: Timed) -> float:
    """Returns the fewest seconds that an operation can take."""
    return max(timed.flops / self.flops, timed.bytes / self.bytes)

  def is_compute_bound(self, timed: Timed) -> bool:
    """Returns whether floating-point operations take an operation longer than its bytes."""
    return timed.flops / self.flops > timed.bytes / self.bytes


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


def profile(run: Callable[[], Any], steps: int, devices: int = 1) -> dict[str, tuple[float, float]]:
  """Returns the seconds and the executions of a step by name of the operation, on each device.

  Raises:
    RuntimeError: The profiler saw no operation.
  """
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(steps):
        result = run()
      wait_for(result)
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    events: dict[str, list[float]] = collections.defaultdict(list)
    for line in _find_lines(jax.profiler.ProfileData.from_file(str(path))):
      for event in line.events:
        if name := dict(event.stats).get("hlo_op"):
          events[str(name)].append(1e-9 * event.duration_ns)
  if not events:
    raise RuntimeError(f"the profile of {steps} steps names no operation (`hlo_op`)")
  share = 1 / (steps * devices)
  return {name: (share * sum(times), share * len(times)) for name, times in events.items()}


def _find_lines(data: jax.profiler.ProfileData) -> Iterator[Any]:
  """Yields the lines with operations: threads, or a GPU's streams, which other lines repeat."""
  on_gpu = jax.default_backend() == "gpu"
  for plane in data.planes:
    if plane.name.startswith("/device:GPU") == on_gpu:
      yield from (line for line in plane.lines if not on_gpu or line.name.startswith("Stream"))


@dataclasses.dataclass(frozen=True)
class Row:
  """Line of the table: operations that are counted together."""

  label: str
  operations: Sequence[Timed]

  @property
  def seconds(self) -> float:
    """Seconds of all operations."""
    return sum(timed.seconds for timed in self.operations)

  def compare_bound(self, peak: Peak) -> float:
    """Returns the sum of the bounds over the seconds."""
    return sum(map(peak.bound, self.operations)) / self.seconds

  def format(self, peak: Peak, whole: float) -> str:
    """Formats the line; `whole` is the seconds of the complete step."""
    compute = sum(timed.seconds for timed in self.operations if peak.is_compute_bound(timed))
    cells = (
      f"{1e3 * self.seconds:9.2f}",
      f"{self.seconds / whole:7.2f}",
      f"{1e-9 * sum(timed.flops for timed in self.operations):9.2f}",
      f"{1e-9 * sum(timed.bytes for timed in self.operations):9.3f}",
      f"{self.compare_bound(peak):7.2f}",
      f"{compute / self.seconds:9.2f}",
    )
    return "".join(cells) + f"  {self.label}"


HEAD = "       ms  share    GFLOP       GB  bound  compute"


def make_rows(
  profiled: Mapping[str, tuple[float, float]], operations: Mapping[str, Operation], count: int
) -> list[Row]:
  """Returns a row for all operations, one for each kind, and one for each of the longest.

  What the profiler saw and the program does not name is a kind of its own.
  """
  unnamed = Operation("not in the program", 0, 0, "")
  every = [Timed(operations.get(name, unnamed), *values) for name, values in profiled.items()]
  every = [timed for timed in every if timed.operation.kind != CONTROL]
  every.sort(key=lambda timed: timed.seconds, reverse=True)
  by_kind: dict[str, list[Timed]] = collections.defaultdict(list)
  for timed in every:
    by_kind[timed.operation.kind].append(timed)
  kinds = [Row(kind, of_kind) for kind, of_kind in by_kind.items()]
  kinds.sort(key=lambda row: row.seconds, reverse=True)
  describe = lambda timed: f"{timed.operation.kind}: {timed.operation.description}"
  return [Row("all", every), *kinds, *(Row(describe(timed), [timed]) for timed in every[:count])]


def main(arguments: list[str]) -> None:
  """Measures the peaks, profiles the step, and prints the table."""
  logging.set_verbosity(logging.ERROR)
  if _DEVICE.value != "gpu":
    limit_cores(1)
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

  measured = time_in_turns({"step": take_step}, _STEPS.value, warm_ups=2)["step"]
  profiled = profile(take_step, _STEPS.value, jax.local_device_count())
  rows = make_rows(profiled, read_operations(compiled.as_text() or ""), _COUNT.value)
  everything, (height, width) = rows[0], step.size
  print(f"{name}, {height}x{width}, batch {step.batch_size}, on {jax.devices()[0].device_kind}")
  print(f"peaks: {1e-9 * peak.flops:.0f} GFLOP/s ({dtype}), {1e-9 * peak.bytes:.0f} GB/s")
  ratio = everything.seconds / np.median(measured)
  print(f"operations / step without the profiler: {ratio:.2f}")
  print(HEAD)
  for row in rows:
    print(row.format(peak, everything.seconds))
  record_ratio(f"step of {name}: roofline bound / time", everything.compare_bound(peak))


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
