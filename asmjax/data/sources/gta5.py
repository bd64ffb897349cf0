"""GTA5 (Richter et al. 2016, "Playing for Data"): rendered street scenes in Cityscapes' classes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.sources import cityscapes
from asmjax.data.transforms import Example

_NUMBERS = range(1, 24967)
# Numbers of the images in each split; a part has 2500 images.
_SPLITS = {f"part{k + 1}": _NUMBERS[2500 * k : 2500 * (k + 1)] for k in range(10)}
_SPLITS["all"] = _NUMBERS

# Palette indices are Cityscapes' ids, except that license plates, which are -1 there, are 34.
_BY_ID = {row.id if row.id >= 0 else 34: row.label for row in cityscapes.LABELS}
# Where classes share a color, that of the trained class counts: a license plate is read as a car,
# a group of poles as a pole.  The gray (20, 20, 20) is another color of "static".
_BY_COLOR = {row.color: row.label for row in cityscapes.LABELS} | {(20, 20, 20): UNLABELED}
_BY_COLOR |= {row.color: row.label for row in cityscapes.TRAINED}


@dataclasses.dataclass(frozen=True)
class Gta5(FileSource):
  """Source of GTA5: rendered images of about 1914x1052 pixels with the 19 classes of Cityscapes.

  The splits `part1` to `part10` are the parts in which the images are published, of 2500 images
  each except the last; Ke et al. (2018) test on `part1`.  `all` has all parts.  A few published
  masks differ in size from their images; reading one raises ValueError.

  Attributes:
    root: Path of the folder with `images` and `labels`, or of the folder above it.
    split: "part1" to "part10", or "all".
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="gta5",
    classes=cityscapes.Cityscapes.descriptor.classes,
    palette=cityscapes.Cityscapes.descriptor.palette,
    splits=tuple(_SPLITS),
    provides=frozenset({"label"}),
    ignored=frozenset(id for id, label in _BY_ID.items() if label == UNLABELED),
  )
  marker_path: ClassVar[str] = "images"
  subfolders: ClassVar[tuple[str, ...]] = ("gta5", "GTA5")
  layout: ClassVar[str] = "ROOT/images/NUMBER.png and ROOT/labels/NUMBER.png, numbered from 00001"

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Numbers of the split's images, in five digits."""
    return tuple(f"{number:05d}" for number in _SPLITS[self.split])

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of an image and its mask."""
    name = f"{self.names[index]}.png"
    return {"image": self.folder / "images" / name, "label": self.folder / "labels" / name}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads an image and its mask, which has Cityscapes' ids (as a palette) or its colors."""
    label = decode.read_labels(files["label"], _BY_ID, _BY_COLOR)
    return {"image": decode.read_photo(files["image"]), "label": label}
