"""Files of configs and sweeps, the library's own by name."""

import inspect
import pathlib
import runpy
from typing import Any

from asmjax.utils.printable import list_known


def read_config_file(name: str) -> Any:
  """Returns what `get_config` of a config file returns.

  Args:
    name: "FILE" or "FILE:VARIANT", where FILE is a path such as "my_configs/mine.py" or the name of
      one of the library's configs, as in "scenes:asm". `get_config` is called with VARIANT.

  Raises:
    FileNotFoundError: There is no such file; the message lists the library's own.
    ValueError: The file has no `get_config`, or that takes no argument and one is given.
  """
  return _call(name, "config", list_configs())


def read_sweep_file(name: str) -> Any:
  """Returns what `get_sweep` of a sweep file returns.

  Args:
    name: "FILE" or "FILE:ARGUMENT", where FILE is a path or the name of one of the library's
      sweeps, as in "lookahead:horse". `get_sweep` is called with ARGUMENT.

  Raises:
    FileNotFoundError: There is no such file; the message lists the library's own.
    ValueError: The file has no `get_sweep`, or that takes no argument and one is given.
  """
  return _call(name, "sweep", list_sweeps())


def list_configs() -> dict[str, pathlib.Path]:
  """Returns the paths of the library's configs by name."""
  return _list(_folder())


def list_sweeps() -> dict[str, pathlib.Path]:
  """Returns the paths of the library's sweeps by name."""
  return _list(_folder() / "sweeps")


def _call(name: str, kind: str, own: dict[str, pathlib.Path]) -> Any:
  """Finds a file by its path or among the library's own, and calls its `get_{kind}`."""
  file, _, argument = name.partition(":")
  path = pathlib.Path(file) if pathlib.Path(file).is_file() else own.get(file)
  if path is None:
    raise FileNotFoundError(
      f"{kind} file {file} does not exist; expected a path, or one of the library's; "
      f"{list_known(file, own)}"
    )
  function = runpy.run_path(str(path)).get(f"get_{kind}")
  if function is None:
    raise ValueError(f"{file} has no get_{kind}(); expected one that returns the {kind}")
  if argument and not inspect.signature(function).parameters:
    raise ValueError(f"{name}: get_{kind}() of {file} takes no argument; expected {file} alone")
  return function(*filter(None, [argument]))


def _folder() -> pathlib.Path:
  """Returns `configs`: inside the package if that is installed, beside it in a checkout."""
  package = pathlib.Path(__file__).resolve().parents[1]
  installed = package / "configs"
  return installed if installed.is_dir() else package.parent / "configs"


def _list(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {path.stem: path for path in sorted(folder.glob("*.py"))}
