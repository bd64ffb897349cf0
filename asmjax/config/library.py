"""The configs and sweeps that come with the library, by name."""

import pathlib

from asmjax.utils.printable import list_known


def find_config(name: str) -> pathlib.Path:
  """Finds a config file by its path, or one of the library's own by its name.

  Args:
    name: Path such as "my_configs/mine.py", or name such as "scenes".

  Raises:
    FileNotFoundError: There is neither; the message lists the library's own.
  """
  return _find(name, "config", list_configs())


def find_sweep(name: str) -> pathlib.Path:
  """Finds a sweep file by its path, or one of the library's own by its name.

  Args:
    name: Path such as "my_sweeps/mine.py", or name such as "horse".

  Raises:
    FileNotFoundError: There is neither; the message lists the library's own.
  """
  return _find(name, "sweep", list_sweeps())


def list_configs() -> dict[str, pathlib.Path]:
  """Returns the paths of the library's configs by name."""
  return _list(_folder())


def list_sweeps() -> dict[str, pathlib.Path]:
  """Returns the paths of the library's sweeps by name."""
  return _list(_folder() / "sweeps")


def _find(name: str, kind: str, own: dict[str, pathlib.Path]) -> pathlib.Path:
  path = pathlib.Path(name)
  if path.is_file():
    return path
  if name in own:
    return own[name]
  raise FileNotFoundError(
    f"{kind} file {name} does not exist; expected a path, or one of the library's; "
    f"{list_known(name, own)}"
  )


def _folder() -> pathlib.Path:
  """Returns `configs`: inside the package if that is installed, beside it in a checkout."""
  package = pathlib.Path(__file__).resolve().parents[1]
  installed = package / "configs"
  return installed if installed.is_dir() else package.parent / "configs"


def _list(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {path.stem: path for path in sorted(folder.glob("*.py"))}
