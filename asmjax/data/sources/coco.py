"""COCO's JSON of outlines (Lin et al. 2014): the data set itself, or photos annotated by a tool."""

import collections
import dataclasses
import functools
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import SPLIT, FileSource, find_splits
from asmjax.data.image_files import check_exists
from asmjax.data.polygons import decode_runs, fill_polygon, is_drawable, parse_runs
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example
from asmjax.utils.files import read_json_object


class Category(NamedTuple):
  """Class of a JSON file in COCO's format.

  Attributes:
    id: Id in the annotations.
    name: Name.
    color: Color, (r, g, b) in 0..255; None if the file gives none.
    is_thing: Whether it is of things that can be counted, which is so unless the file denies it.
    label: Position among the categories in the order of their ids.
  """

  id: int
  name: str
  color: decode.Color | None
  is_thing: bool
  label: int = 0


class Photo(NamedTuple):
  """Photo of a JSON file in COCO's format.

  Attributes:
    id: Id in the annotations.
    size: (height, width) in pixels.
  """

  id: int
  size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class CocoSource(FileSource):
  """Base of sources whose classes, photos and annotations stand in one JSON file for each split."""

  annotations: str = ""
  images: str = SPLIT

  marker_path: ClassVar[str] = "."

  def __post_init__(self) -> None:
    """Reads the file of the split."""
    splits = find_splits(self.folder, self.annotations, "annotations")
    if self.split not in splits:
      raise ValueError(
        f"unknown split {self.split!r}; known, by {self.folder / self.annotations}: "
        f"{', '.join(splits) or 'none'}; expected {self.layout}"
      )
    classes, palette = self._name_classes()
    descriptor = dataclasses.replace(
      self.descriptor, classes=classes, palette=palette, splits=tuple(splits)
    )
    object.__setattr__(self, "descriptor", descriptor)
    super().__post_init__()

  def _name_classes(self) -> tuple[tuple[str, ...], tuple[decode.Color, ...]]:
    """Returns the names and colors of the classes: the file's colors if these are all different."""
    colors = {category.color for category in self.categories} - {None}
    shown = color_map(len(self.categories) + 1)[1:]
    if len(colors) == len(self.categories):
      shown = tuple(category.color for category in self.categories if category.color)
    return tuple(category.name for category in self.categories), shown

  @property
  def json_path(self) -> pathlib.Path:
    """Path of the split's JSON file."""
    return self.folder / self.annotations.replace(SPLIT, self.split)

  @functools.cached_property
  def categories(self) -> tuple[Category, ...]:
    """Classes, in the order of their ids."""
    return self._parsed[0]

  @functools.cached_property
  def photos(self) -> Mapping[str, Photo]:
    """Photos by the names of their files, in the order of the JSON file."""
    return self._parsed[1]

  @functools.cached_property
  def records(self) -> Mapping[int, tuple[Any, ...]]:
    """Annotations of each photo by its id, as `parse_annotation` gives them."""
    return self._parsed[2]

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the photos' files."""
    return tuple(self.photos)

  def find_photo(self, files: Mapping[str, pathlib.Path]) -> Photo:
    """Returns the photo of an example's files."""
    folder = self.folder / self.images.replace(SPLIT, self.split)
    return self.photos[files["image"].relative_to(folder).as_posix()]

  def photo_path(self, index: int) -> pathlib.Path:
    """Returns the path of photo `index`."""
    return self.folder / self.images.replace(SPLIT, self.split) / self.names[index]

  def parse_annotation(
    self, entry: Any, categories: Mapping[int, Category], size: tuple[int, int], where: str
  ) -> Any:
    """Returns an annotation as `records` has it.

    Args:
      entry: Annotation as the JSON file has it.
      categories: Categories by their ids.
      size: (height, width) of its photo.
      where: Phrase for the place of the entry, for error messages.
    """
    raise NotImplementedError

  @functools.cached_property
  def _parsed(self) -> tuple[tuple[Category, ...], dict[str, Photo], dict[int, tuple[Any, ...]]]:
    path = self.json_path
    check_exists(path, f"expected {self.layout}")
    content = read_json_object(path)
    categories = _parse_categories(content, path)
    photos = _parse_photos(content, path)
    sizes = {photo.id: photo.size for photo in photos.values()}
    by_id = {category.id: category for category in categories}
    records: dict[int, list[Any]] = collections.defaultdict(list)
    for number, entry in enumerate(get(content, "annotations", list, str(path)), 1):
      where = f"{path}, annotation {number}"
      photo = get(entry, "image_id", int, where)
      if photo not in sizes:
        raise ValueError(f"{where} is of image_id {photo}; expected an id under `images`")
      records[photo].append(self.parse_annotation(entry, by_id, sizes[photo], where))
    return categories, photos, {photo: tuple(found) for photo, found in records.items()}


def get(entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
  """Returns the value of a JSON object's key.

  Args:
    entry: What should be the object.
    key: Key that it must have.
    kind: Type, or types, of the value; a truth value is no number.
    where: Phrase for the place of the entry, for error messages.

  Raises:
    ValueError: The entry is no object, lacks the key, or has a value of another type.
  """
  value = entry.get(key) if isinstance(entry, dict) else None
  if not isinstance(value, kind) or isinstance(value, bool):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(
      {int: "a whole number", str: "text", list: "a list", dict: "an object"}[each]
      for each in kinds
    )
    raise ValueError(f"{where}: {key} is {reprlib.repr(value)}; expected {names}")
  return value


def _parse_categories(content: Mapping[str, Any], path: pathlib.Path) -> tuple[Category, ...]:
  categories: dict[int, Category] = {}
  names: set[str] = set()
  for number, entry in enumerate(get(content, "categories", list, str(path)), 1):
    where = f"{path}, category {number}"
    id, name = get(entry, "id", int, where), get(entry, "name", str, where)
    color = entry.get("color")
    valid = (
      isinstance(color, list) and len(color) == 3 and all(value in range(256) for value in color)
    )
    category = Category(id, name, tuple(color) if valid else None, entry.get("isthing", 1) != 0)
    if categories.setdefault(id, category) is not category:
      raise ValueError(f"{where} has the id {id} of {categories[id].name!r}; expected it once")
    if name in names:
      raise ValueError(f"{where} is a second {name!r}; expected every name once")
    names.add(name)
  if not 0 < len(categories) < UNLABELED:
    raise ValueError(f"{path} has {len(categories)} categories; expected 1..{UNLABELED - 1}")
  order = sorted(categories)
  return tuple(categories[id]._replace(label=label) for label, id in enumerate(order))


def _parse_photos(content: Mapping[str, Any], path: pathlib.Path) -> dict[str, Photo]:
  photos: dict[str, Photo] = {}
  ids = set()
  for number, entry in enumerate(get(content, "images", list, str(path)), 1):
    where = f"{path}, image {number}"
    id, name = get(entry, "id", int, where), get(entry, "file_name", str, where)
    name = pathlib.PurePosixPath(name.replace("\\", "/")).as_posix()
    if name.startswith("/"):
      raise ValueError(f"{where}: file_name is {name!r}; expected a path below the photos' folder")
    if name in photos or id in ids:
      raise ValueError(f"{where} is {name!r} with the id {id}; expected every name and id once")
    ids.add(id)
    photos[name] = Photo(id, (get(entry, "height", int, where), get(entry, "width", int, where)))
  return photos


class Outline(NamedTuple):
  """Annotation of one object.

  Attributes:
    label: Position of its class among the categories.
    is_crowd: Whether it is a group of objects that are not separated.
    area: Number of pixels, about.
    shape: Polygons, float32 (n, 2) each, or run lengths.
  """

  label: int
  is_crowd: bool
  area: float
  shape: tuple[np.ndarray, ...] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Coco(CocoSource):
  """Source of photos with outlines in COCO's JSON: labels and instances.

  Outlines are polygons, or run lengths, compressed or not.  Where they overlap, the smaller one
  counts.  A crowd, a group of objects that are not separated, has its label but no instance, and
  lies below all single objects.

  Attributes:
    root: Path of the data set's folder, to which the paths below are relative.
    split: Name of the split, which replaces `{split}` in the paths below.
    annotations: Path of the JSON file.
    images: Path of the folder of the photos.
    background: Name of the class of pixels in no outline, which is added as the first one unless
      the file has it; if empty, they are unlabeled.

  Raises:
    ValueError: The split is unknown or empty, or the file is malformed.
    FileNotFoundError: The folder does not exist.
  """

  annotations: str = f"annotations/instances_{SPLIT}.json"
  background: str = "background"

  # The instance's descriptor adds classes and splits, which are read from the folder.
  descriptor: ClassVar[Descriptor] = Descriptor(
    name="coco", classes=(), palette=(), splits=(), provides=frozenset({"label", "instance"})
  )

  @property
  def layout(self) -> str:
    """Description of the folder that the options define, for error messages."""
    return f"ROOT/{self.annotations} and photos ROOT/{self.images}/NAME"

  def _name_classes(self) -> tuple[tuple[str, ...], tuple[decode.Color, ...]]:
    names, palette = super()._name_classes()
    if not self._adds_background:
      return names, palette
    return (self.background, *names), color_map(len(names) + 1)

  @property
  def _adds_background(self) -> bool:
    names = [category.name for category in self.categories]
    return bool(self.background) and self.background not in names

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and of the split's outlines."""
    return {"image": self.photo_path(index), "label": self.json_path}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, and draws its labels and instances."""
    photo, image = self.find_photo(files), decode.read_photo(files["image"])
    decode.check_annotated_size(image, photo.size, files["image"], files["label"])
    outlines = self.records.get(photo.id, ())
    number = np.zeros(photo.size, np.int32)  # Of the outline that is on top; 0 for none.
    order = sorted(enumerate(outlines, 1), key=lambda item: (not item[1].is_crowd, -item[1].area))
    for index, outline in order:
      _draw(number, outline, index)
    shift = int(self._adds_background)
    labels = [self._background_label, *(outline.label + shift for outline in outlines)]
    instances = [0, *(0 if one.is_crowd else k for k, one in enumerate(outlines, 1))]
    label, instance = (np.array(table, np.int32)[number] for table in (labels, instances))
    return {"image": image, "label": label, "instance": instance}

  @property
  def _background_label(self) -> int:
    classes = self.descriptor.classes
    return classes.index(self.background) if self.background else UNLABELED

  def parse_annotation(
    self, entry: Any, categories: Mapping[int, Category], size: tuple[int, int], where: str
  ) -> Outline:
    """Returns the outline of an object."""
    label = find_category(entry, categories, where).label
    shape = get(entry, "segmentation", (list, dict), where)
    is_crowd = entry.get("iscrowd", 0) == 1
    try:
      if isinstance(shape, dict):
        runs = _parse_runs(shape, size, where)
        return Outline(label, is_crowd, float(runs[1::2].sum()), runs)
      polygons = tuple(map(_parse_polygon, shape))
    except ValueError as error:
      raise ValueError(f"{where}: {error}") from error
    if not polygons:
      raise ValueError(f"{where} has no outline; expected polygons or run lengths (a box is none)")
    return Outline(label, is_crowd, sum(map(_measure_area, polygons)), polygons)


def find_category(entry: Any, categories: Mapping[int, Category], where: str) -> Category:
  """Returns the category of an annotation; ValueError if the file has no such category."""
  id = get(entry, "category_id", int, where)
  if id not in categories:
    known = ", ".join(map(str, sorted(categories)[:8])) + (", ..." if len(categories) > 8 else "")
    raise ValueError(f"{where} is of category_id {id}; expected one of {known}")
  return categories[id]


def _parse_polygon(numbers: Any) -> np.ndarray:
  try:
    points = np.array(numbers, np.float64)
  except (ValueError, TypeError) as error:
    raise ValueError(f"a polygon is {reprlib.repr(numbers)}; expected numbers") from error
  if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not is_drawable(points):
    raise ValueError(f"a polygon is {reprlib.repr(numbers)}; expected x and y of 3 or more corners")
  return points.astype(np.float32).reshape(-1, 2)


def _parse_runs(shape: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
  """Returns run lengths, which must be those of a mask of `size`."""
  counts = get(shape, "counts", (list, str), f"{where}: segmentation")
  if shape.get("size") != list(size):
    given = reprlib.repr(shape.get("size"))
    raise ValueError(f"the size of the run lengths is {given}; expected {list(size)}, the photo's")
  try:
    runs = np.array(parse_runs(counts) if isinstance(counts, str) else counts, np.int64)
  except (TypeError, OverflowError) as error:
    raise ValueError(f"run lengths are {reprlib.repr(counts)}; expected whole numbers") from error
  decode_runs(runs, size)
  return runs


def _measure_area(points: np.ndarray) -> float:
  """Returns the area of a polygon, in pixels."""
  (x, y), (x1, y1) = points.astype(np.float64).T, np.roll(points, -1, 0).astype(np.float64).T
  return float(abs((x * y1 - x1 * y).sum()) / 2)


def _draw(array: np.ndarray, outline: Outline, value: int) -> None:
  """Draws an outline into a map (h, w)."""
  if isinstance(outline.shape, tuple):
    for polygon in outline.shape:
      fill_polygon(array, polygon, value)
  else:
    array[decode_runs(outline.shape, array.shape)] = value
