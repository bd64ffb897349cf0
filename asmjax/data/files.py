"""What all data sets share that lie in a folder as their owners publish them."""

import abc
import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor, Source, check_index, check_split
from asmjax.data.transforms import Example


@dataclasses.dataclass(frozen=True)
class FileSource(abc.ABC):
  """One split of a data set in a folder.

  A subclass says what the folder looks like (`marker_path`, `subfolders`, `layout`), which examples
  the split has (`names`), which files hold one (`files`) and how they are read (`read`).

  Attributes:
    root: the data set's folder, or one above it.
    split: one of the descriptor's splits.

  Raises:
    ValueError: no root, an unknown split, or a split without examples or with a name twice.
    FileNotFoundError: the folder does not look as it should, or a list of names is missing.
  """

  root: str
  split: str

  descriptor: ClassVar[Descriptor]
  marker_path: ClassVar[str]  # A path in the data set's folder by which it is recognized.
  subfolders: ClassVar[tuple[str, ...]] = ()  # Where it lies below a folder above it.
  layout: ClassVar[str]  # What is expected in the folder, for messages.

  def __post_init__(self) -> None:
    """Reads the names; opens no image."""
    check_split(self.split, self.descriptor.splits)
    where = f"split {self.split!r} of {self.descriptor.name} in {self.folder}"
    if not self.names:
      raise ValueError(f"{where} is empty; expected {self.layout}")
    twice = [name for name, times in collections.Counter(self.names).items() if times > 1]
    if twice:
      raise ValueError(f"{where} has {twice[0]!r} twice; expected every name once")

  @property
  @abc.abstractmethod
  def names(self) -> tuple[str, ...]:
    """Names of the split's examples, in order."""

  @abc.abstractmethod
  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of the files that hold example `index`, by key."""

  @abc.abstractmethod
  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """The example that is in `files`."""

  def read_list(self, path: str) -> tuple[str, ...]:
    """The lines of a list at `path` in the data set's folder; see `asmjax.data.decode.lines`."""
    decode.check_exists(self.folder / path, f"expected {self.layout}")
    return decode.lines(self.folder / path)

  def __len__(self) -> int:
    """Returns the number of examples."""
    return len(self.names)

  def __getitem__(self, index: int) -> Example:
    """Example `index`; see `asmjax.data.descriptor.Source`."""
    check_index(index, len(self))
    files = self.files(index)
    example = self.read(files)
    height, width = example["image"].shape[:2]
    for key, value in example.items():
      if value.shape[:2] != (height, width):
        found = f"{value.shape[0]}x{value.shape[1]} (height x width)"
        raise ValueError(
          f"{files.get(key, files['image'])} is {found}; "
          f"expected {height}x{width} as {files['image']}"
        )
    return example

  @functools.cached_property
  def folder(self) -> pathlib.Path:
    """The data set's folder: `root` or, below it, the first of `subfolders` with the marker."""
    expected = f"expected {self.layout}"
    if not self.root:
      raise ValueError(f"data.root is {self.root!r}: set it to {self.descriptor.name}; {expected}")
    root = pathlib.Path(self.root).expanduser()
    if not root.is_dir():
      raise FileNotFoundError(f"data.root {root} is no folder; {expected}")
    for folder in (root, *(root / each for each in self.subfolders)):
      if (folder / self.marker_path).exists():
        return folder
    raise FileNotFoundError(f"{root / self.marker_path} does not exist; {expected}")


def check_files(source: Source) -> None:
  """Looks for every file of a source, but opens none.

  Raises:
    FileNotFoundError: naming the first few that are missing, and how many there are.
  """
  present: dict[pathlib.Path, set[str]] = {}
  missing = []
  for index in range(len(source)):
    for path in source.files(index).values():
      if path.parent not in present:
        present[path.parent] = _files_in(path.parent)
      if path.name not in present[path.parent]:
        missing.append(path)
  if missing:
    raise FileNotFoundError(
      f"split {source.split!r} of {source.descriptor.name} lacks {len(missing)} files: "
      + ", ".join(map(str, missing[:5]))
      + (", ..." if len(missing) > 5 else "")
    )


def _files_in(folder: pathlib.Path) -> set[str]:
  if not folder.is_dir():
    return set()
  with os.scandir(folder) as entries:  # Tells files from folders without asking for each.
    return {entry.name for entry in entries if entry.is_file()}
