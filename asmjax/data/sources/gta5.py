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

_IMAGES, _PART = 24966, 2500
_PARTS = {
  f"part{index + 1}": range(start + 1, min(start + _PART, _IMAGES) + 1)
  for index, start in enumerate(range(0, _IMAGES, _PART))
}
_NUMBERS = {**_PARTS, "all": range(1, _IMAGES + 1)}

# Palette indices are Cityscapes' ids, but license plates, which have none there, are 34.
_BY_ID = {each.id if each.id >= 0 else 34: each.label for each in cityscapes.LABELS}
# In colors alone a license plate is a car, and a group of poles a pole.  The gray is "static".
_BY_COLOR = {each.color: each.label for each in cityscapes.LABELS} | {(20, 20, 20): UNLABELED}
_BY_COLOR |= {each.color: each.label for each in cityscapes.TRAINED}


@dataclasses.dataclass(frozen=True)
class Gta5(FileSource):
  """Rendered photos of about 1914x1052 pixels with the 19 classes of Cityscapes.

  The splits `part1` .. `part10` are the parts in which the images are published, of 2500 each but
  for the last; Ke et al. (2018) test on `part1`.  `all` are all parts.  A few published masks are
  not of their photo's size; reading one raises ValueError.
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="gta5",
    classes=tuple(each.name for each in cityscapes.TRAINED),
    palette=tuple(each.color for each in cityscapes.TRAINED),
    splits=tuple(_NUMBERS),
    provides=frozenset({"label"}),
    ignored=frozenset(id for id, label in _BY_ID.items() if label == UNLABELED),
  )
  marker_path: ClassVar[str] = "images"
  subfolders: ClassVar[tuple[str, ...]] = ("gta5", "GTA5")
  layout: ClassVar[str] = "ROOT/images/NUMBER.png and ROOT/labels/NUMBER.png, numbered from 00001"

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """The numbers of the split's photos, in five digits."""
    return tuple(f"{number:05d}" for number in _NUMBERS[self.split])

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """A photo and its mask."""
    name = f"{self.names[index]}.png"
    return {"image": self.folder / "images" / name, "label": self.folder / "labels" / name}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """The photo and its mask, which has Cityscapes' ids as a palette or its colors."""
    label = decode.labels(files["label"], _BY_ID, _BY_COLOR)
    return {"image": decode.photo(files["image"]), "label": label}
