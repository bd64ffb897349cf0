"""Pool of processes that runs commands in parallel, each pinned to CPU cores or to a GPU."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

# Seconds that a process has to end after SIGTERM, before SIGKILL.
_GRACE = 10.0
# Seconds between checks of the processes.
_PERIOD = 0.1
# Number of lines of a failed job's log that are printed.
_TAIL = 15


@dataclasses.dataclass(frozen=True)
class Job:
  """Job of commands that run one after the other.

  Attributes:
    name: Name of the job in messages.
    kind: Kind of the job; jobs of the same kind are expected to take equally long.
    commands: Argument lists of the commands, as for `subprocess.Popen`.
    log: Path of the file that the commands' output is appended to.
    needs: Name of a job that must succeed before this one starts; empty, the default, for none.
    fds: File descriptors that the processes inherit; none by default.
  """

  name: str
  kind: str
  commands: tuple[tuple[str, ...], ...]
  log: pathlib.Path
  needs: str = ""
  fds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Slot:
  """Share of the machine for one job at a time.

  Attributes:
    cores: Ids of the CPU cores that the job's processes are pinned to; empty, the default, for no
      pinning.
    environment: Environment variables that are added to those of this process; none by default.
  """

  cores: tuple[int, ...] = ()
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Running:
  """Job that has been started."""

  job: Job
  slot: Slot
  began: float
  process: subprocess.Popen
  next_command: int = 1


class Pool:
  """Pool of slots that run jobs; a job that fails stops only the jobs that need it."""

  def __init__(
    self,
    slots: Sequence[Slot],
    *,
    say: Callable[[str], None] = print,
    on_end: Callable[[Job], None] = lambda job: None,
  ) -> None:
    """Creates the pool; starts no job.

    Args:
      slots: Slots, each for one job at a time.
      say: Function called with a line of progress for each job that starts or ends.
      on_end: Function called with each job that succeeds.
    """
    self._free = list(slots)
    self._num_slots = len(slots)
    self._say, self._on_end = say, on_end
    self._waiting: list[Job] = []
    self._running: list[_Running] = []
    self._seconds: dict[str, list[float]] = {}
    self._num_ended = self._num_jobs = 0

  def run(self, jobs: Sequence[Job], faults: dict[str, str]) -> None:
    """Runs all jobs, in order as far as slots and needs allow.

    Args:
      jobs: Jobs to run.
      faults: Error message by name of each job that has failed already, so that jobs that need it
        are not started. Jobs that fail are added.

    Raises:
      KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP was received, and all processes have ended.
    """
    self._waiting, self._num_jobs = list(jobs), len(jobs)
    with _interrupt_on_termination():
      try:
        while self._waiting or self._running:
          self._drop_blocked(faults)
          while self._free and (job := self._next_ready()):
            self._start(job, faults)
          self._reap(faults)
          time.sleep(_PERIOD)
      finally:
        self._stop()

  def _next_ready(self) -> Job | None:
    """Returns the first waiting job that needs no waiting or running job."""
    ahead = {job.name for job in self._waiting} | {run.job.name for run in self._running}
    return next((job for job in self._waiting if job.needs not in ahead), None)

  def _drop_blocked(self, faults: dict[str, str]) -> None:
    """Drops the waiting jobs that need a failed job, directly or through other jobs."""
    while job := next((job for job in self._waiting if job.needs in faults), None):
      self._waiting.remove(job)
      self._end(job, faults, f"not started, since {job.needs} failed")

  def _start(self, job: Job, faults: dict[str, str]) -> None:
    """Starts a job's first command in a free slot; one that cannot be started has failed."""
    self._waiting.remove(job)
    slot = self._free.pop(0)
    try:
      process = _launch(job, slot, job.commands[0])
    except OSError as error:
      self._free.append(slot)
      self._end(job, faults, str(error))
      return
    self._running.append(_Running(job, slot, time.monotonic(), process))
    self._say(f"{job.name} started ({len(self._running)} running, {len(self._waiting)} waiting)")

  def _reap(self, faults: dict[str, str]) -> None:
    """Starts the next command of jobs whose command has ended, or ends the job."""
    for run in list(self._running):
      job, code = run.job, run.process.poll()
      if code is None:
        continue
      seconds = time.monotonic() - run.began
      fault = None
      if code:
        reason = f"exit status {code}" if code > 0 else signal.Signals(-code).name
        fault = f"{reason} after {_format_duration(seconds)}; see {job.log}"
      elif run.next_command < len(job.commands):
        try:
          run.process = _launch(job, run.slot, job.commands[run.next_command])
        except OSError as error:
          fault = str(error)
        else:
          run.next_command += 1
          continue
      self._running.remove(run)
      self._free.insert(0, run.slot)
      if fault is None:
        self._seconds.setdefault(job.kind, []).append(seconds)
        self._on_end(job)
      self._end(job, faults, fault, seconds)

  def _end(self, job: Job, faults: dict[str, str], fault: str | None, seconds: float = 0.0) -> None:
    """Counts and reports a job that succeeded (`fault` is None) or failed."""
    self._num_ended += 1
    count = f"[{self._num_ended}/{self._num_jobs}]"
    if fault is not None:
      faults[job.name] = fault
      self._say(f"{count} {job.name} FAILED: {fault}")
    else:
      self._say(f"{count} {job.name} finished in {_format_duration(seconds)}{self._time_left()}")

  def _time_left(self) -> str:
    """Estimates the time left from the jobs of the same kind, or of all kinds, that have ended."""
    if not self._waiting and not self._running:
      return ""
    all_seconds = list(itertools.chain.from_iterable(self._seconds.values()))
    expected = lambda job: float(np.mean(self._seconds.get(job.kind, all_seconds)))
    now = time.monotonic()
    running = [max(expected(run.job) - (now - run.began), 0) for run in self._running]
    total = sum(map(expected, self._waiting)) + sum(running)
    return f", about {_format_duration(max([total / self._num_slots, *running]))} left"

  def _stop(self) -> None:
    """Ends all running jobs, with all of their processes."""
    for run in self._running:
      _signal(run.process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    for run in self._running:
      try:
        run.process.wait(max(deadline - time.monotonic(), 0))
      except subprocess.TimeoutExpired:
        _signal(run.process, signal.SIGKILL)
        run.process.wait()
    self._running.clear()


def file_size(path: pathlib.Path) -> int:
  """Returns the size of a file in bytes, 0 if the file does not exist."""
  return path.stat().st_size if path.exists() else 0


def tail(path: pathlib.Path, start: int = 0, lines: int = _TAIL) -> str:
  """Returns the last lines of a text file; empty if the file does not exist.

  Args:
    path: Path of the file; bytes that are no text are replaced.
    start: Number of bytes at the beginning of the file that are left out; 0 by default.
    lines: Number of lines; 15 by default.
  """
  if not path.exists():
    return ""
  text = path.read_bytes()[start:].decode(errors="replace")
  return "\n".join(text.splitlines()[-lines:])


def core_slots(jobs: int, threads: int) -> list[Slot]:
  """Creates slots that are pinned to disjoint sets of CPU cores.

  With one thread per slot, XLA's thread pool is turned off, since on one core it costs more time
  than it saves.

  Args:
    jobs: Number of slots; 0 for as many as the cores allow.
    threads: Number of cores of each slot; 0 divides the cores among `jobs`, or gives every slot one
      core if `jobs` is 0 too.

  Raises:
    ValueError: The slots need more cores than are available.
  """
  cores = available_cores()
  threads = threads or (max(len(cores) // jobs, 1) if jobs else 1)
  jobs = jobs or max(len(cores) // threads, 1)
  if jobs * threads > len(cores):
    raise ValueError(
      f"{jobs} jobs of {threads} threads need {jobs * threads} cores; available: {len(cores)}"
    )
  return [
    Slot(tuple(cores[start : start + threads]), _thread_environment(threads))
    for start in range(0, jobs * threads, threads)
  ]


def device_slots(jobs: int, devices: Sequence[str]) -> list[Slot]:
  """Creates slots that are distributed over the GPUs, and share the memory of a common GPU.

  Args:
    jobs: Number of slots.
    devices: Ids of the GPUs, as for `CUDA_VISIBLE_DEVICES`.
  """
  sharing = -(-jobs // len(devices))
  # By default JAX preallocates 0.75 of a GPU's memory in every process.  A tenth remains for
  # allocations outside of JAX's pool, such as CUDA contexts.
  memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.3f}"} if sharing > 1 else {}
  return [
    Slot(environment={"CUDA_VISIBLE_DEVICES": devices[index % len(devices)], **memory})
    for index in range(jobs)
  ]


def available_cores() -> list[int]:
  """Returns the ids of the CPU cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def _thread_environment(threads: int) -> dict[str, str]:
  """Returns the variables that limit the thread pools of NumPy's libraries and of XLA."""
  count = str(threads)
  pools = {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}
  if threads > 1:
    return pools
  given = os.environ.get("XLA_FLAGS", "")
  return {**pools, "XLA_FLAGS": f"{given} --xla_cpu_multi_thread_eigen=false".strip()}


def _launch(job: Job, slot: Slot, command: Sequence[str]) -> subprocess.Popen:
  """Starts a command in a process group of its own."""
  job.log.parent.mkdir(parents=True, exist_ok=True)
  with job.log.open("ab") as log:
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env={**os.environ, **slot.environment},
      process_group=0,
      pass_fds=job.fds,
    )
  if slot.cores and hasattr(os, "sched_setaffinity"):
    with contextlib.suppress(ProcessLookupError):  # The process has ended already.
      os.sched_setaffinity(process.pid, slot.cores)
  return process


def _signal(process: subprocess.Popen, number: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, number)


@contextlib.contextmanager
def _interrupt_on_termination() -> Iterator[None]:
  """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, unless they are ignored."""

  def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt

  numbers = (signal.SIGTERM, signal.SIGHUP)
  before = {number: signal.getsignal(number) for number in numbers}
  for number in numbers:
    if before[number] != signal.SIG_IGN:
      signal.signal(number, interrupt)
  try:
    yield
  finally:
    for number in numbers:
      signal.signal(number, before[number])


def _format_duration(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
