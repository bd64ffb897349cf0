"""Stanford Background (Gould, Fulton and Koller 2009): 715 outdoor photos of eight classes."""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example

# Sizes of the parts in Luc et al. (2016), section 4, and in LoAd (2022), section 4.
_PARTITIONS = (
  {"luc_train": 573, "luc_test": 142},
  {"load_train": 400, "load_val": 172, "load_test": 143},
)
# Luc et al. train on seven eighths of their training photos and choose by the last one.
_FIT, _VAL = "luc_fit", "luc_val"
_PHOTOS = 715
_UNKNOWN = -1
_LABELS = {**{label: label for label in range(8)}, _UNKNOWN: UNLABELED}


@dataclasses.dataclass(frozen=True)
class StanfordBackground(FileSource):
  """Photos of about 320x240 pixels, every pixel labeled with what the scene consists of.

  The papers give the sizes of their parts, but not the names.  A list SPLIT.txt in the folder
  decides; without it the parts are those of `partition`, so that the numbers are comparable with
  published ones only up to the choice of images. "luc_fit" and "luc_val" are seven eighths and one
  eighth of "luc_train", on which Luc et al. train and by which they choose the final model.
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="stanford_background",
    classes=("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground"),
    palette=(
      (120, 180, 230),
      (40, 110, 50),
      (110, 100, 110),
      (130, 190, 80),
      (30, 70, 170),
      (180, 80, 60),
      (150, 120, 80),
      (240, 190, 40),
    ),
    splits=(_FIT, _VAL, *itertools.chain(*_PARTITIONS)),
    provides=frozenset({"label"}),
    ignored=frozenset({_UNKNOWN}),
  )
  marker_path: ClassVar[str] = "labels"
  subfolders: ClassVar[tuple[str, ...]] = ("iccv09Data",)
  layout: ClassVar[str] = (
    "ROOT/images/NAME.jpg, ROOT/labels/NAME.regions.txt and ROOT/horizons.txt with one NAME first "
    "in each of 715 lines, or ROOT/SPLIT.txt with one NAME a line"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos: in the order of its list, or sorted."""
    if (self.folder / f"{self.split}.txt").is_file():
      return self.read_list(f"{self.split}.txt")
    if self.split in (_FIT, _VAL):
      names = dataclasses.replace(self, split="luc_train").names
      val = round(len(names) / 8)
      return partition(names, {_FIT: len(names) - val, _VAL: val})[self.split]
    names = {line.split()[0] for line in self.read_list("horizons.txt")}
    if len(names) != _PHOTOS:
      raise ValueError(
        f"{self.folder / 'horizons.txt'} names {len(names)} photos; expected {_PHOTOS}, or a list "
        f"{self.split}.txt of the split's names beside it"
      )
    sizes = next(each for each in _PARTITIONS if self.split in each)
    return partition(names, sizes)[self.split]

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """A photo and its regions."""
    name = self.names[index]
    return {
      "image": self.folder / "images" / f"{name}.jpg",
      "label": self.folder / "labels" / f"{name}.regions.txt",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """The photo and its labels; any negative id is unlabeled."""
    raw = np.maximum(matrix(files["label"]), _UNKNOWN)
    label = decode.lookup(raw, _LABELS, files["label"])
    return {"image": decode.photo(files["image"]), "label": label}


def partition(names: Iterable[str], sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
  """Distributes names over parts by a shuffle that every machine and library repeats.

  The names are put in the order of the SHA-256 of their UTF-8 text and cut into runs.

  Args:
    names: distinct names, in any order.
    sizes: number of names of each part, in the order of the runs.

  Returns:
    The sorted names of each part.

  Raises:
    ValueError: the sizes do not add to the number of names.
  """
  order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
  if len(order) != sum(sizes.values()):
    raise ValueError(f"{len(order)} names cannot be cut into parts of {dict(sizes)}")
  rest = iter(order)
  return {part: tuple(sorted(itertools.islice(rest, size))) for part, size in sizes.items()}


def matrix(path: pathlib.Path) -> np.ndarray:
  """A text of whitespace-separated integers as int32, one row a line.

  Raises:
    ValueError: it holds no numbers or something else, or the rows differ in length.
  """
  rows = [line.split() for line in decode.lines(path)]
  if not rows:
    raise ValueError(f"{path} is empty; expected rows of integers")
  for number, row in enumerate(rows, 1):
    if len(row) != len(rows[0]):
      raise ValueError(
        f"{path} has {len(row)} numbers in row {number}; expected {len(rows[0])} as in row 1"
      )
  try:
    flat = np.array([int(each) for each in itertools.chain(*rows)], np.int32)
  except (ValueError, OverflowError) as error:
    raise ValueError(f"{path} holds no matrix ({error}); expected rows of integers") from error
  return flat.reshape(len(rows), -1)
