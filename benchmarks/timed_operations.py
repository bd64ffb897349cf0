"""Times of a compiled program's operations, by the profiler, beside their roofline bounds."""

import collections
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from benchmarks.harness import wait_for
from benchmarks.hlo import CONTROL, Operation


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
