"""PASCAL VOC 2012 segmentation (Everingham et al. 2010), also with the additional masks of SBD."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example


def color_map(count: int) -> tuple[decode.Color, ...]:
  """Returns the first `count` of PASCAL VOC's 256 colors, which are all different.

  Bits 0, 3, 6 of an index are the upper three bits of red, the highest first; bits 1, 4, 7 are
  those of green and bits 2, 5 those of blue.
  """

  def level(index: int, channel: int) -> int:
    return sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))

  return tuple((level(index, 0), level(index, 1), level(index, 2)) for index in range(count))


_CLASSES = tuple(
  "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
  "motorbike person pottedplant sheep sofa train tvmonitor".split()
)
_LABEL_BY_ID = {id: id for id in (*range(len(_CLASSES)), UNLABELED)}

# Names under which each split's list is distributed, in order of preference.
_LISTS = {
  "train": ("train.txt",),
  "val": ("val.txt",),
  "trainval": ("trainval.txt",),
  "train_aug": ("train_aug.txt", "trainaug.txt"),
}


@dataclasses.dataclass(frozen=True)
class PascalVoc(FileSource):
  """Source of PASCAL VOC: photos, 20 classes of objects and background; outlines are unlabeled.

  `train_aug` reads its masks from `SegmentationClassAug`: those that Hariharan et al. (2011) added,
  in the common list of 10582 names.  The other splits read `SegmentationClass` if that folder
  exists, else `SegmentationClassAug`, and provide `instance` if `SegmentationObject` exists.

  Attributes:
    root: Path of the folder `VOC2012`, or of the folder above it or above `VOCdevkit`.
    split: "train", "val", "trainval" or "train_aug".
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="pascal_voc",
    classes=_CLASSES,
    palette=color_map(len(_CLASSES)),
    splits=tuple(_LISTS),
    provides=frozenset({"label"}),
    ignored=frozenset({UNLABELED}),
  )
  marker_path: ClassVar[str] = "JPEGImages"
  subfolders: ClassVar[tuple[str, ...]] = ("VOC2012", "VOCdevkit/VOC2012")
  layout: ClassVar[str] = (
    "ROOT/JPEGImages/NAME.jpg, ROOT/SegmentationClass/NAME.png (train_aug: "
    "ROOT/SegmentationClassAug/NAME.png) and ROOT/ImageSets/Segmentation/SPLIT.txt with one NAME a "
    "line"
  )

  def __post_init__(self) -> None:
    """Reads the names, and adds `instance` to the descriptor if its folder exists."""
    super().__post_init__()
    if self.split != "train_aug" and (self.folder / "SegmentationObject").is_dir():
      provides = self.descriptor.provides | {"instance"}
      descriptor = dataclasses.replace(self.descriptor, provides=provides)
      object.__setattr__(self, "descriptor", descriptor)

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos in the order of its list.

    A line is a name or, as in some lists of `train_aug`, the paths of a photo and its mask.
    """
    paths = [f"ImageSets/Segmentation/{name}" for name in _LISTS[self.split]]
    path = next((path for path in paths if (self.folder / path).is_file()), paths[0])
    return tuple(_parse_name(line, self.folder / path) for line in self.read_list(path))

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo, its mask and, where provided, its map of instances."""
    name = self.names[index]
    files = {
      "image": self.folder / "JPEGImages" / f"{name}.jpg",
      "label": self.folder / self._masks / f"{name}.png",
    }
    if "instance" in self.descriptor.provides:
      files["instance"] = self.folder / "SegmentationObject" / f"{name}.png"
    return files

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, its labels and, where provided, its instances."""
    label = decode.read_labels(files["label"], _LABEL_BY_ID)
    example = {"image": decode.read_photo(files["image"]), "label": label}
    if "instance" in files:
      instance = decode.read_ids(files["instance"])
      example["instance"] = np.where(instance == UNLABELED, 0, instance)
    return example

  @functools.cached_property
  def _masks(self) -> str:
    published = self.split != "train_aug" and (self.folder / "SegmentationClass").is_dir()
    return "SegmentationClass" if published else "SegmentationClassAug"


def _parse_name(line: str, path: pathlib.Path) -> str:
  files = (pathlib.PurePosixPath(file).name for file in line.split())
  stems = {re.sub(r"\.(jpg|png)$", "", file) for file in files}
  if len(stems) > 1:
    raise ValueError(f"{path} has the line {line!r}; expected a name or a photo and its mask")
  return stems.pop()
