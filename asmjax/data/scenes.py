"""Procedural scenes whose classes differ in structure alone: thin objects with holes, on clutter.

Colours and textures of all objects and of the background come from one distribution, and the
background contains strokes as wide as the objects' parts: a pixel's neighbourhood tells little,
the arrangement of parts does.  Lengths are in units of an object's scale; x points right, y down.
"""

import dataclasses
import pathlib
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from asmjax.data.descriptor import Descriptor, check_index, check_split

_LENGTHS = {"train": 1024, "val": 256, "test": 256}

# Masks are drawn larger by this factor and averaged: coverage in steps of 1/16.
_SUPERSAMPLING = 4
# Fractional bits of OpenCV's fixed-point coordinates.
_SHIFT = 4
# Narrower strokes would break up: no pixel along them need be covered by half.
_THINNEST = 1.2


class Part(NamedTuple):
  """A polyline of `points` (k, 2) and `width`; width 0 is the filled polygon."""

  points: np.ndarray
  width: float


class Pose(NamedTuple):
  """Where an object stands: `centre` (x, y) and `scale` in pixels, `angle` in radians."""

  centre: tuple[float, float]
  scale: float
  angle: float
  mirrored: bool


@dataclasses.dataclass(frozen=True)
class Scenes:
  """Images with labels at every pixel; image `index` is a function of (seed, split, index, size).

  What is seen through a hole is labelled as what it is.  Stroke widths scale with the smaller side.

  Attributes:
    split: "train", "val" or "test".
    seed: another seed is another data set.
    size: (height, width) in pixels.
    length: number of images; 0 = 1024 for train, 256 for val and test.

  Raises:
    ValueError: unknown split, negative length or a side below 16 pixels.
  """

  split: str
  seed: int = 0
  size: tuple[int, int] = (96, 96)
  length: int = 0

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="scenes",
    classes=("background", "wheel", "chair", "fence", "ladder", "frame"),
    palette=(
      (0, 0, 0), (230, 80, 60), (70, 160, 240), (110, 200, 80), (240, 200, 60), (190, 100, 220)
    ),
    splits=tuple(_LENGTHS),
    provides=frozenset({"label"}),
  )

  def __post_init__(self) -> None:
    """Checks the fields; configs hand over `size` as a list."""
    check_split(self.split, _LENGTHS)
    object.__setattr__(self, "size", tuple(self.size))
    if len(self.size) != 2 or min(self.size) < 16:
      raise ValueError(f"size {self.size}: expected (height, width), both at least 16")
    if self.length < 0:
      raise ValueError(f"length {self.length}: expected a number of images, or 0 for the default")

  def __len__(self) -> int:
    """Number of images."""
    return self.length or _LENGTHS[self.split]

  def files(self, index: int) -> dict[str, pathlib.Path]:
    """None."""
    return {}

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """`image` uint8 (h, w, 3) and `label` int32 (h, w)."""
    check_index(index, len(self))
    # The last word keeps the stream apart from those that augmentation derives from three words.
    key = [self.seed, self.descriptor.splits.index(self.split), index, 1]
    return _scene(np.random.default_rng(key), self.size)


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
  """Paints clutter, then one to three objects over each other, then light and noise."""
  image, base = _background(rng, size)
  label = np.zeros(size, np.int32)
  for _ in range(rng.integers(1, 4)):
    kind = int(rng.integers(1, len(_OBJECTS) + 1))
    # Now and then the next object has the last one's colour, and only structure separates them.
    base = base if rng.random() < 0.2 else _distinct_colour(rng, image)
    draw, pose = _OBJECTS[kind - 1]
    cover = coverage(draw(rng), pose(rng, size), size)
    image = _over(image, _shaded(rng, _texture(rng, size, base)), cover)
    label[cover >= 0.5] = kind
  return {"image": _exposed(rng, image), "label": label}


# Objects.  Each function returns the parts of one object, about 1 across.


def wheel(rng: np.random.Generator) -> list[Part]:
  """A rim, a hub and 5 to 9 thin spokes, seen from a random angle."""
  squeeze = np.array([rng.uniform(0.6, 1), 1])
  count = rng.integers(5, 10)
  angles = 2 * np.pi * (np.arange(count) + rng.random()) / count
  tips = 0.46 * np.stack([np.cos(angles), np.sin(angles)], -1) * squeeze
  spokes = [Part(np.stack([np.zeros(2), tip]), 0.04) for tip in tips]
  rim = Part(_ellipse(0.46) * squeeze, rng.uniform(0.06, 0.09))
  return [*spokes, rim, Part(_ellipse(rng.uniform(0.06, 0.1)) * squeeze, 0)]


def chair(rng: np.random.Generator) -> list[Part]:
  """Four legs, a seat and a back of slats between two posts, in oblique view."""
  depth = np.array([rng.uniform(0.15, 0.3), -rng.uniform(0.1, 0.2)])
  width, leg, back = rng.uniform(0.35, 0.45), rng.uniform(0.4, 0.5), rng.uniform(0.45, 0.6)
  front_left, front_right = np.array([-width, 0]) / 2, np.array([width, 0]) / 2
  seat = np.stack([front_left, front_right, front_right + depth, front_left + depth])
  legs = [_segment(corner, corner + [0, leg], 0.05) for corner in seat]
  # The back stands on the rear edge or on the side edge: a chair from the front or from the side.
  foot, other = (seat[3], seat[2]) if rng.random() < 0.5 else (seat[0], seat[3])
  posts = [_segment(end, end - [0, back], 0.05) for end in (foot, other)]
  heights = np.linspace(1, 0.3, rng.integers(2, 5)) * back
  slats = [_segment(foot - [0, up], other - [0, up], 0.06) for up in heights]
  return [*legs, *posts, *slats, Part(seat, 0), Part(_closed(seat), 0.05)]


def fence(rng: np.random.Generator) -> list[Part]:
  """Many posts joined by two or three rails, wider than high."""
  half, height = 0.5, rng.uniform(0.25, 0.45)
  count = rng.integers(7, 12)
  pointed = rng.uniform(0, 0.05)
  xs = np.linspace(-half, half, count)
  tops = -height / 2 - pointed * (np.arange(count) % 2)
  posts = [_segment((x, top), (x, height / 2), 0.04) for x, top in zip(xs, tops, strict=True)]
  levels = np.linspace(-0.3, 0.3, rng.integers(2, 4)) * height
  return posts + [_segment((-half, y), (half, y), 0.035) for y in levels]


def ladder(rng: np.random.Generator) -> list[Part]:
  """Two long rails, a little closer at the top, with 5 to 8 rungs."""
  foot = rng.uniform(0.11, 0.16)
  top = foot * rng.uniform(0.75, 1)
  rails = [_segment((side * foot, 0.5), (side * top, -0.5), 0.05) for side in (-1, 1)]
  ys = np.linspace(0.42, -0.42, rng.integers(5, 9))
  halves = top + (foot - top) * (ys + 0.5)
  return rails + [_segment((-x, y), (x, y), 0.045) for x, y in zip(halves, ys, strict=True)]


def frame(rng: np.random.Generator) -> list[Part]:
  """An empty rectangle or ellipse, sometimes with a second one inside: a wheel without spokes."""
  sides = np.array([rng.uniform(0.55, 1), 1]) * 0.46
  corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
  outline = _ellipse(1) if rng.random() < 0.5 else _closed(corners * 0.85)
  parts = [Part(outline * sides, rng.uniform(0.06, 0.1))]
  if rng.random() < 0.4:
    parts.append(Part(outline * sides * rng.uniform(0.5, 0.65), 0.05))
  return parts


def _free_pose(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
  return _pose(rng, size, scale=rng.uniform(0.5, 0.85) * min(size), tilt=np.pi)


def _leaning_pose(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
  return _pose(rng, size, scale=rng.uniform(0.6, 0.95) * min(size), tilt=0.6)


def _standing_pose(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
  return _pose(rng, size, scale=rng.uniform(0.55, 0.9) * min(size), tilt=0.15)


def _wide_pose(rng: np.random.Generator, size: tuple[int, int]) -> Pose:
  return _pose(rng, size, scale=rng.uniform(0.75, 1.25) * size[1], tilt=0.12)


def _pose(
  rng: np.random.Generator, size: tuple[int, int], *, scale: float, tilt: float
) -> Pose:
  x, y = rng.uniform(0.25, 0.75, 2) * (size[1], size[0])
  return Pose((x, y), scale, rng.uniform(-tilt, tilt), bool(rng.random() < 0.5))


# Label k is entry k - 1.
_OBJECTS = (
  (wheel, _free_pose),
  (chair, _standing_pose),
  (fence, _wide_pose),
  (ladder, _leaning_pose),
  (frame, _free_pose),
)


# Geometry to pixels.


def coverage(parts: list[Part], pose: Pose, size: tuple[int, int]) -> np.ndarray:
  """The fraction of each pixel that an object covers, float32 (h, w)."""
  canvas = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), np.uint8)
  for points, width in parts:
    # Pixel centres lie at integers for OpenCV, and the image begins half a pixel before the first.
    spots = _placed(points, pose) * _SUPERSAMPLING - 0.5
    fixed = np.round(spots * (1 << _SHIFT)).astype(np.int32)
    if width:
      thick = max(1, round(max(width * pose.scale, _THINNEST) * _SUPERSAMPLING))
      cv2.polylines(canvas, [fixed], False, 255, thick, cv2.LINE_8, _SHIFT)
    else:
      cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_8, _SHIFT)
  return cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _placed(points: np.ndarray, pose: Pose) -> np.ndarray:
  cos, sin = np.cos(pose.angle), np.sin(pose.angle)
  rotation = np.array([(cos, -sin), (sin, cos)]) * pose.scale
  flip = np.array([-1 if pose.mirrored else 1, 1])
  return (points * flip) @ rotation.T + pose.centre


def _segment(start: np.ndarray, end: np.ndarray, width: float) -> Part:
  return Part(np.array([start, end], float), width)


def _ellipse(radius: float) -> np.ndarray:
  angles = np.linspace(0, 2 * np.pi, 41)
  return radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def _closed(corners: np.ndarray) -> np.ndarray:
  return np.concatenate([corners, corners[:1]])


# Appearance.


def _background(
  rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """A texture with 4 to 12 pieces of clutter: straight strokes, dots and blobs."""
  base = _colour(rng)
  image = _shaded(rng, _texture(rng, size, base))
  for _ in range(rng.integers(2, 4)):
    base = _distinct_colour(rng, image)
    parts = [_clutter(rng) for _ in range(rng.integers(2, 5))]
    cover = coverage(parts, Pose((0, 0), max(size), 0, False), size)
    image = _over(image, _texture(rng, size, base), cover)
  return image, base


def _clutter(rng: np.random.Generator) -> Part:
  start = rng.uniform(0, 1, 2)
  kind = rng.integers(4)
  if kind < 2:
    return _segment(start, start + rng.uniform(-0.5, 0.5, 2), rng.uniform(0.012, 0.04))
  if kind == 2:
    return Part(start + _ellipse(rng.uniform(0.01, 0.03)), 0)
  return Part(start + _ellipse(1) * rng.uniform(0.04, 0.15, 2), 0)


def _over(below: np.ndarray, above: np.ndarray, cover: np.ndarray) -> np.ndarray:
  return below + (above - below) * cv2.merge([cover] * 3)


def _colour(rng: np.random.Generator) -> np.ndarray:
  """Any grey to moderately saturated colour, float32 (3,) in 0..255."""
  grey = rng.uniform(40, 215)
  return np.clip(grey + rng.uniform(-50, 50, 3), 0, 255).astype(np.float32)


def _distinct_colour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The one of three colours that stands out most: an unseen object would be label noise."""
  mean = np.array(cv2.mean(image)[:3])
  return max((_colour(rng) for _ in range(3)), key=lambda colour: np.abs(colour - mean).sum())


def _texture(rng: np.random.Generator, size: tuple[int, int], base: np.ndarray) -> np.ndarray:
  """Blotches of random grain in each direction, or stripes, about `base`; float32 (h, w, 3)."""
  if rng.random() < 0.3:
    pattern = _stripes(rng, size)
  else:
    cells = rng.integers(2, 24, 2)
    coarse = rng.standard_normal((cells[0], cells[1]), np.float32)
    pattern = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
  tint = rng.uniform(0.4, 1, 3).astype(np.float32) * rng.uniform(4, 28)
  return cv2.transform(pattern, np.stack([tint, base], -1))


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
  angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 16)
  slope = 2 * np.pi * waves / max(size) * np.array([np.sin(angle), np.cos(angle)])
  rows = np.arange(size[0])[:, None] * slope[0]
  columns = np.arange(size[1])[None] * slope[1]
  return np.sin(rows + columns + rng.uniform(0, 2 * np.pi)).astype(np.float32)


def _shaded(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Brightness that changes linearly over the image by up to a third."""
  height, width = image.shape[:2]
  slope = rng.uniform(-0.16, 0.16, 2).astype(np.float32)
  rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * slope[0]
  columns = np.linspace(-1, 1, width, dtype=np.float32)[None] * slope[1]
  return image * (1 + rows + columns)[..., None]


def _exposed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Sensor noise, then 8 bits."""
  noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 9)
  return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
