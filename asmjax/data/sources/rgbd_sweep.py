"""A sweep of one room with an RGB-D camera, as 7-Scenes has them (Shotton et al. 2013)."""

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
# In 1/m: a little less than half the step of 0.0029 in which structured light of 640 x 480 pixels
# measures inverse depth.
_NOISE = 0.0013


@dataclasses.dataclass(frozen=True)
class RgbdSweep(FileSource):
  """Photos, depths in meters and the normals that follow from them (`normals_from_depth`).

  The parts follow each other in the order of the frames' numbers, since a frame between two frames
  of another part shows nearly what they do.  So do the frames on the two sides of a border: the
  first of "val" flatter a model, while "val" itself lies between "train" and "test".  All parts
  show one room, and results say nothing about others.

  Attributes:
    parts: shares of the frames in "train", "val" and "test"; "all" has every frame.
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
    """Checks the parts, which configs hand over as a list, the frames and the intrinsics."""
    object.__setattr__(self, "parts", tuple(self.parts))
    if len(self.parts) != 3 or min(self.parts) < 0 or not math.isclose(sum(self.parts), 1):
      raise ValueError(f"parts {self.parts}: expected shares of train, val and test that add to 1")
    super().__post_init__()
    _ = self.intrinsics  # Malformed ones are better found now than at the first example.

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's color images in the order of their frames."""
    names = in_order((path.name for path in self.folder.iterdir()), self.folder)
    if self.split == "all":
      return names
    return contiguous(names, self.parts)[self.descriptor.splits.index(self.split)]

  @functools.cached_property
  def intrinsics(self) -> np.ndarray:
    """The camera's intrinsics, float64 (3, 3), for pixels whose centers are whole numbers."""
    path = self.folder / self.marker_path
    rows = [line.split() for line in decode.lines(path)]
    try:
      intrinsics = np.array(rows, np.float64)
      check_intrinsics(intrinsics)
    except ValueError as error:
      raise ValueError(f"{path} cannot be used ({error}); expected 3 rows of 3 numbers") from error
    return intrinsics

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """A photo and its depth map."""
    name = self.names[index]
    depth = f"{name.split('.')[0]}.depth.png"
    return {"image": self.folder / name, "depth": self.folder / depth}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """The photo, its depths and their normals."""
    raw = decode.raw16(files["depth"])
    depth = np.where(raw == _MISSING, 0, raw).astype(np.float32) / 1000
    normals = normals_from_depth(depth, self.intrinsics, noise=_NOISE)
    return {"image": decode.photo(files["image"]), "depth": depth, "normals": normals}


def in_order(names: Iterable[str], folder: pathlib.Path) -> tuple[str, ...]:
  """The names of color images among `names`, by the number of their frame.

  Raises:
    ValueError: two of them are of one frame of `folder`.
  """
  frames: dict[int, str] = {}
  for name in sorted(names):
    if found := _COLOR.fullmatch(name):
      other = frames.setdefault(int(found[1]), name)
      if other != name:
        raise ValueError(f"{folder} holds {other} and {name}; expected one image of a frame")
  return tuple(frames[number] for number in sorted(frames))


def contiguous(names: Sequence[str], parts: Sequence[float]) -> list[tuple[str, ...]]:
  """Cuts `names` into runs whose shares of them are `parts`, up to rounding."""
  cuts = [round(len(names) * share) for share in itertools.accumulate(parts, initial=0)]
  return [tuple(names[start:stop]) for start, stop in itertools.pairwise(cuts)]
