"""Inputs of predictions: an image, a folder of images, a list of their paths, or a video."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from asmjax.data import decode, image_files

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
LIST = ".txt"


class Input(NamedTuple):
  """Image to predict.

  Attributes:
    name: Relative path of its predictions, without a suffix.
    path: Path of the file with the image.
    load: Function that reads the image as uint8 (h, w, 3), or raises ValueError or OSError, naming
      the file.
    count_bytes: Function that returns the size of the image without reading it; 0 if that is not
      possible.
  """

  name: str
  path: pathlib.Path
  load: Callable[[], np.ndarray]
  count_bytes: Callable[[], int] = lambda: 0


@dataclasses.dataclass(frozen=True)
class Inputs:
  """Images to predict, in order.

  Attributes:
    paths: Paths of the files with the images.
    count: Number of images; for a video the number that its file declares, perhaps wrongly, or 0.
    read: Function that returns an iterator over the images.
    left_out: Descriptions of what lies in the folder and is not among the images.
  """

  paths: tuple[pathlib.Path, ...]
  count: int
  read: Callable[[], Iterable[Input]]
  left_out: tuple[str, ...] = ()


def find_inputs(source: str | pathlib.Path, *, exclude: str | pathlib.Path = "") -> Inputs:
  """Finds the images that a path stands for, without opening any of them.

  Args:
    source: Path of an image; of a folder, searched recursively except for hidden files and folders;
      of a text file with one path on each line, relative to its own folder; or of a video.
    exclude: Folder of the predictions, to leave out if it is inside of `source`.

  Raises:
    FileNotFoundError: There is nothing at `source`.
    ValueError: The path is empty; there are no images; two of them only differ in their suffix, so
      that their predictions would have one name; a file with a video's suffix is none; or
      `exclude` is `source`.
  """
  if not str(source):
    raise ValueError("the input is empty; expected an image, a folder, a list or a video")
  source = pathlib.Path(source).expanduser()
  if source.is_dir():
    paths, left_out = _list_folder(source, exclude)
    if left_out and not paths:
      raise ValueError(f"no images in {source}; {'; '.join(left_out)}")
    inputs = _make_image_inputs(paths, source, f"in {source}")
    return dataclasses.replace(inputs, left_out=tuple(left_out))
  image_files.check_exists(source, "expected an image, a folder, a list of paths or a video")
  suffix = source.suffix.lower()
  if suffix in VIDEOS:
    return _make_video_inputs(source)
  if suffix == LIST:
    paths = [source.parent / line for line in decode.read_lines(source)]
    return _make_image_inputs(paths, source.parent, f"in the list {source}")
  return _make_image_inputs([source], source.parent, f"at {source}")


def _list_folder(
  folder: pathlib.Path, exclude: str | pathlib.Path
) -> tuple[list[pathlib.Path], list[str]]:
  """Returns the images in a folder, and descriptions of what else may have been meant."""
  # Unlike pathlib's, this takes links to themselves.
  resolve = lambda path: pathlib.Path(os.path.realpath(path))
  root, left_out = resolve(folder), resolve(exclude) if exclude else None
  if left_out == root:
    raise ValueError(f"predictions would go to {folder} like the images; choose another folder")
  inside = left_out is not None and root in left_out.parents
  images, faults = [], []
  for path in sorted(folder.rglob("*")):
    if inside and left_out in (resolve(path), *resolve(path).parents):
      continue
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
      continue
    suffix = path.suffix.lower()
    if path.is_symlink() and path.is_dir():
      faults.append(f"{path} is a link to a folder; expected folders, or give it as the input")
    elif suffix in decode.IMAGES and path.is_file():
      images.append(path)
    elif suffix in decode.IMAGES and not path.is_dir():
      faults.append(f"{path} is {image_files.describe_kind(path)}; expected an image")
    elif suffix in (*decode.OTHER_IMAGES, *VIDEOS) and path.is_file():
      faults.append(f"{path} is not read in a folder; expected one of {', '.join(decode.IMAGES)}")
  return images, faults


def _make_image_inputs(paths: list[pathlib.Path], root: pathlib.Path, where: str) -> Inputs:
  if not paths:
    raise ValueError(f"no images {where}; known suffixes: {', '.join(decode.IMAGES)}")
  named: dict[str, pathlib.Path] = {}
  for name, path in zip(_make_names(paths, root), paths, strict=True):
    if name in named:
      raise ValueError(
        f"{named[name]} and {path} would both be predicted as {name!r}; predict them apart"
      )
    named[name] = path
  inputs = [
    Input(
      name,
      path,
      functools.partial(decode.read_photo, path),
      functools.partial(image_files.count_bytes, path),
    )
    for name, path in named.items()
  ]
  return Inputs(tuple(paths), len(inputs), lambda: inputs)


def _make_names(paths: list[pathlib.Path], root: pathlib.Path) -> list[str]:
  """Makes paths relative to `root` or, if one of them is elsewhere, to their common folder."""
  full = [pathlib.Path(os.path.abspath(path)) for path in paths]
  root = pathlib.Path(os.path.abspath(root))
  if not all(path.is_relative_to(root) for path in full):
    root = pathlib.Path(os.path.commonpath([path.parent for path in full]))
  return [path.relative_to(root).with_suffix("").as_posix() for path in full]


def _make_video_inputs(path: pathlib.Path) -> Inputs:
  capture = cv2.VideoCapture(str(path))
  readable, count = capture.read()[0], capture.get(cv2.CAP_PROP_FRAME_COUNT)
  capture.release()
  if not readable:
    raise ValueError(f"{path} cannot be read as a video; expected at least one frame")
  declared = max(int(count), 0)
  return Inputs((path,), declared, lambda: _read_frames(path, declared))


def _read_frames(path: pathlib.Path, declared: int) -> Iterator[Input]:
  """Yields the frames of a video, STEM/000000 and so on, until it ends or cannot be read.

  If it ends before the declared number of frames, a last one says so when it is loaded.
  """

  def fail() -> np.ndarray:
    raise ValueError(f"{path} ends after {number} of the {declared} frames that it declares")

  capture = cv2.VideoCapture(str(path))
  number = 0
  while True:
    success, frame = capture.read()
    if not success:
      break
    load = functools.partial(cv2.cvtColor, frame, cv2.COLOR_BGR2RGB)
    yield Input(f"{path.stem}/{number:06d}", path, load, lambda size=frame.nbytes: size)
    number += 1
  capture.release()
  if number < declared:
    yield Input(f"{path.stem}/{number:06d}", path, fail)
