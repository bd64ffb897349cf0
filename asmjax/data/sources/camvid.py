"""CamVid (Brostow et al. 2009): 701 frames of street scenes, in the 11 classes of SegNet."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example

# The classes of Badrinarayanan et al. (2017), and the published colors that each has: its own, by
# which it is shown, comes first.  Of the 32 published names only Void has none.
_COLORS: dict[str, tuple[decode.Color, ...]] = {
  "sky": ((128, 128, 128),),
  # Building, Bridge, Wall, Tunnel, Archway.
  "building": ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)),
  "pole": ((192, 192, 128), (0, 0, 64)),  # Column_Pole, TrafficCone.
  # Road, LaneMkgsDriv, LaneMkgsNonDriv.
  "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
  # Sidewalk, ParkingBlock, RoadShoulder.
  "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
  "tree": ((128, 128, 0), (192, 192, 0)),  # Tree, VegetationMisc.
  # SignSymbol, Misc_Text, TrafficLight.
  "sign symbol": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
  "fence": ((64, 64, 128),),
  # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving.
  "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
  # Pedestrian, Child, CartLuggagePram, Animal.
  "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
  "bicyclist": ((0, 128, 192), (192, 0, 192)),  # Bicyclist, MotorcycleScooter.
}
_VOID = (0, 0, 0)
_BY_COLOR = {_VOID: UNLABELED} | {
  color: label for label, colors in enumerate(_COLORS.values()) for color in colors
}
# Ids of SegNet's masks: the classes in this order, then 11, which is unlabeled.
_BY_ID = {label: label for label in range(len(_COLORS))} | {len(_COLORS): UNLABELED}

_PUBLISHED = "701_StillsRaw_full"


@dataclasses.dataclass(frozen=True)
class CamVid(FileSource):
  """Source of CamVid: frames of street scenes, labels of 11 classes.

  Reads the data set as published, 960x720 with masks of 32 colors, which are joined to SegNet's 11
  classes, or SegNet's copy, 480x360 with masks of ids.  The owners give no splits: those of SegNet
  (367 frames, 101 and 233) come with its copy.

  Attributes:
    root: Path of the folder with `701_StillsRaw_full`, or of SegNet's folder, or the one above.
    split: "train", "val" or "test".
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="camvid",
    classes=tuple(_COLORS),
    palette=tuple(colors[0] for colors in _COLORS.values()),
    splits=("train", "val", "test"),
    provides=frozenset({"label"}),
    ignored=frozenset({len(_COLORS)}),
  )
  subfolders: ClassVar[tuple[str, ...]] = ("CamVid",)
  layout: ClassVar[str] = (
    f"ROOT/{_PUBLISHED}/NAME.png, ROOT/LabeledApproved_full/NAME_L.png and ROOT/SPLIT.txt with one "
    "NAME a line, or SegNet's ROOT/SPLIT/NAME.png and ROOT/SPLITannot/NAME.png"
  )

  @property
  def marker_path(self) -> str:
    """Path of the frames as published if they are there, else of SegNet's masks."""
    root = pathlib.Path(self.root).expanduser()
    folders = (root, *(root / path for path in self.subfolders))
    published = any((folder / _PUBLISHED).is_dir() for folder in folders)
    return _PUBLISHED if published else f"{self.split}annot"

  @property
  def _is_published(self) -> bool:
    return (self.folder / _PUBLISHED).is_dir()

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's frames: in the order of its list, or sorted in SegNet's copy."""
    if not self._is_published:
      return self.find_names(f"{self.split}/*.png")
    # A line may be a path, or that of a frame and its mask, as in SegNet's lists.
    lines = self.read_list(f"{self.split}.txt")
    return tuple(pathlib.PurePosixPath(line.split()[0]).stem for line in lines)

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a frame and its mask."""
    name = self.names[index]
    if self._is_published:
      mask = self.folder / "LabeledApproved_full" / f"{name}_L.png"
      return {"image": self.folder / _PUBLISHED / f"{name}.png", "label": mask}
    photos, masks = self.folder / self.split, self.folder / f"{self.split}annot"
    return {"image": photos / f"{name}.png", "label": masks / f"{name}.png"}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a frame and its mask of colors or ids."""
    mask = files["label"]
    label = (
      decode.read_color_labels(mask, _BY_COLOR)
      if self._is_published
      else decode.read_labels(mask, _BY_ID)
    )
    return {"image": decode.read_photo(files["image"]), "label": label}
