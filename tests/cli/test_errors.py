"""How commands end that fail."""

import errno
import importlib
import signal
import sys
import types

import pytest

from asmjax import cli
from asmjax.cli.errors import Status, describe_failure, hide_aftermath
from asmjax.utils.exhaustion import WriteError
from asmjax.utils.stopping import Stopped
from tests.helpers import small_configs as small


@pytest.mark.parametrize(
  "error, status, message",
  [
    (ValueError("no such key"), Status.FAILED, "FATAL no such key"),
    (FileNotFoundError("a is missing"), Status.FAILED, "FATAL a is missing"),
    (FloatingPointError("loss is nan"), Status.DIVERGED, "FATAL loss is nan"),
    (OSError(errno.ENOSPC, "No space left", "x"), Status.NO_ROOM, "FATAL [Errno 28] No space"),
    (OSError(errno.EROFS, "Read-only", "x"), Status.NO_ROOM, "FATAL [Errno 30] Read-only"),
    (WriteError(errno.ENOENT, "cannot", "x"), Status.NO_ROOM, "FATAL x cannot"),
    (WriteError(errno.EACCES, "cannot", "x"), Status.FAILED, "FATAL x cannot"),
    (MemoryError("9 GB"), Status.NO_ROOM, "FATAL out of memory (9 GB; the machine has "),
    (RuntimeError("RESOURCE_EXHAUSTED: 1\n2"), Status.NO_ROOM, "FATAL out of memory (RESOURCE_EX"),
    (
      RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2500000000 bytes."),
      Status.NO_ROOM,
      "FATAL out of memory (2.5 GB asked for; the machine has ",
    ),
    (
      RuntimeError("RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to allocate"),
      Status.NO_ROOM,
      "FATAL out of memory (RESOURCE_EXHAUSTED: Error allocating device buffer",
    ),
    (ChildProcessError("loader worker 0"), Status.NO_ROOM, "FATAL loader worker 0"),
    (Stopped(signal.SIGTERM, "left"), Status.STOPPED, "SIGTERM: left"),
    (Stopped(signal.SIGINT, "left"), Status.INTERRUPTED, "SIGINT: left"),
    (KeyboardInterrupt(), Status.INTERRUPTED, "interrupted"),
  ],
)
def test_describe_failure_is_one_line_and_a_status(error, status, message):
  failure = describe_failure(error)
  assert failure.status == status and failure.message.startswith(message)
  assert "\n" not in failure.message


def test_describe_failure_knows_an_import_that_was_interrupted():
  """Modules in C++ raise such an error from the Ctrl-C."""
  with pytest.raises(ImportError) as raised:
    raise ImportError("initialization failed") from KeyboardInterrupt()
  assert describe_failure(raised.value) == (Status.INTERRUPTED, "interrupted")
  assert describe_failure(ImportError("initialization failed")) is None


def test_run_ends_in_one_line_if_it_is_interrupted_before_it_has_begun(monkeypatch, capsys):
  def interrupt(name):
    raise KeyboardInterrupt

  monkeypatch.setattr(importlib, "import_module", interrupt)
  with pytest.raises(SystemExit) as raised:
    cli.run("train")
  assert raised.value.code == Status.INTERRUPTED
  assert capsys.readouterr().err == "interrupted\n"


def test_describe_failure_leaves_faults_of_the_code_alone():
  assert describe_failure(TypeError("f() takes 1 argument")) is None


def test_hide_aftermath_hides_nothing_else(monkeypatch):
  shown = []
  monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: shown.append(unraisable.exc_value))
  hide_aftermath()
  errors = [RuntimeError("Event loop is closed"), ValueError("fault")]
  for error in errors:
    sys.unraisablehook(types.SimpleNamespace(exc_value=error))
  assert shown == errors[1:]


def test_commands_that_cannot_make_their_folder_end_with_no_room(tmp_path):
  config = ("--config=configs/scenes.py:asm", *small.flags())
  code, output = small.launch("main.py", *config, "--workdir=/proc/run", devices=1)
  assert code == Status.NO_ROOM
  assert output == "FATAL /proc/run cannot be written: No such file or directory\n"


def test_commands_end_in_one_line_unless_told_to_debug(tmp_path):
  arguments = ("--config=configs/scenes.py:iid", f"--workdir={tmp_path}", "--config.train.steps=-1")
  code, output = small.launch("main.py", *arguments, devices=1)
  assert (code, output) == (1, "FATAL train.steps=-1; expected at least 0\n")
  code, output = small.launch("main.py", *arguments, "--debug", devices=1)
  assert code == 1 and "Traceback" in output and "in check" in output
