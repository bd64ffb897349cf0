"""How a command ends that fails: a line, and a status that tells schedulers what to do."""

import enum
import errno
import re
import sys
from typing import NamedTuple

from asmjax.utils.exhaustion import NO_ROOM, WriteError
from asmjax.utils.extras import MissingExtraError
from asmjax.utils.memory import format_bytes, total_memory
from asmjax.utils.stopping import Stopped

# Errors of writing to a folder that has vanished, or to a disk that is failing.
_NO_PLACE = (errno.ENOENT, errno.ESTALE, errno.EIO)


class Status(enum.IntEnum):
  """Exit status of a command; 2 is left to shells.

  Attributes:
    DONE: It did what was asked for.
    FAILED: Something given to it is wrong, or something was left out.
    DIVERGED: The training diverged.
    NO_ROOM: Memory, a disk or a limit of the system is exhausted, a folder to write to is read-only
      or has vanished, or a reader process was killed.
    STOPPED: A signal asked it to leave, or another process of its run was lost; start it again, and
      it goes on (EX_TEMPFAIL).
    INTERRUPTED: Ctrl-C, as shells have it.
  """

  DONE = 0
  FAILED = 1
  DIVERGED = 3
  NO_ROOM = 4
  STOPPED = 75
  INTERRUPTED = 130


class Failure(NamedTuple):
  """End of a command that failed.

  Attributes:
    status: Exit status.
    message: What to print to standard error.
  """

  status: Status
  message: str


def describe_failure(error: BaseException) -> Failure | None:
  """Describes an error that a user can do something about; None for a fault of the code."""
  if isinstance(error, Stopped):
    return Failure(Status.INTERRUPTED if error.by_keyboard else Status.STOPPED, str(error))
  # Modules in other languages turn a Ctrl-C while they are imported into an ImportError.
  if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
    return Failure(Status.INTERRUPTED, "interrupted")
  if isinstance(error, FloatingPointError):
    return Failure(Status.DIVERGED, f"FATAL {error}")
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
    advice = "lower train.batch_size, eval.batch_size or data.size, or raise train.grad_accum_steps"
    return Failure(Status.NO_ROOM, f"FATAL out of memory ({_describe_shortage(error)}); {advice}")
  # Reader processes are killed for the memory that they take, or after too long a time.
  if isinstance(error, ChildProcessError) or isinstance(error, OSError) and error.errno in NO_ROOM:
    return Failure(Status.NO_ROOM, f"FATAL {error}")
  if isinstance(error, WriteError) and error.errno in _NO_PLACE:
    return Failure(Status.NO_ROOM, f"FATAL {error}")
  if isinstance(error, ValueError | OSError | MissingExtraError):
    return Failure(Status.FAILED, f"FATAL {error}")
  return None


def hide_aftermath() -> None:
  """Hides what TensorStore prints of reads and writes that end after another one has failed.

  Orbax has closed the loop by then that would have been told, and raises the first error.
  """
  show = sys.unraisablehook

  def show_others(unraisable: "sys.UnraisableHookArgs") -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
      show(unraisable)

  sys.unraisablehook = show_others


def _describe_shortage(error: BaseException) -> str:
  """Says how much was asked for, as far as the error has it, and how much memory there is."""
  # XLA's words, of the CPU and of others; each has the number of bytes.
  asked = re.search(r"allocat\w*\s+(?:a buffer of size\s+)?(\d+)(?: bytes)?", str(error))
  text = f"{format_bytes(int(asked[1]))} asked for" if asked else str(error).partition("\n")[0]
  return f"{text}; the machine has {format_bytes(total_memory())}"
