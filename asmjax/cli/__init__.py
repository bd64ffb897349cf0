"""Commands: `asmjax COMMAND ...` or, from a checkout, `python launch/COMMAND.py ...`.

A command is a module with `define_flags()`, which adds its flags to absl's, and `main(arguments)`,
which does the work and may return an exit status. Flags are defined when a command is run, so that
several of these modules can be imported by one process; what is slow to import is imported in
functions, so that `--help` and errors in flags take no time.
"""

import importlib
import pathlib
import sys
from types import ModuleType
from typing import NamedTuple

from absl import app, flags, logging

from asmjax.cli import config_flag
from asmjax.cli.catalog import describe_choices
from asmjax.cli.compilation_cache import enable_compilation_cache
from asmjax.cli.errors import Status, describe_failure, hide_aftermath
from asmjax.utils.extras import naming_extra
from asmjax.utils.terminal import protect_terminal

# absl's --help lists the flags that the main module defines: here it defines none itself.
flags.disclaim_key_flags()


class Command(NamedTuple):
  """What a user can run.

  Attributes:
    module: Name of its module in this package.
    help: What it does, in one line.
    folder: Name of the flag of the folder that it writes; none by default.
  """

  module: str
  help: str
  folder: str = ""


COMMANDS = {
  "train": Command("train", "train a config, or resume a run", "workdir"),
  "evaluate": Command("evaluate", "evaluate a trained run"),
  "replay": Command("replay", "take a step again that was not finite"),
  "predict": Command("predict", "predict images, folders or videos with a trained run", "out"),
  "export": Command("export", "export a trained run to StableHLO"),
  "inspect": Command("inspect", "check a data set and draw it", "out"),
  "prepare": Command("prepare", "pack a data set into ArrayRecord shards", "out"),
  "analyze": Command("analyze", "compare finished runs in tables and figures", "out"),
  "report": Command("report", "make one HTML page of finished runs"),
  "summary": Command("summary", "print a network's layers, costs and fields of view"),
  "weights": Command("weights", "list published weights to start from"),
  "sweep": Command("sweep", "run configs x seeds side by side and compare them", "out"),
}


def run(name: str) -> None:
  """Runs a command with the flags in `sys.argv`, and exits with its status.

  Args:
    name: Key of `COMMANDS`.
  """
  try:
    _run(name)
  except KeyboardInterrupt:  # While the command was imported, or its flags were read.
    print("interrupted", file=sys.stderr, flush=True)
    sys.exit(Status.INTERRUPTED)


def _run(name: str) -> None:
  protect_terminal()
  command = importlib.import_module(f"asmjax.cli.{COMMANDS[name].module}")
  command.define_flags()
  for folder in ("workdir", "out"):
    if folder in flags.FLAGS:
      flags.register_validator(folder, lambda path: path != "", "it is empty; expected a path")
  flags.DEFINE_bool("debug", False, "show where an error comes from")
  sys.modules["__main__"].__doc__ = _describe(command)  # absl prints it on --help.

  def main(arguments: list[str]) -> int | None:
    # Orbax and JAX log every save and compilation, and tracebacks of errors that they raise, too.
    logging.set_verbosity(logging.ERROR if flags.FLAGS.debug else logging.FATAL)
    hide_aftermath()
    enable_compilation_cache()
    try:
      if folder := COMMANDS[name].folder:
        from asmjax.utils.files import check_folder

        check_folder(pathlib.Path(str(flags.FLAGS[folder].value)))
      with naming_extra(name):
        return command.main(arguments)
    except (Exception, KeyboardInterrupt) as error:
      failure = describe_failure(error)
      if failure is None or flags.FLAGS.debug:
        raise
      # A name with line feeds, too, can begin no line of its own.
      print(failure.message.replace("\n", "\n  "), file=sys.stderr, flush=True)
      return failure.status

  app.run(main, flags_parser=config_flag.parse)


def _describe(command: ModuleType) -> str:
  """Returns the help of a command; on `--help` with all that a config can be made of."""
  text = command.__doc__ or ""
  if "config" not in flags.FLAGS or not {"--help", "-help"} & set(sys.argv):
    return text
  try:
    return f"{text}\n{describe_choices()}\n"
  except ModuleNotFoundError:  # Without the extra that has configs there is nothing to choose.
    return text


def main() -> None:
  """Runs the command that the first argument names; without one, lists all of them."""
  name, *arguments = sys.argv[1:] or [""]
  if name not in COMMANDS:
    lines = [f"  {key:10}{command.help}" for key, command in COMMANDS.items()]
    usage = "\n".join(["usage: asmjax COMMAND [--help] [--flags]", "", "commands:", *lines])
    if name in ("", "help", "-h", "--help"):
      print(usage)
      return
    sys.exit(f"FATAL unknown command {name!r}\n{usage}")
  sys.argv = [f"asmjax {name}", *arguments]
  run(name)
