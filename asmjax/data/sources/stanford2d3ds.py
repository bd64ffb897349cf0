"""2D-3D-Semantics (Armeni et al. 2017, arXiv 1702.01105): rendered views of six indoor areas."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example

_AREAS = ("area_1", "area_2", "area_3", "area_4", "area_5a", "area_5b", "area_6")
# The three folds of the paper, by the areas that each is tested on; no building is both in a fold's
# training and test areas.
_TESTED = {
  "fold1": ("area_5a", "area_5b"),
  "fold2": ("area_2", "area_4"),
  "fold3": ("area_1", "area_3", "area_6"),
}
_SPLITS = {}
for _fold, _areas in _TESTED.items():
  _SPLITS[f"{_fold}_train"] = tuple(area for area in _AREAS if area not in _areas)
  _SPLITS[f"{_fold}_test"] = _areas
_SPLITS |= {area: (area,) for area in _AREAS}
_COLORS = {
  "ceiling": (230, 230, 220),
  "floor": (140, 110, 80),
  "wall": (190, 200, 210),
  "beam": (150, 90, 60),
  "column": (110, 60, 120),
  "window": (110, 190, 230),
  "door": (170, 50, 50),
  "table": (240, 180, 60),
  "chair": (70, 160, 80),
  "sofa": (40, 100, 160),
  "bookcase": (210, 120, 160),
  "board": (30, 60, 50),
  "clutter": (120, 120, 120),
}
_UNKNOWN = "<UNK>"
_LABEL_BY_CLASS = {**{name: label for label, name in enumerate(_COLORS)}, _UNKNOWN: UNLABELED}

_RGB = "_domain_rgb.png"
# Folder of each map of a photo, and end of the map's file name.
_MAPS = {
  "label": ("semantic", "_domain_semantic.png"),
  "depth": ("depth", "_domain_depth.png"),
  "normals": ("normal", "_domain_normals.png"),
}
# Paths at which the list of labels may lie, in order of preference.
_LABELS = ("assets/semantic_labels.json", "semantic_labels.json")

# Encoding of the published files: index of pixels without data, depth of pixels without depth,
# steps of depth per meter, and the value of all three channels of a missing normal.
_UNSEEN = 0x0D0D0D
_FAR = 65535
_STEPS_PER_METER = 512
_NO_NORMAL = 128


@dataclasses.dataclass(frozen=True)
class Stanford2d3ds(FileSource):
  """Source of 2D-3D-Semantics: views of 1080x1080 pixels with truth rendered from meshes.

  The truth is labels, instances, depth and normals.  The id of an instance is its index in
  `semantic_labels.json`, which lists every object of every room once: it is the same in all views
  of the object, and differs from those of all other objects.  Hwang et al. (2019) report on fold 1,
  with 52903 views to train on and 17593 to test on.

  Attributes:
    root: Path of the folder with the areas and `assets/semantic_labels.json`.
    split: "fold1_train", "fold1_test" and so on for three folds, or an area, as "area_5a".

  Raises:
    ValueError: The split is unknown or empty, or the list of labels is malformed.
    FileNotFoundError: An area of the split or the list of labels is missing.
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="stanford2d3ds",
    classes=tuple(_COLORS),
    palette=tuple(_COLORS.values()),
    splits=tuple(_SPLITS),
    provides=frozenset({"label", "instance", "depth", "normals"}),
    ignored=frozenset({0, _UNSEEN}),
  )
  # No path is common to all parts of the data set that a user may have: `names` checks the areas.
  marker_path: ClassVar[str] = "."
  layout: ClassVar[str] = (
    "ROOT/AREA/data/rgb/NAME_domain_rgb.png, data/depth/NAME_domain_depth.png, "
    "data/normal/NAME_domain_normals.png, data/semantic/NAME_domain_semantic.png for AREA in "
    f"{', '.join(_AREAS)}, and ROOT/assets/semantic_labels.json"
  )

  def __post_init__(self) -> None:
    """Reads and checks the names and the list of labels."""
    super().__post_init__()
    _ = self.table  # A malformed list raises now, before a run starts.

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names AREA/NAME of the split's views, sorted within each area."""
    areas = _SPLITS[self.split]
    missing = [area for area in areas if not (self.folder / area / "data" / "rgb").is_dir()]
    if missing:
      raise FileNotFoundError(
        f"split {self.split!r} of {self.descriptor.name} lacks data/rgb of {', '.join(missing)} in "
        f"{self.folder}; expected {self.layout}"
      )
    return tuple(
      f"{area}/{name.removesuffix(_RGB)}"
      for area in areas
      for name in sorted(os.listdir(self.folder / area / "data" / "rgb"))
      if name.endswith(_RGB)
    )

  @functools.cached_property
  def table(self) -> np.ndarray:
    """Label of each index in `semantic_labels.json`, int32 (number of indices,)."""
    paths = [path for name in _LABELS if (path := self.folder / name).is_file()]
    if not paths:
      raise FileNotFoundError(
        f"{self.folder / _LABELS[0]} does not exist, nor does {_LABELS[1]} beside the areas; "
        f"expected {self.layout}"
      )
    return read_table(paths[0])

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a view and its maps; `label` is the file of instances too."""
    area, name = self.names[index].split("/")
    data = self.folder / area / "data"
    maps = {key: data / folder / f"{name}{end}" for key, (folder, end) in _MAPS.items()}
    return {"image": data / "rgb" / f"{name}{_RGB}", **maps}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a view, its labels, instances, depth and normals."""
    raw = decode.read_raw16(files["depth"])
    depth = np.where(raw == _FAR, 0, raw).astype(np.float32) / _STEPS_PER_METER
    label, instance = self._read_label_and_instance(files["label"])
    return {
      "image": decode.read_photo(files["image"]),
      "label": label,
      "instance": instance,
      "depth": depth,
      "normals": unit_normals(decode.read_colors(files["normals"])),
    }

  def _read_label_and_instance(self, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads labels and instances from a map whose 24-bit colors are indices of `table`."""
    index = decode.read_colors(path).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    index[index == _UNSEEN] = 0
    if index.max() >= len(self.table):
      raise ValueError(
        f"{path} holds the index {index.max()}; expected 0..{len(self.table) - 1}, the indices of "
        f"{pathlib.Path(_LABELS[0]).name}, or, unlabeled, {_UNSEEN}"
      )
    label = self.table[index]
    return label, np.where(label == UNLABELED, 0, index)


def unit_normals(rgb: np.ndarray) -> np.ndarray:
  """Decodes colors to unit normals, float32 (h, w, 3), 0 where missing.

  Args:
    rgb: Colors, uint8 (h, w, 3), centered on 127.5: red to the right, green down, blue to the
      camera; (128, 128, 128) is missing.
  """
  valid = (rgb != _NO_NORMAL).any(-1, keepdims=True)
  vectors = rgb.astype(np.float32) - 127.5
  return valid * vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def read_table(path: pathlib.Path) -> np.ndarray:
  """Reads the labels of a JSON list's entries CLASS_NUMBER_ROOM_NUMBER_AREA as an int32 vector.

  Raises:
    ValueError: The file is no list of such entries, or the first entry is not the unknown object.
  """
  try:
    entries = json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path} is no JSON ({error}); expected a list of labels") from error
  if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
    raise ValueError(f"{path} holds something else than text; expected a list of labels")
  classes = [entry.split("_")[0] for entry in entries]
  unknown = sorted(set(classes) - set(_LABEL_BY_CLASS))
  if unknown:
    known = ", ".join(_LABEL_BY_CLASS)
    raise ValueError(f"{path} holds the classes {', '.join(unknown)}; expected {known}")
  if classes[:1] != [_UNKNOWN]:
    raise ValueError(f"{path} starts with {classes[:1]}; expected {_UNKNOWN} as entry 0")
  return np.array([_LABEL_BY_CLASS[name] for name in classes], np.int32)
