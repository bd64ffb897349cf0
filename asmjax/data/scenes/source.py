"""Source of procedural rooms with furniture: all truth of a pixel comes from the same ray hit.

Colors and textures of all objects, walls and floors come from one distribution, and shapes as wide
as the objects' parts are painted on walls, floor and ceiling: a pixel's neighborhood says little
about its class, while the arrangement of parts determines it.
"""

import dataclasses
import pathlib
from typing import ClassVar

import numpy as np

from asmjax.data.descriptor import Descriptor, check_index, check_split
from asmjax.data.scenes import rooms, textures
from asmjax.data.scenes.furniture import KINDS
from asmjax.data.scenes.render import View, render

_LENGTHS = {"train": 1024, "val": 256, "test": 256}
_CLASSES = ("wall", "floor", *KINDS)

# Axis and sign of the inward normals of the four walls, the floor and the ceiling.
_FACES = ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1))


@dataclasses.dataclass(frozen=True)
class Scenes:
  """Source of rendered rooms with objects; an example depends on (seed, split, index, size) alone.

  Examples are reproducible on one kind of CPU; another may round the last bit of images and normals
  differently.

  All truth refers to the pixel's center and is exact: `label` and `instance` (0 for the room) of
  the surface that the ray hits first, its `depth` along the optical axis and its `normals`.  A
  surface visible through a hole has its own label.  Every size depicts the same scene; an oblong
  image is the middle of the square one.

  Attributes:
    split: "train", "val" or "test".
    seed: Seed of the data set; another seed is another data set.
    size: (height, width) of the images in pixels; 96x96 by default.
    length: Number of images; 0, the default, is 1024 for "train" and 256 for "val" and "test".

  Raises:
    ValueError: The split is unknown, the length negative, or a side shorter than 16 pixels.
  """

  split: str
  seed: int = 0
  size: tuple[int, int] = (96, 96)
  length: int = 0

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="scenes",
    classes=_CLASSES,
    palette=(  # Apart in CIELAB with deuteranopia too (Machado et al. 2009).
      (215, 215, 215),
      (60, 60, 60),
      (200, 60, 0),
      (0, 90, 180),
      (0, 130, 90),
      (240, 228, 66),
      (225, 110, 190),
      (110, 200, 245),
      (235, 150, 30),
    ),
    splits=tuple(_LENGTHS),
    provides=frozenset({"label", "depth", "normals", "instance"}),
  )

  def __post_init__(self) -> None:
    """Checks the fields; `size` is a list when it comes from a config."""
    check_split(self.split, _LENGTHS)
    object.__setattr__(self, "size", tuple(self.size))
    if len(self.size) != 2 or min(self.size) < 16:
      raise ValueError(f"size {self.size}: expected (height, width), both at least 16")
    if self.length < 0:
      raise ValueError(f"length {self.length}: expected a number of images, or 0 for the default")

  def __len__(self) -> int:
    return self.length or _LENGTHS[self.split]

  def files(self, index: int) -> dict[str, pathlib.Path]:
    """Returns no paths, since examples are rendered."""
    return {}

  @property
  def intrinsics(self) -> np.ndarray:
    """Camera matrix of every example, float64 (3, 3).

    The pixel in row r and column c has its center at (c + 1/2, r + 1/2).
    """
    height, width = self.size
    focal = rooms.FOCAL * max(height, width)
    return np.array([(focal, 0, width / 2), (0, focal, height / 2), (0, 0, 1)])

  def scene(self, index: int) -> rooms.Scene:
    """Returns the geometry of example `index`."""
    return rooms.draw_scene(self._rng(index), self.intrinsics, self.size)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Renders example `index`, with all five keys; see `asmjax.data.descriptor.Source`."""
    rng = self._rng(index)
    scene = rooms.draw_scene(rng, self.intrinsics, self.size)
    parts, instances = scene.parts()
    view = render(scene.camera, parts)
    world_normals = np.einsum(
      "jk,khw->jhw", scene.camera.pose.rotation.astype(np.float32), view.normals
    )
    instance = instances[view.owner]
    classes = np.array([0, *(_CLASSES.index(item.kind) for item in scene.objects)], np.int32)
    label = classes[instance]
    label[(instance == 0) & (world_normals[2] > 0.5)] = _CLASSES.index("floor")
    radiance = _compute_radiance(rng, scene, view, world_normals, instance)
    visible = np.bincount(instance.ravel(), minlength=len(classes)) > 0
    return {
      "image": textures.photograph(rng, radiance),
      "label": label,
      "depth": view.depth,
      "normals": np.stack([view.normals[0], view.normals[1], -view.normals[2]], -1),
      "instance": (np.cumsum(visible, dtype=np.int32) - 1)[instance],
    }

  def _rng(self, index: int) -> np.random.Generator:
    check_index(index, len(self))
    # The last word, 1, keeps this stream apart from those of augmentation, whose three words NumPy
    # pads with a 0; see `asmjax.data.loader.EpochSampler.rng`.
    return np.random.default_rng([self.seed, self.descriptor.splits.index(self.split), index, 1])


def _compute_radiance(
  rng: np.random.Generator,
  scene: rooms.Scene,
  view: View,
  world_normals: np.ndarray,
  instance: np.ndarray,
) -> np.ndarray:
  """Computes the light that reaches the camera, float32 (h, w, 3).

  `world_normals` (3, h, w) are the view's normals in the world's frame; `instance` (h, w) is 0 for
  the room.
  """
  x, y = scene.camera.rays()
  points = np.stack([view.depth * x, view.depth * y[:, None], view.depth])
  flat_points, flat_instance = points.reshape(3, -1), instance.ravel()
  colors = np.empty((flat_instance.size, 3), np.float32)
  room = np.flatnonzero(flat_instance == 0)
  colors[room] = _paint_room(
    rng, scene, scene.camera.pose.apply(flat_points[:, room]), world_normals.reshape(3, -1)[:, room]
  )
  for index, item in enumerate(scene.objects, 1):
    paint, pixels = textures.draw_paint(rng), np.flatnonzero(flat_instance == index)
    camera_in_object = item.pose.inverse() @ scene.camera.pose
    colors[pixels] = paint(camera_in_object.apply(flat_points[:, pixels]))
  light = _draw_light(rng, scene)
  return colors.reshape(*instance.shape, 3) * light.shade(points, view.normals)[..., None]


def _draw_light(rng: np.random.Generator, scene: rooms.Scene) -> textures.Light:
  """Draws a lamp below the ceiling, in the camera's frame."""
  position = rng.uniform((-0.8, -0.8, 1.5), (0.8, 0.8, 1.9)) * scene.room.half
  return textures.Light(
    position=scene.camera.pose.inverse().apply(position[:, None])[:, 0],
    ambient=rng.uniform(0.3, 0.55),
    reach=rng.uniform(2, 4),
  )


def _paint_room(
  rng: np.random.Generator, scene: rooms.Scene, points: np.ndarray, normals: np.ndarray
) -> np.ndarray:
  """Draws colors (n, 3) of the room's points (3, n): three paints, painted shapes and shadows."""
  colors = np.empty((points.shape[1], 3), np.float32)
  walls, floor, ceiling, *shape_paints = (textures.draw_paint(rng) for _ in range(7))
  half = np.array(scene.room.half)
  middle = np.array([0, 0, half[2]], np.float32)[:, None]
  for axis, sign in _FACES:
    indices = np.flatnonzero(normals[axis] * sign > 0.5)
    face_points, in_plane = points[:, indices], np.delete(np.arange(3), axis)
    base = walls if axis < 2 else floor if sign > 0 else ceiling
    face_colors = base(face_points)
    for _ in range(rng.integers(1, 6)):
      shape = textures.draw_shape(rng, half[in_plane])
      paint = shape_paints[rng.integers(len(shape_paints))]
      covered = np.flatnonzero(shape.covers((face_points - middle)[in_plane]))
      face_colors[covered] = paint(face_points[:, covered])
    if base is floor:
      face_colors *= _draw_shadows(rng, scene, face_points[:2])[:, None]
    colors[indices] = face_colors
  return colors


def _draw_shadows(rng: np.random.Generator, scene: rooms.Scene, points: np.ndarray) -> np.ndarray:
  """Computes the floor's brightness (n,) at points (2, n): dark below objects and in two places."""
  half = np.array(scene.room.half[:2])
  blobs = [(item.pose.translation[:2], item.radius) for item in scene.objects]
  blobs += [(rng.uniform(-0.9, 0.9, 2) * half, rng.uniform(0.2, 0.6)) for _ in range(2)]
  brightness = np.ones(points.shape[1], np.float32)
  for center, radius in blobs:
    offset = (points - center.astype(np.float32)[:, None]) / np.float32(radius)
    darkness = np.float32(rng.uniform(0.2, 0.6))
    brightness *= 1 - darkness * np.exp(-2 * np.einsum("kn,kn->n", offset, offset))
  return brightness
