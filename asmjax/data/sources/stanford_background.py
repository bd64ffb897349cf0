"""Stanford Background (Gould, Fulton and Koller 2009): 715 outdoor photos of eight classes."""

import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example

# Sizes of the splits in Luc et al. (2016), section 4, and in LoAd (2022), section 4.
_PARTITIONS = (
  {"luc_train": 573, "luc_test": 142},
  {"load_train": 400, "load_val": 172, "load_test": 143},
)
# Luc et al. train on seven eighths of their training photos and select the model on the last one.
_FIT, _VAL = "luc_fit", "luc_val"
_PHOTOS = 715
_COLORS = {
  "sky": (120, 180, 230),
  "tree": (40, 110, 50),
  "road": (110, 100, 110),
  "grass": (130, 190, 80),
  "water": (30, 70, 170),
  "building": (180, 80, 60),
  "mountain": (150, 120, 80),
  "foreground": (240, 190, 40),
}
_UNKNOWN = -1
_LABEL_BY_ID = {**{label: label for label in range(8)}, _UNKNOWN: UNLABELED}


@dataclasses.dataclass(frozen=True)
class StanfordBackground(FileSource):
  """Source of Stanford Background: photos of about 320x240 pixels, labeled with eight classes.

  The papers give the sizes of their splits, but not the names.  A split is read from the list
  SPLIT.txt in the folder; without it, `partition` draws the splits, and results are comparable with
  published ones only up to the choice of images.  "luc_fit" and "luc_val" are seven eighths and one
  eighth of "luc_train", on which Luc et al. train and select the final model, respectively.

  Attributes:
    root: Path of the folder `iccv09Data`, or of the folder above it.
    split: "luc_train", "luc_test", "luc_fit" or "luc_val" (Luc et al. 2016), or "load_train",
      "load_val" or "load_test" (LoAd).
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="stanford_background",
    classes=tuple(_COLORS),
    palette=tuple(_COLORS.values()),
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
    """Names of the split's photos, in the order of its list, or sorted without one."""
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
    sizes = next(sizes for sizes in _PARTITIONS if self.split in sizes)
    return partition(names, sizes)[self.split]

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its map of regions."""
    name = self.names[index]
    return {
      "image": self.folder / "images" / f"{name}.jpg",
      "label": self.folder / "labels" / f"{name}.regions.txt",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its labels; negative ids are unlabeled."""
    ids = np.maximum(read_matrix(files["label"]), _UNKNOWN)
    label = decode.look_up_ids(ids, _LABEL_BY_ID, files["label"])
    return {"image": decode.read_photo(files["image"]), "label": label}


def partition(names: Iterable[str], sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
  """Distributes names over parts by a shuffle that is the same on every machine.

  The names are sorted by the SHA-256 digest of their UTF-8 text, which no library's random
  generator can change, and cut into runs of the given sizes; each part is sorted.

  Raises:
    ValueError: The sizes do not add to the number of names.
  """
  order = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
  if len(order) != sum(sizes.values()):
    raise ValueError(f"{len(order)} names cannot be cut into parts of {dict(sizes)}")
  names = iter(order)
  return {part: tuple(sorted(itertools.islice(names, size))) for part, size in sizes.items()}


def read_matrix(path: pathlib.Path) -> np.ndarray:
  """Reads a matrix of whitespace-separated integers, one row per line, as int32.

  Raises:
    ValueError: The file is empty, has other text than integers, or rows that differ in length.
  """
  rows = [line.split() for line in decode.read_lines(path)]
  if not rows:
    raise ValueError(f"{path} is empty; expected rows of integers")
  for number, row in enumerate(rows, 1):
    if len(row) != len(rows[0]):
      raise ValueError(
        f"{path} has {len(row)} numbers in row {number}; expected {len(rows[0])} as in row 1"
      )
  try:
    return np.array([[int(cell) for cell in row] for row in rows], np.int32)
  except (ValueError, OverflowError) as error:
    raise ValueError(f"{path} holds no matrix ({error}); expected rows of integers") from error
