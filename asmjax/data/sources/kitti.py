"""KITTI (Geiger et al. 2012): depths of driving scenes by a laser scanner, and semantic masks."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource, check_fold, select_fold
from asmjax.data.sources.cityscapes import LABEL_BY_ID, Cityscapes
from asmjax.data.transforms import Example

# Steps of depth per meter in the published files.
_STEPS_PER_METER = 256
_SELECTION = "depth_selection/val_selection_cropped"


@dataclasses.dataclass(frozen=True)
class KittiDepth(FileSource):
  """Source of KITTI's depth maps (Uhrig et al. 2017): sparse depths in meters.

  Depths of a laser scanner, of eleven scans each, are at about a sixth of the pixels, none in the
  sky.

  Attributes:
    root: Path of the folder with `train`, `val` or `depth_selection`, and with the raw drives.
    split: "train", "val", or "val_selection" with 1000 photos of 1216x352.
    raw: Path, below `root`, of the folder with the raw drives by date; `root` itself by default.
  """

  raw: str = "."

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="kitti_depth",
    classes=(),
    palette=(),
    splits=("train", "val", "val_selection"),
    provides=frozenset({"depth"}),
  )
  layout: ClassVar[str] = (
    "ROOT/SPLIT/DRIVE/proj_depth/groundtruth/image_02/NUMBER.png for SPLIT in train, val, with "
    "photos ROOT/DATE/DRIVE/image_02/data/NUMBER.png (image_03 alike), or ROOT/"
    f"{_SELECTION}/image and groundtruth_depth"
  )

  @property
  def marker_path(self) -> str:
    """Path of the split's folder."""
    return _SELECTION if self.split == "val_selection" else self.split

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's depth maps, sorted: DRIVE/CAMERA/NUMBER, or those of the selection."""
    if self.split == "val_selection":
      return self.find_names(f"{_SELECTION}/groundtruth_depth/*.png")
    names = self.find_names(f"{self.split}/*/proj_depth/groundtruth/*/*.png")
    return tuple(name.replace("/proj_depth/groundtruth/", "/") for name in names)

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its depth map."""
    name = self.names[index]
    if self.split == "val_selection":
      photo, folder = name.replace("_groundtruth_depth_", "_image_"), self.folder / _SELECTION
      return {
        "image": folder / "image" / f"{photo}.png",
        "depth": folder / "groundtruth_depth" / f"{name}.png",
      }
    drive, camera, number = name.split("/")
    depth = self.folder / self.split / drive / "proj_depth" / "groundtruth" / camera
    photo = self.folder / self.raw / drive[: len("2011_09_26")] / drive / camera / "data"
    return {"image": photo / f"{number}.png", "depth": depth / f"{number}.png"}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its depths, which are missing where the file has 0."""
    depth = decode.read_raw16(files["depth"]).astype(np.float32) / _STEPS_PER_METER
    return {"image": decode.read_photo(files["image"]), "depth": depth}


@dataclasses.dataclass(frozen=True)
class KittiSemantics(FileSource):
  """Source of KITTI's 200 photos with masks (Alhaija et al. 2018) in the classes of Cityscapes.

  The owners give no split for validation: "val" has part `fold` of `folds` parts, by an order that
  the names alone decide, "train" the others, "all" all photos.

  Attributes:
    root: Path of the folder with `training`, or of the folder above it.
    split: "train", "val" or "all".
    folds: Number of parts, 5 by default.
    fold: Part to validate on, from 0 to `folds` - 1.
  """

  folds: int = 5
  fold: int = 0

  descriptor: ClassVar[Descriptor] = dataclasses.replace(
    Cityscapes.descriptor, name="kitti_semantics", splits=("train", "val", "all")
  )
  marker_path: ClassVar[str] = "training/semantic"
  subfolders: ClassVar[tuple[str, ...]] = ("data_semantics",)
  layout: ClassVar[str] = (
    "ROOT/training/image_2/NAME.png, ROOT/training/semantic/NAME.png and "
    "ROOT/training/instance/NAME.png"
  )

  def __post_init__(self) -> None:
    """Checks the fold and reads the names."""
    check_fold(self.fold, self.folds)
    super().__post_init__()

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, sorted."""
    names = self.find_names("training/image_2/*.png")
    return tuple(select_fold(names, self.split, fold=self.fold, folds=self.folds))

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo, its mask and its map of instances."""
    folders = {"image": "image_2", "label": "semantic", "instance": "instance"}
    name = f"{self.names[index]}.png"
    return {key: self.folder / "training" / folder / name for key, folder in folders.items()}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, its labels and its instances."""
    # 256 times the id of the class, plus the number of the instance; 0 is none.
    instance = decode.read_ids(files["instance"])
    return {
      "image": decode.read_photo(files["image"]),
      "label": decode.read_labels(files["label"], LABEL_BY_ID),
      "instance": np.where(instance % 256 == 0, 0, instance),
    }
