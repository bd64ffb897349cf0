"""Reader processes that are killed, that hang, and whose parent is killed."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from asmjax.cli.errors import Status, describe_failure
from tests.helpers import worker_source
from tests.helpers.worker_source import read, table_of

# Long enough for a process to start on a busy machine.
PATIENCE = 60


def is_alive(process):
  """Whether a process runs; one that its parent has not waited for does not."""
  with contextlib.suppress(FileNotFoundError, ProcessLookupError):
    return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  return False


def wait_until(condition):
  end = time.monotonic() + PATIENCE
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_train_batches_name_a_worker_that_was_killed():
  with contextlib.closing(read(num_workers=1, slow=(9,))) as batches:
    first = [next(batches)["image"][:, 0, 0, 0].tolist() for _ in range(4)]
    assert first == [[0, 1], [2, 3], [4, 5], [6, 7]]
    process = table_of(batches).process(0)
    wait_until(lambda: table_of(batches).first_position(0) == 9)
    os.kill(process, signal.SIGKILL)
    message = (
      rf"^loader worker 0 \(process {process}\), which reads photos/9\.png was ended by SIGKILL"
    )
    with pytest.raises(ChildProcessError, match=message) as caught:
      next(batches)
  failure = describe_failure(caught.value)
  assert failure.status == Status.NO_ROOM and "\n" not in failure.message


def test_train_batches_warn_of_a_worker_that_hangs_and_end_it(capfd):
  """It reads from a file system that does not answer."""
  # The time counts from the start of the process, which takes seconds.
  options = {"num_workers": 1, "warn_after": 0.5, "timeout": 12}
  with contextlib.closing(read(slow=(2,), seconds=600, **options)) as batches:
    next(batches)
    process = table_of(batches).process(0)
    with pytest.raises(ChildProcessError, match=r"no batch for 12 s .*reads photos/2\.png"):
      next(batches)
  assert not is_alive(process)
  assert f"loader worker 0 (process {process}), which reads photos/2.png" in capfd.readouterr().err


def test_train_batches_warn_of_threads_that_hang(capfd):
  options = {"num_workers": 0, "warn_after": 0.2, "timeout": 0.3}
  with contextlib.closing(read(slow=(3,), seconds=1, **options)) as batches:
    assert [next(batches)["image"][1, 0, 0, 0] for _ in range(2)] == [1, 3]
  lines = capfd.readouterr().err.splitlines()
  assert [line.partition(": ")[2] for line in lines] == [
    "the loader's threads, which reads photos/3.png"
  ]


def test_workers_and_their_memory_do_not_outlive_their_parent(injections):
  for _ in range(injections(1)):
    end_a_parent()


def end_a_parent():
  """Ends a process that reads with two workers, and waits for what is left of it to go."""
  rng = np.random.default_rng()
  prefix = f"t{os.getpid() % 10000}"  # Python allows 14 characters in all.
  memory = lambda: [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]
  process = subprocess.Popen(
    [sys.executable, worker_source.__file__],
    env=os.environ | {"PREFIX": prefix},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  workers = [int(word) for word in process.stdout.readline().split()]
  assert len(workers) == 2 and all(map(is_alive, workers)) and memory()
  time.sleep(rng.uniform(0, 0.3))
  process.send_signal(signal.Signals(rng.choice((signal.SIGKILL, signal.SIGTERM))))
  assert process.communicate()[1] == ""
  wait_until(lambda: not memory() and not any(map(is_alive, workers)))
