"""Base class of data sets that are read from a folder as their owners publish them."""

import abc
import collections
import dataclasses
import functools
import glob
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from asmjax.data import decode, image_files
from asmjax.data.descriptor import Descriptor, Source, check_index, check_split
from asmjax.data.transforms import Example

# What the name of a split replaces in the paths of a source.
SPLIT = "{split}"


@dataclasses.dataclass(frozen=True)
class FileSource(abc.ABC):
  """Source of one split of a data set in a folder.

  A subclass defines the folder's layout (`marker_path`, `subfolders`, `layout`), the split's
  examples (`names`), the files of an example (`files`) and how they are read (`read`).

  Attributes:
    root: Path of the data set's folder, or of the folder above `subfolders`.
    split: Name of the split, one of the descriptor's.
    descriptor: Descriptor of the data set.
    marker_path: Path below the data set's folder whose existence identifies the folder.
    subfolders: Paths below `root` at which the data set's folder may lie; none by default.
    layout: Description of the expected folder, for error messages.

  Raises:
    ValueError: The root is empty, or the split is unknown, has no examples or has a name twice.
    FileNotFoundError: The folder lacks the marker, or a list of names is missing.
  """

  root: str
  split: str

  descriptor: ClassVar[Descriptor]
  marker_path: ClassVar[str]
  subfolders: ClassVar[tuple[str, ...]] = ()
  layout: ClassVar[str]

  def __post_init__(self) -> None:
    """Reads and checks the names; opens no image."""
    check_split(self.split, self.descriptor.splits)
    where = f"split {self.split!r} of {self.descriptor.name} in {self.folder}"
    if not self.names:
      raise ValueError(f"{where} is empty; expected {self.layout}")
    name, times = collections.Counter(self.names).most_common(1)[0]
    if times > 1:
      raise ValueError(f"{where} has {name!r} twice; expected every name once")

  @property
  @abc.abstractmethod
  def names(self) -> tuple[str, ...]:
    """Names of the split's examples, in order."""

  @abc.abstractmethod
  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of the files that hold example `index`, by key."""

  @abc.abstractmethod
  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads an example from its files, whose paths `files` gives."""

  def read_list(self, path: str) -> tuple[str, ...]:
    """Reads the lines of a text file, without blank ones; `path` is relative to the folder."""
    image_files.check_exists(self.folder / path, f"expected {self.layout}")
    return decode.read_lines(self.folder / path)

  def find_names(self, pattern: str) -> tuple[str, ...]:
    """Returns the names of the files that a pattern finds, sorted, without their common end.

    Args:
      pattern: Pattern of paths below the folder, as "images/*/*_photo.png", in which stars alone
        are special. A name is what they stand for, joined by "/" as in the path. Hidden files have
        none.
    """
    before, _, end = pattern.rpartition("*")
    top = self.folder / before.partition("*")[0]
    files = (path for path in _glob(self.folder, pattern) if not path.name.startswith("."))
    return tuple(sorted(file.relative_to(top).as_posix().removesuffix(end) for file in files))

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: int) -> Example:
    """Returns example `index` as a dict of arrays; see `asmjax.data.descriptor.Source`."""
    check_index(index, len(self))
    files = self.files(index)
    example = self.read(files)
    height, width = example["image"].shape[:2]
    for key, value in example.items():
      if value.shape[:2] != (height, width):
        raise ValueError(
          f"{files.get(key, files['image'])} is {value.shape[0]}x{value.shape[1]} (height x width);"
          f" expected {height}x{width} as {files['image']}"
        )
    return example

  @functools.cached_property
  def folder(self) -> pathlib.Path:
    """Path of the data set's folder: `root`, or the first of `subfolders` with the marker."""
    expected = f"expected {self.layout}"
    if not self.root:
      raise ValueError(
        f"data.root is {self.root!r}; set --config.data.root=FOLDER, of a sweep "
        f"--set=data.root=FOLDER, the folder of the data set {self.descriptor.name!r}; {expected}"
      )
    root = pathlib.Path(self.root).expanduser()
    if not root.is_dir():
      raise FileNotFoundError(f"data.root {root} is no folder; {expected}")
    for folder in (root, *(root / path for path in self.subfolders)):
      if os.path.lexists(folder / self.marker_path):
        return folder
    raise FileNotFoundError(f"{root / self.marker_path} does not exist; {expected}")


def find_splits(folder: pathlib.Path, pattern: str, option: str) -> list[str]:
  """Finds the values of `{split}` for which a path exists.

  Args:
    folder: Path of the data set's folder.
    pattern: Path below the folder, with `{split}` in it at least once.
    option: Name of the source's option that holds the pattern, for error messages.

  Raises:
    ValueError: The pattern is no path below the folder, or lacks `{split}`.
  """
  pattern = str(pathlib.PurePosixPath(pattern))  # Without "./" and a last "/".
  if pattern.startswith("/"):
    raise ValueError(f"{option} is {pattern!r}; expected a path below data.root")
  before, *after = map(re.escape, pattern.split(SPLIT))
  if not after:
    raise ValueError(f"{option} is {pattern!r}; expected {SPLIT} in it")
  # Wherever else `{split}` occurs, its value must be the same.
  regex = re.compile(before + "([^/]+)" + r"\1".join(after))
  paths = _glob(folder, pattern.replace(SPLIT, "*"))
  matches = (regex.fullmatch(path.relative_to(folder).as_posix()) for path in paths)
  return sorted(match[1] for match in matches if match)


def _glob(folder: pathlib.Path, pattern: str) -> Iterator[pathlib.Path]:
  """Finds paths below a folder; only stars of the pattern are special, no brackets of a name."""
  return folder.glob("*".join(map(glob.escape, pattern.split("*"))))


def check_fold(fold: int, folds: int) -> None:
  """Raises ValueError unless there is such a fold."""
  if not 0 <= fold < folds or folds < 2:
    raise ValueError(f"fold={fold}, folds={folds}; expected at least 2 folds, and 0 to folds - 1")


def select_fold(names: Sequence[str], split: str, *, fold: int, folds: int) -> list[str]:
  """Selects the names of a split of one folder, in their order.

  "val" has one of several parts of about equal size, "train" the others, "all" all names. An order
  that the names alone decide makes the parts: neighbors in a sequence of frames, which are alike,
  are spread over all of them.

  Args:
    names: Names of all files in the folder.
    split: Name of the split: "train", "val" or "all".
    fold: Part that "val" has, from 0.
    folds: Number of parts.
  """
  if split == "all":
    return list(names)
  order = sorted(names, key=lambda name: hashlib.md5(os.fsencode(name)).digest())
  chosen = set(order[fold::folds])
  return [name for name in names if (name in chosen) == (split == "val")]


def check_files(source: Source) -> None:
  """Checks that every file of a source exists; opens none.

  Raises:
    FileNotFoundError: Files are missing; the message gives their number and names the first five.
  """
  present: dict[pathlib.Path, set[str]] = {}
  missing = []
  for index in range(len(source)):
    for path in source.files(index).values():
      if path.parent not in present:
        present[path.parent] = _list_files(path.parent)
      if path.name not in present[path.parent]:
        missing.append(path)
  if missing:
    raise FileNotFoundError(
      f"split {source.split!r} of {source.descriptor.name} lacks {len(missing)} files: "
      + ", ".join(map(_describe_missing, missing[:5]))
      + (", ..." if len(missing) > 5 else "")
    )


def _describe_missing(path: pathlib.Path) -> str:
  kind = image_files.describe_kind(path)
  return f"{path} ({kind})" if kind else str(path)


def _list_files(folder: pathlib.Path) -> set[str]:
  if not folder.is_dir():
    return set()
  with os.scandir(folder) as entries:
    return {entry.name for entry in entries if _is_file(entry)}


def _is_file(entry: os.DirEntry[str]) -> bool:
  try:
    return entry.is_file()  # Types are listed with the names: no system call per file.
  except OSError:  # A link to itself.
    return False
