"""Sequence of one room recorded with an RGB-D camera, as in 7-Scenes (Shotton et al. 2013)."""

import dataclasses
import functools
import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.geometry import check_intrinsics, normals_from_depth
from asmjax.data.transforms import Example

_COLOR = re.compile(r"frame-(\d+)\.color\.(?:jpg|png)")
_MISSING = 65535
# Standard deviation of inverse depth in 1/m: a little less than half of 0.0029, the step in which a
# structured-light camera of 640 x 480 pixels measures inverse depth.
_NOISE = 0.0013


@dataclasses.dataclass(frozen=True)
class RgbdSweep(FileSource):
  """Source of an RGB-D sequence: photos, depths in meters, and normals computed from the depths.

  The splits are consecutive runs of frames, since a frame between two frames of another split would
  show nearly the same view as these.  The frames on the two sides of a border still do: the first
  frames of "val" resemble the last of "train", and "val" separates "train" from "test".  All splits
  show the same room; results say nothing about other rooms.

  Attributes:
    root: Path of the folder with `camera-intrinsics.txt` and the frames.
    split: "train", "val", "test", or "all" with every frame.
    parts: Shares of the frames in "train", "val" and "test"; 0.7, 0.1 and 0.2 by default.

  Raises:
    ValueError: `parts` do not add to 1, the intrinsics are malformed, two images are of one frame,
      or the split is unknown or empty.
    FileNotFoundError: The folder has no intrinsics.
  """

  parts: tuple[float, float, float] = (0.7, 0.1, 0.2)

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="rgbd_sweep",
    classes=(),
    palette=(),
    splits=("train", "val", "test", "all"),
    provides=frozenset({"depth", "normals"}),
  )
  marker_path: ClassVar[str] = "camera-intrinsics.txt"
  layout: ClassVar[str] = (
    "ROOT/camera-intrinsics.txt (3x3) and ROOT/frame-N.color.jpg or .png, frame-N.depth.png of 16 "
    "bits in millimeters, 0 or 65535 = missing"
  )

  def __post_init__(self) -> None:
    """Checks the parts (a list when they come from a config), the frames and the intrinsics."""
    object.__setattr__(self, "parts", tuple(self.parts))
    if len(self.parts) != 3 or min(self.parts) < 0 or not math.isclose(sum(self.parts), 1):
      raise ValueError(f"parts {self.parts}: expected shares of train, val and test that add to 1")
    super().__post_init__()
    _ = self.intrinsics  # Malformed ones raise now, before a run starts.

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's color images, in the order of their frames."""
    names = sort_frames((path.name for path in self.folder.iterdir()), self.folder)
    if self.split == "all":
      return names
    return cut_into_runs(names, self.parts)[self.descriptor.splits.index(self.split)]

  @functools.cached_property
  def intrinsics(self) -> np.ndarray:
    """Camera matrix, float64 (3, 3), for pixels whose centers have integer coordinates."""
    path = self.folder / self.marker_path
    rows = [line.split() for line in decode.read_lines(path)]
    try:
      intrinsics = np.array(rows, np.float64)
      check_intrinsics(intrinsics)
    except ValueError as error:
      raise ValueError(f"{path} cannot be used ({error}); expected 3 rows of 3 numbers") from error
    return intrinsics

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its depth map."""
    name = self.names[index]
    depth = f"{name.split('.')[0]}.depth.png"
    return {"image": self.folder / name, "depth": self.folder / depth}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its depths, and computes the normals; see `normals_from_depth`."""
    raw = decode.read_raw16(files["depth"])
    depth = np.where(raw == _MISSING, 0, raw).astype(np.float32) / 1000
    normals = normals_from_depth(depth, self.intrinsics, noise=_NOISE)
    return {"image": decode.read_photo(files["image"]), "depth": depth, "normals": normals}


def sort_frames(names: Iterable[str], folder: pathlib.Path) -> tuple[str, ...]:
  """Selects the names of color images in a folder, and sorts them by the numbers of their frames.

  Raises:
    ValueError: Two color images have the same frame number.
  """
  frames: dict[int, str] = {}
  for name in sorted(names):
    if match := _COLOR.fullmatch(name):
      first = frames.setdefault(int(match[1]), name)
      if first != name:
        raise ValueError(f"{folder} holds {first} and {name}; expected one image of a frame")
  return tuple(frames[number] for number in sorted(frames))


def cut_into_runs(names: Sequence[str], parts: Sequence[float]) -> list[tuple[str, ...]]:
  """Cuts `names` into consecutive runs, whose lengths are shares of `len(names)`, rounded."""
  cuts = [round(len(names) * share) for share in itertools.accumulate(parts, initial=0)]
  return [tuple(names[start:stop]) for start, stop in itertools.pairwise(cuts)]
