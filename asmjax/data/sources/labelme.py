"""Photos annotated with labelme (Russell et al. 2008; the Python tool), a JSON file for each."""

import base64
import dataclasses
import functools
import json
import pathlib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode, image_files
from asmjax.data.class_list import ClassList, read_classes
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import SPLIT, FileSource, check_fold, find_splits, select_fold
from asmjax.data.polygons import fill_polygon, is_drawable
from asmjax.data.sources.coco import get
from asmjax.data.transforms import Example
from asmjax.utils.files import read_json_object
from asmjax.utils.printable import list_known

# Names by which labelme's own lists call pixels outside of all shapes, and those to leave out.
_BACKGROUND = ("background", "_background_", "__background__")
_IGNORED = "__ignore__"


@dataclasses.dataclass(frozen=True)
class Labelme(FileSource):
  """Source of photos with outlines by labelme: labels and instances.

  A split has the photos with a JSON file in its folder, sorted by name.  Shapes are polygons,
  rectangles, circles and masks; later ones lie above earlier ones.  Pixels in no shape are of the
  class `background` or `_background_` if the list of classes has it, else unlabeled; so are shapes
  called `__ignore__`.  Shapes of one group are one instance.

  Files that lie in one folder are split into `folds` parts of about equal size, by an order that
  their names alone decide: "val" has part `fold`, "train" the others, "all" all of them.

  Attributes:
    root: Path of the data set's folder, to which the paths below are relative.
    split: Name of the split, which replaces `{split}` in the path below.
    annotations: Path of the folder of the JSON files; without `{split}`, of those of all splits.
    classes: Path of the YAML or CSV list of classes; see `asmjax.data.class_list.read_classes`.
    folds: Number of parts that files in one folder are split into, 5 by default.
    fold: Part to validate on, from 0 to `folds` - 1.

  Raises:
    ValueError: The split is unknown or empty, the list of classes is invalid, or there is no such
      fold.
    FileNotFoundError: The folder lacks the list of classes.
  """

  annotations: str = SPLIT
  classes: str = "classes.yaml"
  folds: int = 5
  fold: int = 0

  # The instance's descriptor adds classes and splits, which are read from the folder.
  descriptor: ClassVar[Descriptor] = Descriptor(
    name="labelme", classes=(), palette=(), splits=(), provides=frozenset({"label", "instance"})
  )

  def __post_init__(self) -> None:
    """Reads the classes, and finds the splits and the files."""
    check_fold(self.fold, self.folds)
    splits = ["all", "train", "val"]
    if SPLIT in self.annotations:
      splits = find_splits(self.folder, self.annotations, "annotations")
      splits = [split for split in splits if self._find_names(split)]
    if self.split not in splits:
      raise ValueError(
        f"unknown split {self.split!r}; known, by ROOT/{self.annotations}/*.json in {self.folder}: "
        f"{', '.join(splits) or 'none'}; for files in one folder, name it without {SPLIT} in "
        "annotations"
      )
    descriptor = dataclasses.replace(
      self.descriptor,
      classes=self._classes.names,
      palette=self._classes.palette,
      splits=tuple(splits),
    )
    object.__setattr__(self, "descriptor", descriptor)
    super().__post_init__()

  @property
  def marker_path(self) -> str:
    """Path of the list of classes, which identifies the folder."""
    return self.classes

  @property
  def layout(self) -> str:
    """Description of the folder that the options define, for error messages."""
    return f"ROOT/{self.classes} and ROOT/{self.annotations}/NAME.json with the photos"

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's JSON files, without their ends."""
    names = self._find_names(self.split)
    if SPLIT in self.annotations:
      return names
    return tuple(select_fold(names, self.split, fold=self.fold, folds=self.folds))

  def _find_names(self, split: str) -> tuple[str, ...]:
    return self.find_names(f"{self._folder(split)}/*.json")

  def _folder(self, split: str) -> str:
    return self.annotations.replace(SPLIT, split).strip("/")

  @functools.cached_property
  def _classes(self) -> ClassList:
    return read_classes(self.folder / self.classes)

  @functools.cached_property
  def _labels(self) -> Mapping[str, int]:
    return {name: label for label, name in enumerate(self._classes.names)} | {_IGNORED: UNLABELED}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its JSON file.

    The photo is beside the file, with its name, or where the file says. Of several beside it with
    its name it is the one that the file says.
    """
    path = self.folder / self._folder(self.split) / f"{self.names[index]}.json"
    beside = self._photos.get(self.names[index], ())
    if len(beside) == 1:
      return {"image": beside[0], "label": path}
    named = get(read_json_object(path), "imagePath", str, str(path))
    photo = path.parent / named.replace("\\", "/")  # As Windows writes it.
    near = path.parent / photo.name
    return {"image": near if near in beside else photo, "label": path}

  @functools.cached_property
  def _photos(self) -> Mapping[str, Sequence[pathlib.Path]]:
    photos: dict[str, list[pathlib.Path]] = {}
    for path in (self.folder / self._folder(self.split)).iterdir():
      if path.suffix.lower() in decode.IMAGES:
        photos.setdefault(path.stem, []).append(path)
    return photos

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, and draws its labels and instances."""
    path = files["label"]
    content, image = read_json_object(path), decode.read_photo(files["image"])
    size = (get(content, "imageHeight", int, str(path)), get(content, "imageWidth", int, str(path)))
    decode.check_annotated_size(image, size, files["image"], path)
    outside = next((self._labels[name] for name in _BACKGROUND if name in self._labels), UNLABELED)
    number = np.zeros(size, np.int32)  # Of the shape that is on top; 0 for none.
    labels, instances, groups = [outside], [0], {}
    for index, shape in enumerate(get(content, "shapes", list, str(path)), 1):
      draw_shape(number, shape, index, path)
      label = self._find_label(shape, f"{path}, shape {index}")
      group = (label, json.dumps(shape.get("group_id")))  # Mostly a number; lists have no hash.
      first = index if group[1] == "null" else groups.setdefault(group, index)
      labels.append(label)
      instances.append(0 if label in (UNLABELED, outside) else first)
    label, instance = (np.array(table, np.int32)[number] for table in (labels, instances))
    return {"image": image, "label": label, "instance": instance}

  def _find_label(self, shape: Any, where: str) -> int:
    name = get(shape, "label", str, where)
    if name not in self._labels:
      raise ValueError(
        f"{where} is called {name!r}, which {self.folder / self.classes} does not list; "
        f"{list_known(name, self._labels)}"
      )
    return self._labels[name]


def draw_shape(array: np.ndarray, shape: Any, number: int, path: pathlib.Path) -> None:
  """Sets the pixels of a shape to its number.

  Args:
    array: Map to draw into, (h, w).
    shape: Shape as a JSON file of labelme has it.
    number: Number of the shape in its file, from 1.
    path: Path of the file, for error messages.

  Raises:
    ValueError: The shape is malformed, or has no area by its kind.
  """
  where = f"{path}, shape {number}"
  points = get(shape, "points", list, where)
  kind = shape.get("shape_type") or "polygon"  # Old files have polygons alone.
  needed = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
  if not isinstance(kind, str) or kind not in needed:
    known = ", ".join(needed)
    raise ValueError(f"{where} is a {reprlib.repr(kind)}, which has no area; expected {known}")
  try:
    corners = np.array(points, np.float64)
  except (ValueError, TypeError):
    corners = np.empty((0, 0))
  enough = len(corners) >= needed[kind] if kind == "polygon" else len(corners) == needed[kind]
  if corners.ndim != 2 or corners.shape[1] != 2 or not enough or not is_drawable(corners):
    count = f"{needed[kind]}{' or more' if kind == 'polygon' else ''}"
    raise ValueError(
      f"{where} has the points {reprlib.repr(points)}; expected {count} of [x, y] for a {kind}"
    )
  if kind == "mask":
    _draw_mask(array, corners, shape, number, path)
  elif kind == "circle":
    _draw_circle(array, corners, number)
  else:
    (x0, y0), (x1, y1) = corners[:2]
    box = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    fill_polygon(array, box if kind == "rectangle" else corners, number)


def _draw_circle(array: np.ndarray, points: np.ndarray, value: int) -> None:
  """Sets the pixels of a circle, which is given by its center and a point on it."""
  (x, y), radius = points[0], np.linalg.norm(points[1] - points[0])
  row, column = np.ogrid[: array.shape[0], : array.shape[1]]
  array[(column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius**2] = value


def _draw_mask(
  array: np.ndarray, corners: np.ndarray, shape: Any, number: int, path: pathlib.Path
) -> None:
  """Sets the pixels of a mask, a PNG in a box whose last row and column are inside."""
  where = f"{path}, shape {number}"
  text = get(shape, "mask", str, where)
  try:
    image = image_files.decode_image(base64.b64decode(text, validate=True), path)
  except ValueError as error:
    raise ValueError(f"{where}: mask is no PNG in base64 ({error})") from error
  (left, top), (right, bottom) = np.round(corners).astype(int)
  if not (0 <= left <= right < array.shape[1] and 0 <= top <= bottom < array.shape[0]):
    raise ValueError(f"{where} has a mask in {corners.tolist()}; expected a box inside the photo")
  window, pixels = array[top : bottom + 1, left : right + 1], np.asarray(image.convert("L")) > 0
  if pixels.shape != window.shape:
    raise ValueError(
      f"{where} has a mask of {pixels.shape[0]}x{pixels.shape[1]} (height x width); expected "
      f"{window.shape[0]}x{window.shape[1]}, the size of its box"
    )
  window[pixels] = number
