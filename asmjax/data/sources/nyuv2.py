"""NYU Depth V2 (Silberman et al. 2012): 1449 indoor photos with labels, instances and depth."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import scipy  # Imports its modules at their first use.

from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor, check_index, check_split
from asmjax.data.files import FileSource
from asmjax.data.hdf5 import read_arrays
from asmjax.data.image_files import check_exists
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example

# The 40 classes of Gupta et al. (2013), in the order of their ids, which count from 1.
CLASSES_40 = tuple(
  "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, "
  "blinds, desk, shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, "
  "refrigerator, television, paper, towel, shower curtain, box, whiteboard, person, night stand, "
  "toilet, sink, lamp, bathtub, bag, other structure, other furniture, other prop".split(", ")
)
# The 13 classes of Couprie et al. (2013), and which of them each of the 40 belongs to, counted from
# 1, as in class13Mapping.mat of the data set's common metadata.
_CLASSES_13 = tuple(
  "bed, books, ceiling, chair, floor, furniture, objects, picture, sofa, table, television, wall, "
  "window".split(", ")
)
_FROM_40 = (12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5)
_FROM_40 += (7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7)

_LABELED, _SPLITS, _MAPPING = "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"
_ARRAYS = ("images", "labels", "instances", "depths")
# Key of each split's numbers in splits.mat.
_NUMBERS = {"train": "trainNdxs", "test": "testNdxs"}


@dataclasses.dataclass(frozen=True)
class Nyuv2(FileSource):
  """Source of NYU Depth V2: photos of 640x480 pixels, labels, instances, and depth in meters.

  Everything is read from the file that the owners publish; its 894 names of objects become 40
  classes by the list of Gupta et al. (2013), or 13.  Depths are those that the owners filled in.

  Attributes:
    root: Path of the folder with the three files.
    split: "train" (795 photos) or "test" (654).
    classes: Number of classes, 40 or 13.

  Raises:
    ValueError: The split or the number of classes is unknown, or a file is malformed.
    FileNotFoundError: A file is missing.
  """

  classes: int = 40

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="nyuv2",
    classes=CLASSES_40,
    palette=color_map(len(CLASSES_40) + 1)[1:],
    splits=tuple(_NUMBERS),
    provides=frozenset({"label", "instance", "depth"}),
    ignored=frozenset({0}),
  )
  marker_path: ClassVar[str] = _LABELED
  layout: ClassVar[str] = f"ROOT/{_LABELED}, ROOT/{_SPLITS} and ROOT/{_MAPPING}"

  def __post_init__(self) -> None:
    """Reads the numbers of the split's photos and the classes of the objects."""
    check_split(self.split, self.descriptor.splits)
    if self.classes not in (40, 13):
      raise ValueError(f"classes={self.classes}; expected 40 or 13")
    if self.classes == 13:
      palette = color_map(len(_CLASSES_13) + 1)[1:]
      descriptor = dataclasses.replace(self.descriptor, classes=_CLASSES_13, palette=palette)
      object.__setattr__(self, "descriptor", descriptor)
    super().__post_init__()
    _ = self.table  # A malformed list raises now, before a run starts.

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Numbers of the split's photos, from 0001, in the order of the owners' list."""
    numbers = self._read_list(_SPLITS, _NUMBERS[self.split], 1449)
    return tuple(f"{number:04d}" for number in numbers.tolist())

  @functools.cached_property
  def table(self) -> np.ndarray:
    """Label of each object's number, int32 (895,); that of 0, no object, is unlabeled."""
    ids = self._read_list(_MAPPING, "mapClass", 40)
    labels = (np.array(_FROM_40)[ids - 1] if self.classes == 13 else ids) - 1
    return np.concatenate([[UNLABELED], labels]).astype(np.int32)

  def _read_list(self, name: str, key: str, highest: int) -> np.ndarray:
    """Reads a list of numbers from 1 to `highest` from a .mat file."""
    path = self.folder / name
    check_exists(path, f"expected {self.layout}")
    try:
      values = np.asarray(scipy.io.loadmat(path, variable_names=[key])[key]).ravel()
    except Exception as error:  # What a parser raises on arbitrary bytes is arbitrary.
      raise ValueError(f"{path} has no list {key} ({error}); expected {self.layout}") from error
    if values.dtype.kind not in "iuf" or not np.isin(values, np.arange(1, highest + 1)).all():
      raise ValueError(f"{path}: {key} holds something else than whole numbers in 1..{highest}")
    return values.astype(int)

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns nothing: one file holds all photos."""
    del index
    return {}

  def __getitem__(self, index: int) -> Example:
    """Returns photo `index` of the split with its truth."""
    check_index(index, len(self))
    path, number = self.folder / _LABELED, int(self.names[index])
    arrays = read_arrays(path, _ARRAYS, number - 1)
    # MATLAB stores columns first, and HDF5 shows its axes in the opposite order.
    image, objects, instances, depth = (np.ascontiguousarray(arrays[key].T) for key in _ARRAYS)
    faults = [image.dtype != np.uint8, image.ndim != 3 or image.shape[2:] != (3,)]
    if any(faults) or any(array.shape != image.shape[:2] for array in (objects, instances, depth)):
      shapes = ", ".join(f"{key} {value.dtype}{value.shape}" for key, value in arrays.items())
      raise ValueError(
        f"{path}, photo {number} is {shapes}; expected images uint8(3, w, h), (w, h)"
      )
    if objects.max() >= len(self.table):
      raise ValueError(
        f"{path}, photo {number} holds the label {objects.max()}; expected "
        f"0..{len(self.table) - 1}, the entries of {_MAPPING}"
      )
    # Objects of one name are numbered from 1.
    instance = np.where(instances > 0, objects.astype(np.int32) * 256 + instances, 0)
    return {
      "image": image,
      "label": self.table[objects],
      "instance": instance.astype(np.int32),
      "depth": np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32),
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Is not used: examples have no files of their own."""
    raise NotImplementedError
