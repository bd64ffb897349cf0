"""What is to be predicted: an image, a folder of images, a list of their paths, or a video."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from asmjax.data import decode

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
LIST = ".txt"


class Input(NamedTuple):
  """One image.

  Attributes:
    name: relative path, without the suffix, that its predictions get.
    path: of the file that it is in.
    load: reads it, uint8 (h, w, 3); raises ValueError or OSError, naming the file, if that fails.
  """

  name: str
  path: pathlib.Path
  load: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Inputs:
  """Images in order.

  Attributes:
    paths: of the files that they are in.
    count: of images; for videos what the file says, which may be wrong; 0 if it does not.
    read: goes through them once.
  """

  paths: tuple[pathlib.Path, ...]
  count: int
  read: Callable[[], Iterable[Input]]


def find(source: str | pathlib.Path, *, besides: str | pathlib.Path = "") -> Inputs:
  """The images that a path stands for; opens none of them.

  Args:
    source: an image; a folder, of which and of whose folders all images count but hidden
      ones; a text file with one path a line, seen from its own folder; or a video.
    besides: the folder of the predictions, which is left out where it lies inside of `source`.

  Raises:
    FileNotFoundError: there is nothing at `source`.
    ValueError: there are no images, or two that only differ in their suffix, whose predictions
      would have one name; no video where the suffix says so; or `besides` is `source`.
  """
  source = pathlib.Path(source).expanduser()
  if source.is_dir():
    return _of_images(_in_folder(source, besides), source, f"in {source}")
  decode.check_exists(source, "expected an image, a folder, a list of paths or a video")
  suffix = source.suffix.lower()
  if suffix in VIDEOS:
    return _of_video(source)
  if suffix == LIST:
    paths = [source.parent / line for line in decode.lines(source)]
    return _of_images(paths, source.parent, f"in the list {source}")
  return _of_images([source], source.parent, f"at {source}")


def _in_folder(folder: pathlib.Path, besides: str | pathlib.Path) -> list[pathlib.Path]:
  root, left_out = folder.resolve(), pathlib.Path(besides).resolve() if besides else None
  if left_out == root:
    raise ValueError(f"predictions would go to {folder} like the images; choose another folder")
  inside = left_out is not None and root in left_out.parents
  found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in decode.IMAGES)
  return [
    path
    for path in found
    if path.is_file()
    and not (inside and left_out in path.resolve().parents)
    and not any(part.startswith(".") for part in path.relative_to(folder).parts)
  ]


def _of_images(paths: list[pathlib.Path], root: pathlib.Path, where: str) -> Inputs:
  if not paths:
    raise ValueError(f"no images {where}; known suffixes: {', '.join(decode.IMAGES)}")
  named: dict[str, pathlib.Path] = {}
  for name, path in zip(_names(paths, root), paths, strict=True):
    if name in named:
      raise ValueError(
        f"{named[name]} and {path} would both be predicted as {name!r}; predict them apart"
      )
    named[name] = path
  inputs = [
    Input(name, path, functools.partial(decode.photo, path)) for name, path in named.items()
  ]
  return Inputs(tuple(paths), len(inputs), lambda: inputs)


def _names(paths: list[pathlib.Path], root: pathlib.Path) -> list[str]:
  """Paths as seen from `root` or, if one of them is elsewhere, from what they have in common."""
  full = [pathlib.Path(os.path.abspath(path)) for path in paths]
  root = pathlib.Path(os.path.abspath(root))
  if not all(path.is_relative_to(root) for path in full):
    root = pathlib.Path(os.path.commonpath([path.parent for path in full]))
  return [path.relative_to(root).with_suffix("").as_posix() for path in full]


def _of_video(path: pathlib.Path) -> Inputs:
  capture = cv2.VideoCapture(str(path))
  readable, count = capture.read()[0], capture.get(cv2.CAP_PROP_FRAME_COUNT)
  capture.release()
  if not readable:
    raise ValueError(f"{path} cannot be read as a video; expected at least one frame")
  return Inputs((path,), max(int(count), 0), lambda: _frames(path))


def _frames(path: pathlib.Path) -> Iterator[Input]:
  """The frames of a video up to where it ends or cannot be read: STEM/000000 and so on."""
  capture = cv2.VideoCapture(str(path))
  number = 0
  while True:
    found, frame = capture.read()
    if not found:
      break
    yield Input(
      f"{path.stem}/{number:06d}", path, functools.partial(cv2.cvtColor, frame, cv2.COLOR_BGR2RGB)
    )
    number += 1
  capture.release()
