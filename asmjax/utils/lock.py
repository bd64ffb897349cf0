"""Locks of folders that one process at a time may work in."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from asmjax.utils.files import writing


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path, worker: str) -> Iterator[int]:
  """Locks a folder, which is made if need be, and yields the lock's file descriptor.

  The system frees the lock when the process ends, however it does; processes that inherit the
  descriptor keep the folder locked as long as they live.

  Args:
    folder: Path of the folder.
    worker: Who may be at work in it, as "a training", for the message.

  Raises:
    ValueError: Another process has locked the folder.
    WriteError: The folder cannot be made, or cannot be written.
  """
  with writing(folder):
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(f"{worker} is at work in {folder}; expected to be alone there") from error
    yield file.fileno()
