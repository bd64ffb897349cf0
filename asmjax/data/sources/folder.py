"""Source of a user's own folder of photos and masks, with a file that lists the classes."""

import dataclasses
import functools
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from asmjax.data import decode, image_files
from asmjax.data.class_list import ClassList, read_classes
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import SPLIT, FileSource, check_fold, find_splits, select_fold
from asmjax.data.transforms import Example

# Name of a photo, and the paths of the photo and its mask.
_Pair = tuple[str, Mapping[str, pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class Folder(FileSource):
  """Source of photos and masks that are paired by name, whatever their extensions.

  A split has all photos of its folder, sorted by name, or those in its list, in the list's order.
  Every photo needs a mask; in a folder that belongs to one split, every mask needs a photo.  Gray
  masks and those with a palette are read as ids.  Masks of three channels are read as colors if
  the list of classes has colors, else as the same id in every channel.

  Photos that lie in one folder are split into `folds` parts of about equal size, by an order that
  their names alone decide: "val" has part `fold`, "train" the others, "all" all photos.

  Attributes:
    root: Path of the data set's folder, to which the paths below are relative.
    split: Name of the split, which replaces `{split}` in the paths below.
    images: Path of the folder of the photos; without `{split}` and lists, of those of all splits.
    masks: Path of the folder of the masks.
    mask_suffix: Text that masks' names append to the photos' names, as `_L` in CamVid; none by
      default.
    lists: Path of a text file with one photo's name per line; empty, the default, if every split
      has folders of its own.
    classes: Path of the YAML or CSV list of classes; see `asmjax.data.class_list.read_classes`.
    folds: Number of parts that photos in one folder are split into, 5 by default.
    fold: Part to validate on, from 0 to `folds` - 1.

  Raises:
    ValueError: The split is unknown or empty, two photos or two masks have the same name, the list
      of classes is invalid, or there is no such fold.
    FileNotFoundError: The folder lacks the list of classes, a photo its mask, or a mask its photo.
  """

  images: str = "images/{split}"
  masks: str = "masks/{split}"
  mask_suffix: str = ""
  lists: str = ""
  classes: str = "classes.yaml"
  folds: int = 5
  fold: int = 0

  # The instance's descriptor adds classes and splits, which are read from the folder.
  descriptor: ClassVar[Descriptor] = Descriptor(
    name="folder", classes=(), palette=(), splits=(), provides=frozenset({"label"})
  )

  def __post_init__(self) -> None:
    """Reads the classes, finds the splits and pairs the split's photos with their masks."""
    check_fold(self.fold, self.folds)
    splits = self._find_splits()
    if self.split not in splits:
      needed = f"ROOT/{self.lists}" if self.lists else f"ROOT/{self.images} and ROOT/{self.masks}"
      message = (
        f"unknown split {self.split!r}; known, by {needed} in {self.folder}: "
        f"{', '.join(splits) or 'none'}"
      )
      if not splits:
        message += "; for photos in one folder, name it without {split} in images and masks"
      raise ValueError(message)
    descriptor = dataclasses.replace(
      self.descriptor,
      classes=self._classes.names,
      palette=self._classes.palette,
      splits=splits,
      ignored=self._classes.ignored,
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
    names = f" and names in ROOT/{self.lists}" if self.lists else ""
    return (
      f"ROOT/{self.classes}, photos ROOT/{self.images}/NAME.*, masks "
      f"ROOT/{self.masks}/NAME{self.mask_suffix}.*{names}"
    )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, without extensions."""
    return tuple(name for name, _ in self._pairs)

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its mask."""
    return self._pairs[index][1]

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its labels."""
    image = decode.read_photo(files["image"])
    label = decode.read_labels(
      files["label"], self._classes.by_id, self._classes.by_color, palette_agrees=True
    )
    height, width = image.shape[:2]
    if label.shape == (width, height) != (height, width) and decode.is_rotated(files["image"]):
      raise ValueError(
        f"{files['label']} is {width}x{height} (height x width), as {files['image']} is stored, but"
        f" the photo's EXIF orientation turns it; expected the mask upright, {height}x{width}"
      )
    return {"image": image, "label": label}

  @functools.cached_property
  def _classes(self) -> ClassList:
    return read_classes(self.folder / self.classes)

  def _find_splits(self) -> tuple[str, ...]:
    """Returns the values of `{split}` that have a list, or folders of photos and masks."""
    if self._has_folds:
      return ("all", "train", "val")
    option = "lists" if self.lists else "images"
    splits = find_splits(self.folder, getattr(self, option), option)
    return tuple(split for split in splits if self.lists or self._path(self.masks, split).is_dir())

  @property
  def _has_folds(self) -> bool:
    """Whether all photos lie in one folder."""
    return not self.lists and SPLIT not in self.images + self.masks

  def _path(self, pattern: str, split: str) -> pathlib.Path:
    return self.folder / pattern.replace(SPLIT, split)

  @functools.cached_property
  def _pairs(self) -> list[_Pair]:
    images, masks = self._path(self.images, self.split), self._path(self.masks, self.split)
    if self.lists:
      lines = self.read_list(self.lists.replace(SPLIT, self.split))
      return _find_pairs([*map(_remove_suffix, lines)], images, masks, self.mask_suffix)
    names = sorted(_find_pictures(images))
    if images == masks and self.mask_suffix:  # Masks lie beside their photos.
      names = [name for name in names if not name.endswith(self.mask_suffix)]
    if self._has_folds or SPLIT in self.masks:
      _check_all_used(images, masks, self.mask_suffix, names)
    if self._has_folds:
      names = select_fold(names, self.split, fold=self.fold, folds=self.folds)
    return _find_pairs(names, images, masks, self.mask_suffix)


def _find_pairs(
  names: Sequence[str], images: pathlib.Path, masks: pathlib.Path, suffix: str
) -> list[_Pair]:
  """Finds the photo and the mask of every name; FileNotFoundError if a name lacks either."""
  find_pictures = functools.cache(_find_pictures)
  pairs, missing = [], []
  for name in names:
    image_stem, mask_stem = images / name, masks / f"{name}{suffix}"
    image, mask = (find_pictures(path.parent).get(path.name) for path in (image_stem, mask_stem))
    if image and mask:
      pairs.append((name, {"image": image, "label": mask}))
    else:
      lacking = image_stem if mask else mask_stem
      missing.append(
        f"{image or f'{image_stem}.*'} and {mask or f'{mask_stem}.*'}{_find_similar(lacking)}"
      )
  if missing:
    raise FileNotFoundError(
      f"{len(missing)} of {len(names)} names lack a photo or a mask; the first: expected both "
      f"{missing[0]}"
    )
  return pairs


def _find_similar(stem: pathlib.Path) -> str:
  """Describes a file that may be meant by a path without a suffix; empty if there is none."""
  compose = functools.partial(unicodedata.normalize, "NFC")
  for path in sorted(stem.parent.iterdir()) if stem.parent.is_dir() else ():
    if compose(path.stem).casefold() != compose(stem.name).casefold():
      continue
    if (kind := image_files.describe_kind(path)) != "a file":
      return f"; {path} is {kind}"
    if path.suffix.lower() not in decode.IMAGES:
      return f"; {path} is there, but not read: expected one of {', '.join(decode.IMAGES)}"
    if compose(path.stem) == compose(stem.name):
      return f"; {path} is there, but its name is written in another form of Unicode (NFC, NFD)"
    return f"; {path} is there, but its name has other capitals"
  return ""


def _find_suffix(masks: Iterable[str], suffix: str, names: Sequence[str]) -> str:
  """Describes the suffix with which all masks have a photo's name; empty if there is none."""
  stem, *_ = sorted(masks)
  for name in names:
    other = stem.removeprefix(name)
    if stem == name + other != name + suffix and {*masks} <= {f"{name}{other}" for name in names}:
      return f"; set data.options.mask_suffix={other}, with which all masks have one"
  return ""


def _check_all_used(
  images: pathlib.Path, masks: pathlib.Path, suffix: str, names: Sequence[str]
) -> None:
  """Raises FileNotFoundError if a mask belongs to none of the names."""
  used = {f"{name}{suffix}" for name in names}
  pictures = _find_pictures(masks)
  unused = [name for name in pictures if name.endswith(suffix) and name not in used]
  if unused:
    first = min(pictures[name] for name in unused)
    similar = _find_similar(images / first.stem.removesuffix(suffix))
    raise FileNotFoundError(
      f"{len(unused)} masks have no photo; the first: {first}"
      f"{similar or _find_suffix(pictures, suffix, names)}"
    )


def _find_pictures(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the paths of a folder's images, by their names without extensions."""
  pictures: dict[str, pathlib.Path] = {}
  for path in sorted(folder.iterdir()) if folder.is_dir() else ():
    if path.suffix.lower() not in decode.IMAGES or path.name.startswith("."):
      continue
    first = pictures.setdefault(path.stem, path)
    if first != path:
      raise ValueError(f"{first} and {path} have one name; expected one picture a name")
  return pictures


def _remove_suffix(name: str) -> str:
  path = pathlib.PurePosixPath(name)
  return str(path.with_suffix("") if path.suffix.lower() in decode.IMAGES else path)
