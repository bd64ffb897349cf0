"""Command-line overrides of a config, with a useful message for keys that do not exist."""

import contextlib
import runpy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import app, flags


def parse(arguments: list[str]) -> list[str]:
  """Parses the flags of a command; an override of an unknown key exits with a list of known ones.

  A term's weight may be overridden by a number or a schedule, whichever of them the config has:
  `--config.terms.structure.weight="linear(0, 1, 0.1, 0.3)"`; see `asmjax.terms.weight`.
  ml_collections cannot do that, as it keeps the type of a key.

  Args:
    arguments: Arguments of the command line, the program's name first.

  Returns:
    Arguments that are no flags, the program's name first.

  Raises:
    SystemExit: A flag, a key or a value is invalid; the message names it.
  """
  config = default_config(arguments)
  try:
    weights = {} if config is None else _weights(config, arguments)
    taken = {argument for argument, _ in weights.values()}
    others = app.parse_flags_with_usage([each for each in arguments if each not in taken])
  except ValueError as error:
    sys.exit(f"FATAL Flags parsing error: {error}")
  except (AttributeError, KeyError):  # ml_collections raises these for an unknown key.
    if config is None:
      raise
    from asmjax.config.schema import check_path

    for key in _overrides(arguments):
      try:
        check_path(config, key)
      except ValueError as error:
        sys.exit(f"FATAL Flags parsing error: --config.{key}: {error}")
    raise
  for path, (_, weight) in weights.items():
    _replace(flags.FLAGS.config, path, weight)
  return others


def default_config(arguments: list[str]) -> Any:
  """Reads the config that the flag `--config` names, before any override.

  Args:
    arguments: Arguments of the command line.

  Returns:
    Config of the file "PATH" or "PATH:VARIANT"; None if there is no such flag or file.
  """
  path, _, variant = _values(arguments).get("config", "").partition(":")
  if not path:
    return None
  try:
    return runpy.run_path(path)["get_config"](*filter(None, [variant]))
  except OSError:  # Parsing the flags fails, too, with a better message.
    return None


def _values(arguments: list[str]) -> dict[str, str]:
  text = "\n".join(arguments).replace("--config\n", "--config=")
  parts = [argument.lstrip("-").partition("=") for argument in text.split("\n")]
  return {name: value for name, _, value in parts}


def _overrides(arguments: list[str]) -> dict[str, str]:
  """Returns the texts of overrides by the path of their key, as in "train.steps"."""
  return {
    key.removeprefix("config."): text
    for key, text in _values(arguments).items()
    if key.startswith("config.")
  }


def _weights(config: Any, arguments: list[str]) -> dict[str, tuple[str, Any]]:
  """Finds overrides of schedules, or of numbers by schedules, which change a key's type.

  Returns:
    Argument and value, by the path of the key.
  """
  overrides = _overrides(arguments)
  texts = {path: text for path, text in overrides.items() if path.startswith("terms.")}
  if not texts:
    return {}
  from asmjax.config.schema import check_path
  from asmjax.terms.weight import parse_weight

  found = {}
  for path, text in texts.items():
    check_path(config, path)
    current = config
    for key in path.split("."):
      current = current[key]
    is_schedule = hasattr(current, "keys") and "start" in current
    if is_schedule or isinstance(current, float) and "(" in text:
      found[path] = (f"--config.{path}={text}", parse_weight(text))
  return found


def _replace(config: Any, path: str, value: float | Mapping[str, Any]) -> None:
  """Sets a key of a config to a value of another type."""
  *parents, key = path.split(".")
  for parent in parents:
    config = config[parent]
  with config.unlocked(), config.ignore_type():
    config[key] = value


@contextlib.contextmanager
def exit_on_config_error() -> Iterator[None]:
  """Makes a context in which invalid configs and data sets exit with the message alone.

  Without a traceback, as these are errors of the user rather than of the program.

  Raises:
    SystemExit: The body raises ValueError or FileNotFoundError.
  """
  try:
    yield
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f"FATAL {error}")
