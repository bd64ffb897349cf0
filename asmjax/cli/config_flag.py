"""The flag `--config` with overrides `--config.KEY=VALUE`, shared by the commands that have it."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from asmjax.config.library import list_configs

if TYPE_CHECKING:
  from asmjax.config.presets import Config

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flag `--config`."""
  flags.DEFINE_string(
    "config",
    None,
    f"FILE:VARIANT, where FILE is a path or one of {', '.join(list_configs())}; "
    "--config.KEY=VALUE overrides a key",
  )
  flags.mark_flag_as_required("config")


def parse(arguments: Sequence[str]) -> list[str]:
  """Parses the flags of a command, except overrides of its config.

  Args:
    arguments: Arguments of the command line, the program's name first.

  Returns:
    The program's name, and the overrides as "KEY=VALUE" for `read_config`.

  Raises:
    SystemExit: A flag is wrong or missing, or something else than flags is given.
  """
  arguments = flags.FLAGS.read_flags_from_files(list(arguments), force_gnu=False)
  overrides, others = split_overrides(arguments) if "config" in flags.FLAGS else ([], arguments)
  if fault := _find_fault(others):
    sys.exit(f"FATAL {fault}; see {arguments[0]} --help")
  return [arguments[0], *overrides]


def _find_fault(arguments: Sequence[str]) -> str:
  """Parses flags, and describes in one line what is wrong with the arguments; empty if nothing."""
  try:
    _, *unexpected = flags.FLAGS(arguments)
    return f"unexpected argument {unexpected[0]!r}" if unexpected else ""
  except flags.Error as error:
    text = " ".join(str(error).split())
  missing = re.findall(r"Flag (--\w+) must have a value other than None", text)
  if not missing:
    text = re.sub(r": invalid literal for int\(\).*", "; expected a whole number", text)
    return re.sub(r": could not convert string to float.*", "; expected a number", text)
  # Other faults come first, such as a folder that is given without its flag.
  fault = _find_fault([arguments[0], *(f"{name}=." for name in missing), *arguments[1:]])
  names = " and ".join(f"{name}=..." for name in missing)
  return fault or f"{names} {'are' if len(missing) > 1 else 'is'} required"


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits a command line into overrides of the config, as "KEY=VALUE", and other arguments.

  As with other flags, `--config.KEY VALUE` is `--config.KEY=VALUE`; a key without a value is set to
  true, and with `--noconfig.KEY` to false.
  """
  remaining, overrides, others = list(arguments), [], []
  while remaining:
    argument = remaining.pop(0)
    match = re.fullmatch(r"--?(no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
    if not match:
      others.append(argument)
      continue
    negated, key, value = match.groups()
    if value is None:
      has_value = not negated and remaining and not re.match("--?[a-z]", remaining[0])
      value = remaining.pop(0) if has_value else str(not negated)
    overrides.append(f"{key}={value}")
  return overrides, others


def read_config(arguments: Sequence[str]) -> "Config":
  """Loads the config that the flag `--config` names, with overrides.

  Args:
    arguments: Result of `parse`.

  Raises:
    ValueError: See `asmjax.config.load.load_config`.
    FileNotFoundError: The config file does not exist.
  """
  from asmjax.config.load import load_config

  overrides = dict(argument.split("=", 1) for argument in arguments[1:])
  return load_config(flags.FLAGS.config, overrides)
