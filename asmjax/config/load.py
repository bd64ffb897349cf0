"""Loads config files, with overrides as on a command line."""

import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from asmjax.config.library import read_config_file
from asmjax.config.presets import Config
from asmjax.config.schema import check_path
from asmjax.terms.weight import parse_weight

# What can be read as a value of a type.
_EXPECTED = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  ConfigDict: "a dict, such as {'a': 1}",
}


def load_config(name: str, overrides: Mapping[str, str] | None = None) -> Config:
  """Loads the config of a file, with overrides.

  Args:
    name: "FILE" or "FILE:VARIANT"; see `asmjax.config.library.read_config_file`.
    overrides: Values as text by dotted key of the config; see `override_config`.

  Raises:
    ValueError: The variant or a key is unknown, a value has the wrong type, or the file has no
      `get_config`.
    FileNotFoundError: The config file does not exist.
  """
  return override_config(read_config_file(name), overrides or {})


def override_config(config: Config, overrides: Mapping[str, str]) -> Config:
  """Returns a copy of a config with other values.

  A value keeps its type, with one exception: a number of a term may become a schedule, such as
  "linear(0, 1, 0.1, 0.3)", and a schedule a number; see `asmjax.terms.weight`.

  Args:
    config: Config to copy.
    overrides: Values as text by dotted key of the config, as in {"train.steps": "750"}.

  Raises:
    ValueError: A key is unknown, or a value has the wrong type.
  """
  config = config.copy_and_resolve_references()
  weights, arguments = {}, []
  for key, text in overrides.items():
    check_path(config, key)
    if key.startswith("terms.") and _is_weight(config_path.get_value(key, config), text):
      try:
        weights[key] = parse_weight(text)
      except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    else:
      arguments.append(f"--config.{key}={text}")
  try:
    _parse_flags(config, arguments)
  except flags.IllegalFlagValueError as error:
    for key, text in overrides.items():
      if str(error).startswith(f"flag --config.{key}={text}: "):
        kind = type(config_path.get_value(key, config))
        raise ValueError(f"{key}={text}; expected {_EXPECTED.get(kind, kind.__name__)}") from error
    raise ValueError(str(error)) from error
  with config.unlocked(), config.ignore_type():
    for key, weight in weights.items():
      config_path.set_value(key, config, weight)
  return config


def format_values(values: Mapping[str, Any]) -> dict[str, str]:
  """Returns values as a command line has them, by the same keys."""
  return {
    key: str(value) if isinstance(value, str | pathlib.Path) else repr(value)
    for key, value in values.items()
  }


def _is_weight(value: object, text: str) -> bool:
  """Returns whether a text overrides a schedule, or a number by a schedule."""
  is_schedule = isinstance(value, ConfigDict) and "start" in value
  return is_schedule or isinstance(value, float) and "(" in text


def _parse_flags(config: Config, arguments: list[str]) -> None:
  """Sets keys of a config, and locks it, as ml_collections does from a command line."""
  values, argv = flags.FlagValues(), ["", *arguments]  # The program's name comes first.
  config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
  values(argv)
