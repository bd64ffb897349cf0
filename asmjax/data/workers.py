"""Threads and processes that read examples: who is lost or hangs is named, and no process is left.

A table that all of them write to has, of each, the example that it is reading.
"""

import contextlib
import itertools
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

# Index of this process among the reader processes of its parent.
_index = 0


class ReadingTable:
  """Table of the positions that are being read, in memory that reader processes share."""

  def __init__(self, num_workers: int, num_threads: int):
    """Makes an empty table.

    Args:
      num_workers: Number of reader processes; 0 if the threads of this process read.
      num_threads: Number of threads in each process.
    """
    self.num_workers = num_workers
    # Of each process its id, and of each of its threads the position plus 1, or 0.
    self._shape = (max(num_workers, 1), 1 + max(num_threads, 1))
    self._memory = None
    if num_workers:
      _start_quiet_tracker()
      self._memory = SharedMemory(create=True, size=8 * math.prod(self._shape))
    self._open()
    self._rows[:] = 0

  def _open(self) -> None:
    self._rows = np.ndarray(self._shape, np.int64, self._memory.buf if self._memory else None)
    self._threads, self._slots = threading.local(), itertools.count()

  def __getstate__(self) -> dict[str, Any]:
    return {key: self.__dict__[key] for key in ("num_workers", "_shape", "_memory")}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__ |= state
    self._open()

  def start_worker(self, index: int, count: int) -> None:
    """Begins the work of a reader process, which ends when its parent does, however that ends."""
    del count
    global _index
    _index = index
    self._rows[index, 0] = os.getpid()
    threading.Thread(target=_end_with_parent, daemon=True).start()

  @contextlib.contextmanager
  def reading(self, position: int) -> Iterator[None]:
    """Notes that this thread reads a position."""
    if not hasattr(self._threads, "slot"):
      self._threads.slot = 1 + next(self._slots) % (self._shape[1] - 1)
    self._rows[_index, self._threads.slot] = position + 1
    try:
      yield
    finally:
      self._rows[_index, self._threads.slot] = 0

  def process(self, index: int) -> int:
    """Returns the id of a reader process; 0 if it has not begun."""
    return int(self._rows[index, 0])

  def first_position(self, index: int) -> int | None:
    """Returns the first position that a process is reading; None if it reads nothing."""
    positions = self._rows[index, 1:][self._rows[index, 1:] > 0]
    return int(positions.min()) - 1 if positions.size else None

  def close(self) -> None:
    """Frees the shared memory."""
    del self._rows
    if self._memory:
      self._memory.close()
      self._memory.unlink()


def _start_quiet_tracker() -> None:
  """Starts Python's tracker, which frees the memory of killed processes, without its warnings.

  It lists what it frees, in hundreds of lines that nobody can do anything about.
  """
  sys.warnoptions.append("ignore:resource_tracker")
  try:
    resource_tracker.ensure_running()
  finally:
    sys.warnoptions.remove("ignore:resource_tracker")


def _end_with_parent() -> None:
  """Ends this process when its parent has ended, which then has no use for what it reads."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
  """Watchdog over the readers of a loader, which warns of a batch that does not come.

  Attributes:
    table: Table of what is being read.
  """

  def __init__(
    self, table: ReadingTable, describe: Callable[[int], str], *, warn_after: float, timeout: float
  ):
    """Starts to watch.

    Args:
      table: Table of what is being read.
      describe: Function from a position to the name of its example.
      warn_after: Seconds without a batch after which to warn; 0 for never.
      timeout: Seconds without a batch after which to kill the process that is waited for; 0 for
        never. Threads of this process cannot be ended.
    """
    self.table = table
    self._describe, self._warn_after, self._timeout = describe, warn_after, timeout
    self._num_batches, self._since, self._lapsed = 0, 0.0, False
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Watches over waiting for the next batch.

    Raises:
      ChildProcessError: The reader process that is waited for was killed, or took too long.
    """
    self._since = time.monotonic()
    try:
      yield
    except RuntimeError as error:
      code = re.search(r"Worker process was terminated.* exit code (-?\d+)", str(error))
      if not code:
        raise
      raise ChildProcessError(self._describe_end(int(code[1]))) from error
    finally:
      self._since = 0.0
    self._num_batches += 1

  def close(self) -> None:
    """Ends the watch, and frees the table."""
    self._closed.set()
    self._thread.join()
    self.table.close()

  @property
  def _worker(self) -> int:
    """Index of the process that is to give the next batch; they take turns."""
    return self._num_batches % max(self.table.num_workers, 1)

  def _watch(self) -> None:
    limits = [limit for limit in (self._warn_after, self._timeout) if limit]
    warned = 0.0
    while limits and not self._closed.wait(min(1.0, *limits) / 4):
      since = self._since
      if not since:
        continue
      waited = time.monotonic() - since
      if self._warn_after and waited >= self._warn_after and warned != since:
        warned = since
        print(f"no batch for {waited:.0f} s: {self._name()}", file=sys.stderr, flush=True)
      if self._timeout and waited >= self._timeout and self.table.num_workers:
        if process := self.table.process(self._worker):
          self._lapsed = True
          with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

  def _name(self) -> str:
    """Names the reader that is waited for, and the example that it reads."""
    name = "the loader's threads"
    if self.table.num_workers:
      name = f"loader worker {self._worker} (process {self.table.process(self._worker)})"
    position = self.table.first_position(self._worker)
    return name if position is None else f"{name}, which reads {self._describe(position)}"

  def _describe_end(self, code: int) -> str:
    if self._lapsed:
      return (
        f"no batch for {self._timeout:g} s (data.loader.timeout) from {self._name()}; killed it"
      )
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"{self._name()} was ended {how}, perhaps for memory; the same command goes on"
