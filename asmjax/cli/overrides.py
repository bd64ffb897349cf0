"""Settings of a config as flags, with a useful message for those that do not exist."""

import contextlib
import runpy
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import app, flags


def parse(arguments: list[str]) -> list[str]:
  """Parses the flags, and refuses an override of an unknown key with the known ones listed.

  A term's weight may be overridden by a number or a schedule, whichever it is in the config:
  `--config.terms.structure.weight="linear(0, 1, 0.1, 0.3)"`; see `asmjax.terms.weight`.
  """
  config = default_config(arguments)
  try:
    weights = {} if config is None else _weights(config, arguments)
    taken = {argument for argument, _ in weights.values()}
    others = app.parse_flags_with_usage([each for each in arguments if each not in taken])
  except ValueError as error:
    sys.exit(f"FATAL Flags parsing error: {error}")
  except (AttributeError, KeyError):  # What ml_collections makes of an unknown key.
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
  """The config before any override; None if the flags name no file that has one."""
  path, _, variant = _values(arguments).get("config", "").partition(":")
  if not path:
    return None
  try:
    return runpy.run_path(path)["get_config"](*filter(None, [variant]))
  except OSError:  # Parsing the flags says so better.
    return None


def _values(arguments: list[str]) -> dict[str, str]:
  text = "\n".join(arguments).replace("--config\n", "--config=")
  parts = [argument.lstrip("-").partition("=") for argument in text.split("\n")]
  return {name: value for name, _, value in parts}


def _overrides(arguments: list[str]) -> dict[str, str]:
  """Texts by the path of the key that they override."""
  return {
    key.removeprefix("config."): text
    for key, text in _values(arguments).items()
    if key.startswith("config.")
  }


def _weights(config: Any, arguments: list[str]) -> dict[str, tuple[str, Any]]:
  """By path: the argument that sets a schedule, or a number in place of one, and the value."""
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
  """Sets a key to a value of another type."""
  *parents, key = path.split(".")
  for parent in parents:
    config = config[parent]
  with config.unlocked(), config.ignore_type():
    config[key] = value


@contextlib.contextmanager
def exit_on_config_error() -> Iterator[None]:
  """What is wrong with a config or a data set ends the program with the message alone."""
  try:
    yield
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f"FATAL {error}")
