"""Sources made of other sources: kept in memory, with other classes, or only in part."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor, Source, check_index
from asmjax.data.transforms import Example

# NAME[FROM:TO] in numbers of examples or in percent, either of which may be missing.
_COUNT, _PERCENT = r"(-?\d+)?", r"(-?\d+(?:\.\d+)?%)?"
_SLICE = re.compile(rf"([^\[\]]+)\[(?:{_COUNT}:{_COUNT}|{_PERCENT}:{_PERCENT})\]")


class InMemory:
  """A source that keeps every decoded example in memory after its first use.

  Two threads may decode the same example at once; both results are equal and either is kept.
  The arrays are read-only: a transform that wrote into them would change later epochs.  A copy
  that is sent to another process starts empty.
  """

  def __init__(self, source: Source) -> None:
    """Wraps `source`; nothing is read yet."""
    self.descriptor: Descriptor = source.descriptor
    self.split: str = source.split
    self._source = source
    self._examples: dict[int, Example] = {}

  def __len__(self) -> int:
    """Number of examples."""
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    """Example `index`, decoded at most once if read by one thread."""
    if index not in self._examples:
      example = self._source[index]
      for value in example.values():
        value.setflags(write=False)
      self._examples[index] = example
    return dict(self._examples[index])

  def __getstate__(self) -> dict:
    return {**self.__dict__, "_examples": {}}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key."""
    return self._source.files(index)


class RemapClasses:
  """A source whose classes are renumbered, joined or left out.

  The new classes take the colors and, joined by "+", the names of the old ones.
  """

  def __init__(self, source: Source, classes: Mapping[str, int]) -> None:
    """Wraps `source`.

    Args:
      source: has labels.
      classes: new id by the name of the old class; whatever is not named becomes unlabeled.

    Raises:
      ValueError: a class that `source` does not have, or new ids that are not 0, 1, 2, ...
    """
    self.descriptor = remap_descriptor(source.descriptor, classes)
    self.split: str = source.split
    self._source = source
    self._classes = dict(classes)

  def __len__(self) -> int:
    """Number of examples."""
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    """Example `index` with its new labels."""
    example = self._source[index]
    return {**example, "label": self._table[example["label"]]}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key."""
    return self._source.files(index)

  @functools.cached_property
  def _table(self) -> np.ndarray:
    """The new label of each old one, int32 (256,)."""
    table = np.full(256, UNLABELED, np.int32)
    for name, label in self._classes.items():
      table[self._source.descriptor.classes.index(name)] = label
    return table


class SelectKeys:
  """A source that gives only some kinds of truth: what is not wanted need not be transformed."""

  def __init__(self, source: Source, keys: Iterable[str]) -> None:
    """Keeps `image` and those of `keys` that `source` provides."""
    kept = source.descriptor.provides & frozenset(keys)
    self.descriptor = dataclasses.replace(source.descriptor, provides=kept)
    self.split: str = source.split
    self._source = source

  def __len__(self) -> int:
    """Number of examples."""
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    """Example `index` without the rest."""
    kept = self.descriptor.provides | {"image"}
    return {key: value for key, value in self._source[index].items() if key in kept}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key."""
    return self._source.files(index)


class Subset:
  """Some examples of a source."""

  def __init__(self, source: Source, indices: Sequence[int], split: str | None = None) -> None:
    """Takes the examples `indices` of `source`, in this order; `split` names them."""
    self.descriptor: Descriptor = source.descriptor
    self.split: str = split or source.split
    self._source = source
    self._indices = tuple(indices)

  def __len__(self) -> int:
    """Number of examples."""
    return len(self._indices)

  def __getitem__(self, index: int) -> Example:
    """Example `index` of those that were taken."""
    check_index(index, len(self))
    return self._source[self._indices[index]]

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key."""
    return self._source.files(self._indices[index])


def open_split(open_full: Callable[[str], Source], split: str) -> Source:
  """Opens a split, or the slice of one that `NAME[FROM:TO]` names, as TFDS writes it.

  Boundaries are numbers of examples or percentages, negative ones count from the end, and
  percentages are rounded to the closest example: the slices `train[:80%]` and `train[80%:]` have
  every example of `train` once.

  Args:
    open_full: Opens a split by its name.
    split: Name of a split, or a slice such as "train[:80%]", "train[100:]" or "train[-20%:]".

  Returns:
    The examples, in their order; `split` of the source is `split`.

  Raises:
    ValueError: The slice is malformed, empty or reaches beyond the split.
  """
  if "[" not in split:
    return open_full(split)
  parts = _SLICE.fullmatch(split)
  if not parts:
    raise ValueError(
      f"malformed slice {split!r}; expected NAME[FROM:TO] with numbers of examples or percentages, "
      "as train[:80%], train[100:200] or train[-20%:]"
    )
  name, *bounds = parts.groups()
  source = open_full(name)
  length = len(source)
  start, stop = (
    _position(count or percent or default, length, split)
    for count, percent, default in zip(bounds[:2], bounds[2:], ("0", "100%"), strict=True)
  )
  if start >= stop:
    raise ValueError(f"slice {split!r} is empty: examples {start} to {stop} of {length}")
  return Subset(source, range(start, stop), split)


def base_split(split: str) -> str:
  """Returns the name of the split that a slice is of, and any other name as it is."""
  parts = _SLICE.fullmatch(split)
  return parts[1] if parts else split


def _position(bound: str, length: int, split: str) -> int:
  """Index of a boundary from the start of a split with `length` examples."""
  if bound.endswith("%"):
    index = round(float(bound[:-1]) * length / 100)
  else:
    index = int(bound)
  if abs(index) > length:
    raise ValueError(f"slice {split!r} reaches beyond the {length} examples of the split")
  return index + length if bound.startswith("-") else index


def drop_unreadable(source: Source, on_skip: Callable[[str], None]) -> Source:
  """The examples of a source that can be read; reads all of them, in threads.

  Args:
    source: should not cache.
    on_skip: called with what is wrong with each of the others.
  """

  def fault(index: int) -> str | None:
    try:
      source[index]
    except (OSError, ValueError) as error:
      return str(error)

  with ThreadPoolExecutor() as pool:
    faults = list(pool.map(fault, range(len(source))))
  for each in filter(None, faults):
    on_skip(each)
  return Subset(source, [index for index, each in enumerate(faults) if each is None])


def remap_descriptor(old: Descriptor, classes: Mapping[str, int]) -> Descriptor:
  """The facts about a `RemapClasses` source, from those about the source itself.

  Raises:
    ValueError: see `RemapClasses`.
  """
  unknown = [name for name in classes if name not in old.classes]
  if unknown:
    raise ValueError(
      f"{old.name} has no class {unknown[0]!r}; known: {', '.join(old.classes) or 'none'}"
    )
  ids = sorted(set(classes.values()))
  if ids != list(range(len(ids))):
    raise ValueError(f"new ids {ids} of classes of {old.name}: expected 0, 1, 2, ... without gaps")
  members = [[name for name in old.classes if classes.get(name) == label] for label in ids]
  return Descriptor(
    name=old.name,
    classes=tuple("+".join(names) for names in members),
    palette=tuple(old.palette[old.classes.index(names[0])] for names in members),
    splits=old.splits,
    provides=old.provides,
    ignored=old.ignored,
  )
