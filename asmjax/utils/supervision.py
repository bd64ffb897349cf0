"""Work in a child process, whose end the parent explains."""

import ctypes
import os
import signal
import sys

# Sent to one process of a job alone; that of Ctrl-C reaches the child by itself.
_FORWARDED = (signal.SIGTERM, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1  # Of Linux's <sys/prctl.h>.


def run_supervised(message: str, status: int) -> None:
  """Returns in a new child process; the calling one waits for it and exits as it does.

  JAX aborts a process that has lost another one of its run, from a thread of its own where no
  Python code can catch it. To be called before other threads are started, as JAX does.

  Args:
    message: What to print to standard error if the child is aborted.
    status: Exit status of the calling process if the child is aborted.
  """
  parent = os.getpid()
  if not (child := os.fork()):
    _die_with_parent(parent)
    return
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  for number in _FORWARDED:
    signal.signal(number, lambda number, _: os.kill(child, number))
  _, ending = os.waitpid(child, 0)
  code = os.waitstatus_to_exitcode(ending)
  if code == -signal.SIGABRT:
    print(message, file=sys.stderr, flush=True)
    code = status
  elif code < 0:  # As a shell has it.
    code = 128 - code
  os._exit(code)  # What the parent would do at its end is the child's.


def _die_with_parent(parent: int) -> None:
  """Lets Linux kill this process when its parent has died."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before.
      os._exit(128 + signal.SIGKILL)
