"""PASCAL-Context (Mottaghi et al. 2014): the photos of VOC 2010, wholly labeled, in 59 classes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import scipy  # Imports its modules at their first use.

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.image_files import check_exists
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example

# The owners' 59 most frequent classes, by their names in the list of all 459: 59_labels.txt calls
# three of them otherwise (diningtable, bedcloth, clothes for table, bedclothes, cloth).
_CLASSES = tuple(
  "aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat "
  "ceiling chair cloth computer cow cup curtain dog door fence floor flower food grass ground "
  "horse keyboard light motorbike mountain mouse person plate platform pottedplant road rock sheep "
  "shelves sidewalk sign sky snow sofa table track train tree truck tvmonitor wall water window "
  "wood".split()
)


@dataclasses.dataclass(frozen=True)
class PascalContext(FileSource):
  """Source of PASCAL-Context: photos of VOC 2010, labels of 59 classes; all others are unlabeled.

  Attributes:
    root: Path of the folder `VOC2010`, with the owners' `trainval` and `labels.txt` in it, or of
      the folder above it or above `VOCdevkit`.
    split: "train" (4998 photos) or "val" (5105).

  Raises:
    ValueError: The split is unknown or empty, or `labels.txt` lacks a class.
    FileNotFoundError: The folder, a list of names or `labels.txt` is missing.
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="pascal_context",
    classes=_CLASSES,
    palette=color_map(len(_CLASSES) + 1)[1:],
    splits=("train", "val"),
    provides=frozenset({"label"}),
  )
  marker_path: ClassVar[str] = "trainval"
  subfolders: ClassVar[tuple[str, ...]] = ("VOC2010", "VOCdevkit/VOC2010")
  layout: ClassVar[str] = (
    "ROOT/JPEGImages/NAME.jpg, ROOT/trainval/NAME.mat, ROOT/labels.txt and "
    "ROOT/ImageSets/Main/SPLIT.txt with one NAME a line"
  )

  def __post_init__(self) -> None:
    """Reads the names and the list of all classes."""
    super().__post_init__()
    _ = self.table  # A malformed list raises now, before a run starts.

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, in the order of its list."""
    return self.read_list(f"ImageSets/Main/{self.split}.txt")

  @functools.cached_property
  def table(self) -> Mapping[int, int]:
    """Label of each of the 459 ids, and of 0."""
    ids = {}
    for line in self.read_list("labels.txt"):
      id, _, name = line.partition(":")
      if not id.strip().isdecimal() or not name.strip():
        path = self.folder / "labels.txt"
        raise ValueError(f"{path} has the line {line!r}; expected a number, a colon and a name")
      ids[name.replace(" ", "")] = int(id)
    missing = [name for name in _CLASSES if name not in ids]
    if missing:
      raise ValueError(
        f"{self.folder / 'labels.txt'} lacks {', '.join(missing)}; expected 459 names"
      )
    table = dict.fromkeys((0, *ids.values()), UNLABELED)
    return table | {ids[name]: label for label, name in enumerate(_CLASSES)}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its map of ids."""
    name = self.names[index]
    return {
      "image": self.folder / "JPEGImages" / f"{name}.jpg",
      "label": self.folder / "trainval" / f"{name}.mat",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its labels."""
    label = decode.look_up_ids(_read_ids(files["label"]), self.table, files["label"])
    return {"image": decode.read_photo(files["image"]), "label": label}


def _read_ids(path: pathlib.Path) -> np.ndarray:
  """Reads a map of ids, (h, w), from a .mat file."""
  check_exists(path)
  try:
    ids = np.asarray(scipy.io.loadmat(path, variable_names=["LabelMap"])["LabelMap"])
  except Exception as error:  # What a parser raises on arbitrary bytes is arbitrary.
    raise ValueError(f"{path} has no LabelMap ({error}); expected a .mat file of ids") from error
  if ids.ndim != 2 or ids.dtype.kind not in "iuf" or (ids != ids.astype(np.int64)).any():
    raise ValueError(f"{path}: LabelMap is {ids.dtype}{ids.shape}; expected whole numbers (h, w)")
  return ids.astype(np.int64)
