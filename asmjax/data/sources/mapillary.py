"""Mapillary Vistas (Neuhold et al. 2017): street scenes of all continents."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor, check_split
from asmjax.data.files import FileSource
from asmjax.data.image_files import check_exists
from asmjax.data.sources.coco import get
from asmjax.data.transforms import Example
from asmjax.utils.files import read_json_object

_FOLDERS = {"train": "training", "val": "validation"}


class _Classes(NamedTuple):
  """Classes of a release."""

  names: tuple[str, ...]
  palette: tuple[decode.Color, ...]
  by_id: Mapping[int, int]  # Label of each id; `UNLABELED` for those that are not evaluated.
  things: tuple[int, ...]  # Ids of the classes with instances.


@dataclasses.dataclass(frozen=True)
class Mapillary(FileSource):
  """Source of Mapillary Vistas: photos of many sizes, labels, and instances of things.

  Ids, names, colors, and which of them count, are those of the release's own `config` file.  An id
  that is not evaluated there is unlabeled.

  Attributes:
    root: Path of the folder with the `config` files, `training` and `validation`.
    split: "train" (18000 photos) or "val" (2000).
    version: Release of the masks, "v1.2" or "v2.0"; empty for a folder of the first releases, which
      hold one kind of masks.

  Raises:
    ValueError: The split is unknown or empty, or the `config` file is malformed.
    FileNotFoundError: The `config` file is missing.
  """

  version: str = "v1.2"

  # The instance's descriptor adds the classes, which are read from the folder.
  descriptor: ClassVar[Descriptor] = Descriptor(
    name="mapillary",
    classes=(),
    palette=(),
    splits=tuple(_FOLDERS),
    provides=frozenset({"label", "instance"}),
  )
  marker_path: ClassVar[str] = "."
  layout: ClassVar[str] = (
    "ROOT/config_VERSION.json, ROOT/training/images/NAME.jpg, ROOT/training/VERSION/labels/NAME.png"
    " and instances/NAME.png, and validation alike; without VERSION in the first releases"
  )

  def __post_init__(self) -> None:
    """Reads the classes and the names."""
    check_split(self.split, self.descriptor.splits)
    classes = self._classes
    ignored = frozenset(id for id, label in classes.by_id.items() if label == UNLABELED)
    descriptor = dataclasses.replace(
      self.descriptor, classes=classes.names, palette=classes.palette, ignored=ignored
    )
    object.__setattr__(self, "descriptor", descriptor)
    super().__post_init__()

  @functools.cached_property
  def _classes(self) -> _Classes:
    """Classes of the release; an entry's place in the file is its id."""
    path = self.folder / f"config{self.version and f'_{self.version}'}.json"
    check_exists(path, f"expected {self.layout}")
    names, palette, by_id, things = [], [], {}, []
    for id, entry in enumerate(get(read_json_object(path), "labels", list, str(path))):
      where = f"{path}, label {id}"
      name, color = get(entry, "name", str, where), _read_color(entry, where)
      if entry.get("instances"):
        things.append(id)
      by_id[id] = len(names) if entry.get("evaluate", True) else UNLABELED
      if by_id[id] != UNLABELED:
        names.append(name)
        palette.append(color)
    if not 0 < len(names) <= UNLABELED:
      raise ValueError(f"{path} has {len(names)} classes to evaluate; expected 1..{UNLABELED}")
    return _Classes(tuple(names), tuple(palette), by_id, tuple(things))

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, sorted."""
    return self.find_names(f"{_FOLDERS[self.split]}/images/*.jpg")

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo, its mask and its map of instances."""
    folder, name = self.folder / _FOLDERS[self.split], self.names[index]
    masks = folder / self.version
    return {
      "image": folder / "images" / f"{name}.jpg",
      "label": masks / "labels" / f"{name}.png",
      "instance": masks / "instances" / f"{name}.png",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, its labels and its instances."""
    label = decode.read_labels(files["label"], self._classes.by_id)
    # 256 times the id of the class, plus the number of the instance, which is 0 for the first of
    # the things, but also for all stuff.
    instance = decode.read_ids(files["instance"])
    counted = np.isin(instance // 256, self._classes.things)
    return {
      "image": decode.read_photo(files["image"]),
      "label": label,
      "instance": np.where(counted & (label != UNLABELED), instance + 1, 0).astype(np.int32),
    }


def _read_color(entry: Any, where: str) -> decode.Color:
  color = get(entry, "color", list, where)
  if len(color) != 3 or not all(channel in range(256) for channel in color):
    raise ValueError(f"{where}: color is {color}; expected three whole numbers in 0..255")
  return tuple(color)
