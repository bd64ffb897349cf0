"""Cityscapes (Cordts et al. 2016): street scenes of 50 cities with fine masks of 19 classes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example


class Label(NamedTuple):
  """Row of the official table of classes (labels.py of cityscapesScripts).

  Attributes:
    id: Id of the class in the masks; -1 occurs in none.
    name: Official name.
    label: Official training id; `UNLABELED` for a class that is neither trained nor evaluated.
    color: Official color, (r, g, b) in 0..255, which some rows share.
  """

  id: int
  name: str
  label: int
  color: decode.Color


LABELS = (
  Label(-1, "license plate", UNLABELED, (0, 0, 142)),
  Label(0, "unlabeled", UNLABELED, (0, 0, 0)),
  Label(1, "ego vehicle", UNLABELED, (0, 0, 0)),
  Label(2, "rectification border", UNLABELED, (0, 0, 0)),
  Label(3, "out of roi", UNLABELED, (0, 0, 0)),
  Label(4, "static", UNLABELED, (0, 0, 0)),
  Label(5, "dynamic", UNLABELED, (111, 74, 0)),
  Label(6, "ground", UNLABELED, (81, 0, 81)),
  Label(7, "road", 0, (128, 64, 128)),
  Label(8, "sidewalk", 1, (244, 35, 232)),
  Label(9, "parking", UNLABELED, (250, 170, 160)),
  Label(10, "rail track", UNLABELED, (230, 150, 140)),
  Label(11, "building", 2, (70, 70, 70)),
  Label(12, "wall", 3, (102, 102, 156)),
  Label(13, "fence", 4, (190, 153, 153)),
  Label(14, "guard rail", UNLABELED, (180, 165, 180)),
  Label(15, "bridge", UNLABELED, (150, 100, 100)),
  Label(16, "tunnel", UNLABELED, (150, 120, 90)),
  Label(17, "pole", 5, (153, 153, 153)),
  Label(18, "polegroup", UNLABELED, (153, 153, 153)),
  Label(19, "traffic light", 6, (250, 170, 30)),
  Label(20, "traffic sign", 7, (220, 220, 0)),
  Label(21, "vegetation", 8, (107, 142, 35)),
  Label(22, "terrain", 9, (152, 251, 152)),
  Label(23, "sky", 10, (70, 130, 180)),
  Label(24, "person", 11, (220, 20, 60)),
  Label(25, "rider", 12, (255, 0, 0)),
  Label(26, "car", 13, (0, 0, 142)),
  Label(27, "truck", 14, (0, 0, 70)),
  Label(28, "bus", 15, (0, 60, 100)),
  Label(29, "caravan", UNLABELED, (0, 0, 90)),
  Label(30, "trailer", UNLABELED, (0, 0, 110)),
  Label(31, "train", 16, (0, 80, 100)),
  Label(32, "motorcycle", 17, (0, 0, 230)),
  Label(33, "bicycle", 18, (119, 11, 32)),
)
TRAINED = tuple(row for row in LABELS if row.label != UNLABELED)

LABEL_BY_ID = {row.id: row.label for row in LABELS if row.id >= 0}
_PHOTO = "_leftImg8bit.png"


@dataclasses.dataclass(frozen=True)
class Cityscapes(FileSource):
  """Source of Cityscapes: photos of 2048x1024 pixels, labels of 19 classes, instances of things.

  There is no split `test`: its published masks are void.  A group of things that the annotators
  did not separate has no instance.

  Attributes:
    root: Path of the folder with `leftImg8bit` and `gtFine`, or of the folder above it.
    split: "train" or "val".
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="cityscapes",
    classes=tuple(row.name for row in TRAINED),
    palette=tuple(row.color for row in TRAINED),
    splits=("train", "val"),
    provides=frozenset({"label", "instance"}),
    ignored=frozenset(row.id for row in LABELS if row.label == UNLABELED),
  )
  marker_path: ClassVar[str] = "leftImg8bit"
  subfolders: ClassVar[tuple[str, ...]] = ("cityscapes",)
  layout: ClassVar[str] = (
    "ROOT/leftImg8bit/SPLIT/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png and, with the same start, "
    "ROOT/gtFine/SPLIT/CITY/*_gtFine_labelIds.png and *_gtFine_instanceIds.png"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names CITY/CITY_SEQUENCE_FRAME of the split's photos, sorted."""
    return self.find_names(f"leftImg8bit/{self.split}/*/*{_PHOTO}")

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo, its mask and its map of instances."""
    name = f"{self.split}/{self.names[index]}"
    return {
      "image": self.folder / "leftImg8bit" / f"{name}{_PHOTO}",
      "label": self.folder / "gtFine" / f"{name}_gtFine_labelIds.png",
      "instance": self.folder / "gtFine" / f"{name}_gtFine_instanceIds.png",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, its labels and its instances."""
    label = decode.read_labels(files["label"], LABEL_BY_ID)
    # The id of an instance is 1000 times that of its class, plus a number; all other pixels have
    # the id of their class, which is below 1000.
    instance = decode.read_ids(files["instance"])
    return {
      "image": decode.read_photo(files["image"]),
      "label": label,
      "instance": np.where(instance < 1000, 0, instance),
    }
