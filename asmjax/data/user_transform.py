"""A user's own transform of training examples, named in a config."""

import dataclasses
import functools
import importlib
import importlib.util
import pathlib
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from asmjax.data.packing import check_example, check_labels
from asmjax.data.transforms import Example

_FORMS = "MODULE:FUNCTION, as in my_package.mine:darken, or FILE.py:FUNCTION"


@dataclasses.dataclass(frozen=True)
class UserTransform:
  """Transform of an example by a user's function, which each reading process imports by itself.

  The function gets an example, a dict of arrays at their original size (see
  `asmjax.data.descriptor.Source`), and the `numpy.random.Generator` of its seed, epoch and index.
  It returns an example with the same keys; whatever moves pixels has to move all arrays.

  Attributes:
    name: Place of the function, "MODULE:FUNCTION" or "FILE.py:FUNCTION".
    num_classes: Number of classes, which labels of its results must be below; 0 for any number.

  Raises:
    ValueError: There is no such module, file or function.
  """

  name: str
  num_classes: int = 0

  def __post_init__(self) -> None:
    _load(self.name)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    """Returns the example that the function makes of a copy of `example`.

    Raises:
      ValueError: It is none, has other keys, arrays of other types or of different sizes, or labels
        of no class.
    """
    # A cached example's arrays cannot be written; a function may well write into what it gets.
    result = _load(self.name)({key: value.copy() for key, value in example.items()}, rng)
    where = f"what {self.name} returns"
    if not isinstance(result, dict):
      raise ValueError(f"{where} is a {type(result).__name__}; expected a dict of arrays")
    check_example(result, example, where)
    if self.num_classes and "label" in result:
      check_labels(result["label"], self.num_classes, f"the label of {where}")
    return result


@functools.cache
def _load(name: str) -> Callable[..., Any]:
  """Imports a function by its name."""
  place, _, attribute = name.rpartition(":")
  if not place or not attribute:
    raise ValueError(f"transform is {name!r}; expected {_FORMS}")
  try:
    load = _load_file if place.endswith(".py") else importlib.import_module
    module = load(place)
  except (ImportError, OSError, SyntaxError) as error:
    fault = f"transform {name!r} cannot be imported ({error})"
    raise ValueError(f"{fault}; expected {_FORMS}") from error
  function = getattr(module, attribute, None)
  if not callable(function):
    raise ValueError(f"{place} has no function {attribute!r}; transform is {name!r}")
  return function


def _load_file(place: str) -> object:
  """Runs a Python file as a module that nothing else imports."""
  path = pathlib.Path(place).resolve()
  name = f"asmjax_user_{path.stem}_{zlib.crc32(bytes(path)):08x}"  # One for each file.
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ImportError(f"{place} is no Python file")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Where dataclasses look their module up.
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module
