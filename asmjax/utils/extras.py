"""Extras of the package, as in `pip install 'asmjax[train]'`, and errors that name them."""

import contextlib
from collections.abc import Iterator

# The extra of the package that has a module.
_EXTRAS = {
  "cv2": "train",
  "grain": "train",
  "h5py": "hdf5",
  "jinja2": "report",
  "matplotlib": "report",
  "ml_collections": "train",
  "PIL": "train",
  "safetensors": "train",
  "tensorflow_datasets": "train",
}


class MissingExtraError(ImportError):
  """Error of a module that an extra of the package has; `name` is that of the module."""


@contextlib.contextmanager
def naming_extra(user: str) -> Iterator[None]:
  """Turns the error of a missing module into one that says which extra to install.

  Args:
    user: Who needs the module, for the message.

  Raises:
    MissingExtraError: A module of an extra is missing.
  """
  try:
    yield
  except ModuleNotFoundError as error:
    module = str(error.name).partition(".")[0]
    if module not in _EXTRAS:
      raise
    text = f"{user} needs {module}: pip install 'asmjax[{_EXTRAS[module]}]'"
    raise MissingExtraError(text, name=module) from error
