"""Sources that wrap another source: cached, with other classes, fewer keys or fewer examples."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor, Source, check_index
from asmjax.data.transforms import Example
from asmjax.utils.printable import list_known

# NAME[FROM:TO] in numbers of examples, or in percent; FROM, TO or both may be missing.
_SLICES = tuple(
  re.compile(rf"([^\[\]]+)\[({bound})?:({bound})?\]") for bound in (r"-?\d+", r"-?\d+(?:\.\d+)?%")
)


class _Wrapper:
  """Base of sources that take their descriptor, split, length and files from another source."""

  def __init__(self, source: Source) -> None:
    self.descriptor: Descriptor = source.descriptor
    self.split: str = source.split
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of the files that hold example `index`, by key."""
    return self._source.files(index)


class InMemory(_Wrapper):
  """Source that keeps every decoded example in memory after its first use.

  Two threads may decode the same example at once; both results are equal and either is kept.
  The arrays are read-only, since a transform that wrote into them would change later epochs.  A
  copy that is sent to another process starts empty.
  """

  def __init__(self, source: Source) -> None:
    """Wraps `source`; nothing is read yet."""
    super().__init__(source)
    self._examples: dict[int, Example] = {}

  def __getitem__(self, index: int) -> Example:
    """Returns example `index`, which one thread decodes at most once."""
    if index not in self._examples:
      example = self._source[index]
      for value in example.values():
        value.setflags(write=False)
      self._examples[index] = example
    return dict(self._examples[index])

  def __getstate__(self) -> dict:
    # A process that gets a copy fills its own cache: pickling all images would take longer.
    return {**self.__dict__, "_examples": {}}


class RemapClasses(_Wrapper):
  """Source whose classes are renumbered, merged or left out.

  A new class is named after its old ones, joined by "+", and has the color of the first.
  """

  def __init__(self, source: Source, classes: Mapping[str, int]) -> None:
    """Wraps `source`.

    Args:
      source: Source with labels.
      classes: New id by the name of the old class; classes that are not named become unlabeled.

    Raises:
      ValueError: `source` lacks one of the classes, or the new ids are not 0, 1, 2, ...
    """
    super().__init__(source)
    self.descriptor = remap_descriptor(source.descriptor, classes)
    # New label of each old label.
    self._table = np.full(256, UNLABELED, np.int32)
    for name, label in classes.items():
      self._table[source.descriptor.classes.index(name)] = label

  def __getitem__(self, index: int) -> Example:
    """Returns example `index` with its new labels."""
    example = self._source[index]
    return {**example, "label": self._table[example["label"]]}


class SelectKeys(_Wrapper):
  """Source with only some keys of another, so that the other arrays need not be transformed."""

  def __init__(self, source: Source, keys: Iterable[str]) -> None:
    """Wraps `source`, of which `image` and those of `keys` that it provides remain."""
    super().__init__(source)
    provides = source.descriptor.provides & frozenset(keys)
    self.descriptor = dataclasses.replace(source.descriptor, provides=provides)

  def __getitem__(self, index: int) -> Example:
    """Returns example `index` with the selected keys alone."""
    keys = self.descriptor.provides | {"image"}
    return {key: value for key, value in self._source[index].items() if key in keys}


class Subset(_Wrapper):
  """Source with only some examples of another."""

  def __init__(self, source: Source, indices: Sequence[int], split: str | None = None) -> None:
    """Selects `indices` of `source`, in this order; `split` is by default that of `source`."""
    super().__init__(source)
    self.split = split or source.split
    self._indices = tuple(indices)

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Example:
    """Returns example `index` of the selected ones."""
    check_index(index, len(self))
    return self._source[self._indices[index]]

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of the files that hold example `index`, by key."""
    return self._source.files(self._indices[index])


def spread_indices(length: int, limit: int | None) -> list[int]:
  """Returns at most `limit` indices of 0..length-1, evenly spread from first to last."""
  if limit is None or limit >= length:
    return list(range(length))
  return np.linspace(0, length - 1, limit).round().astype(int).tolist()


def open_split(open_full: Callable[[str], Source], split: str) -> Source:
  """Opens a split, or a slice NAME[FROM:TO] of one in the syntax of tensorflow-datasets.

  Boundaries are numbers of examples or percentages.  Negative ones count from the end; percentages
  are rounded to the closest example, so that `train[:80%]` and `train[80%:]` together have every
  example of `train` once.

  Args:
    open_full: Function that opens a complete split by its name.
    split: Name of a split, or a slice such as "train[:80%]", "train[100:]" or "train[-20%:]".

  Returns:
    Source of the examples in their order, whose `split` is the given one.

  Raises:
    ValueError: The slice is malformed, empty or reaches beyond the split.
  """
  if "[" not in split:
    return open_full(split)
  match = _match_slice(split)
  if not match:
    raise ValueError(
      f"malformed slice {split!r}; expected NAME[FROM:TO] with numbers of examples or percentages, "
      "as train[:80%], train[100:200] or train[-20%:]"
    )
  source = open_full(match[1])
  length = len(source)
  start = _locate_bound(match[2] or "0", length, split)
  stop = _locate_bound(match[3] or "100%", length, split)
  if start >= stop:
    raise ValueError(f"slice {split!r} is empty: examples {start} to {stop} of {length}")
  return Subset(source, range(start, stop), split)


def base_split(split: str) -> str:
  """Returns the name of the split that a slice NAME[FROM:TO] is taken from, or `split` itself."""
  match = _match_slice(split)
  return match[1] if match else split


def _match_slice(split: str) -> re.Match[str] | None:
  matches = (pattern.fullmatch(split) for pattern in _SLICES)
  return next(filter(None, matches), None)


def _locate_bound(bound: str, length: int, split: str) -> int:
  """Returns the index of a slice's boundary in a split with `length` examples."""
  percent = bound.endswith("%")
  index = round(float(bound[:-1]) * length / 100) if percent else int(bound)
  if abs(index) > length:
    raise ValueError(f"slice {split!r} reaches beyond the {length} examples of the split")
  return index + length if bound.startswith("-") else index


def drop_unreadable(source: Source, on_skip: Callable[[str], None]) -> Source:
  """Returns a source of the examples that can be read; reads all once, in threads.

  `source` should not cache.  `on_skip` is called with the error message of each unreadable example.
  """

  def read(index: int) -> str | None:
    try:
      source[index]
    except (OSError, ValueError) as error:
      return str(error)

  with ThreadPoolExecutor() as pool:
    errors = list(pool.map(read, range(len(source))))
  for error in filter(None, errors):
    on_skip(error)
  return Subset(source, [index for index, error in enumerate(errors) if error is None])


def remap_descriptor(old: Descriptor, classes: Mapping[str, int]) -> Descriptor:
  """Returns the descriptor of a data set after `RemapClasses`, which has the same errors."""
  unknown = [name for name in classes if name not in old.classes]
  if unknown:
    raise ValueError(
      f"{old.name} has no class {unknown[0]!r}; {list_known(unknown[0], old.classes)}"
    )
  ids = sorted(set(classes.values()))
  if ids != list(range(len(ids))):
    raise ValueError(f"new ids {ids} of classes of {old.name}: expected 0, 1, 2, ... without gaps")
  members = [[name for name in old.classes if classes.get(name) == label] for label in ids]
  return dataclasses.replace(
    old,
    classes=tuple("+".join(names) for names in members),
    palette=tuple(old.palette[old.classes.index(names[0])] for names in members),
  )
