"""What stands where in `asmjax.data.scenes`: a room, objects on its floor and a camera.

In the world z points up and the floor is z = 0; lengths are in meters.
"""

from typing import NamedTuple

import numpy as np

from asmjax.data.scenes.furniture import KINDS
from asmjax.data.scenes.primitives import Pose, Room, rotation
from asmjax.data.scenes.render import Camera, Part

# Focal length over the image's longer side, and half of the view along it in radians.
FOCAL = 1.0
_HALF_VIEW = np.arctan(0.5 / FOCAL)
# Meters between the camera and an object.
_NEAREST = 1.0
# Places tried for an object before it is left out.
_MAX_ATTEMPTS = 48


class SceneObject(NamedTuple):
  """An object.

  Attributes:
    kind: its class.
    parts: its solids, in its own frame.
    pose: that frame in the world.
    radius: of a disc on the floor about the frame's origin, above which all parts are.
  """

  kind: str
  parts: list[Part]
  pose: Pose
  radius: float


class Scene(NamedTuple):
  """What there is to see, but for its colors; the world's origin is the middle of the floor."""

  camera: Camera
  room: Room
  objects: list[SceneObject]

  def parts(self) -> tuple[list[Part], np.ndarray]:
    """All solids in the world, and the instance of each: 0 for the room, k for object k - 1."""
    middle = Pose(np.eye(3), np.array([0, 0, self.room.half[2]]))
    placed = [
      (Part(part.solid, item.pose @ part.pose), instance)
      for instance, item in enumerate(self.objects, 1)
      for part in item.parts
    ]
    parts, instances = zip((Part(self.room, middle), 0), *placed, strict=True)
    return list(parts), np.array(instances, np.int32)


def draw(rng: np.random.Generator, intrinsics: np.ndarray, size: tuple[int, int]) -> Scene:
  """Two to five objects in a room; draws anew where fewer than two find a place."""
  while True:
    room = Room(tuple(rng.uniform((2.0, 2.0, 1.2), (3.2, 3.2, 1.6))))
    eye = _viewpoint(rng, room)
    objects = _draw_objects(rng, room, eye)
    if len(objects) >= 2:
      return Scene(Camera(eye, intrinsics, size), room, objects)


def _draw_objects(rng: np.random.Generator, room: Room, eye: Pose) -> list[SceneObject]:
  """Up to five objects, of which some may have been left out for want of room."""
  objects: list[SceneObject] = []
  wanted = int(rng.integers(2, 6))
  for kind in rng.choice(tuple(KINDS), 2 * wanted):
    item = _placed(rng, str(kind), room, eye, objects)
    if item:
      objects.append(item)
    if len(objects) == wanted:
      break
  return objects


def _viewpoint(rng: np.random.Generator, room: Room) -> Pose:
  """A camera at a person's height near a wall that looks across the room and a little down."""
  across = rng.uniform(0, 2 * np.pi)
  direction = np.array([np.cos(across), np.sin(across)])
  back = np.min((np.array(room.half[:2]) - 0.3) / np.abs(direction)) * rng.uniform(0.8, 1)
  height = rng.uniform(1.2, 1.9)
  yaw = rotation(2, across + rng.uniform(-0.15, 0.15))
  pitch = rotation(1, np.arctan((height - 0.4) / rng.uniform(2.0, 3.2)))
  # The camera's right, down and forward, as columns, before it turns: -y, -z and x.
  level = np.array([(0, 0, 1), (-1, 0, 0), (0, -1, 0)])
  return Pose(yaw @ pitch @ level, np.array([*(-back * direction), height]))


def _placed(
  rng: np.random.Generator, kind: str, room: Room, eye: Pose, others: list[SceneObject]
) -> SceneObject | None:
  """An object in view that touches no other nor hides it; None where no place is found."""
  parts = KINDS[kind](rng)
  radius = _radius(parts)
  facing = rotation(2, rng.uniform(0, 2 * np.pi))
  nearest = radius + _NEAREST
  distances = rng.uniform(nearest, max(nearest + 0.3, min(3.6, 8 * radius)), _MAX_ATTEMPTS)
  bearings = rng.uniform(-0.85, 0.85, _MAX_ATTEMPTS) * _HALF_VIEW
  forward = eye.rotation[:2, 2] / np.linalg.norm(eye.rotation[:2, 2])
  offsets = distances[:, None] * _turned(forward, bearings)
  spots = eye.translation[:2] + offsets
  free = (np.abs(spots) + radius < room.half[:2]).all(-1)
  for other in others:
    offset = other.pose.translation[:2] - eye.translation[:2]
    free &= np.linalg.norm(offsets - offset, axis=-1) > radius + other.radius
    free &= _apart(offsets, radius, offset, other.radius)
  if not free.any():
    return None
  return SceneObject(kind, parts, Pose(facing, np.array([*spots[free.argmax()], 0])), radius)


def _turned(direction: np.ndarray, angles: np.ndarray) -> np.ndarray:
  """A direction (2,) turned by each of the angles (n,); (n, 2)."""
  cos, sin = np.cos(angles), np.sin(angles)
  x, y = direction
  return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _apart(
  offsets: np.ndarray, radius: float, other: np.ndarray, other_radius: float
) -> np.ndarray:
  """Whether of two discs, seen from the origin, the nearer one leaves the other's middle free.

  Args:
    offsets: centers of one disc (n, 2).
    radius: its radius.
    other: center of the other (2,).
    other_radius: its radius.
  """
  distances, distance = np.linalg.norm(offsets, axis=-1), np.linalg.norm(other)
  cosines = (offsets @ other / (distances * distance)).clip(-1, 1)
  nearer = np.where(distance < distances, other_radius / distance, radius / distances)
  # Few objects fill the discs that bound them.
  return np.arccos(cosines) > 0.7 * nearer


def _radius(parts: list[Part]) -> float:
  """See `SceneObject.radius`."""
  reaches = [
    np.abs(part.pose.translation[:2]) + np.abs(part.pose.rotation[:2]) @ part.solid.half
    for part in parts
  ]
  return float(np.linalg.norm(reaches, axis=-1).max())
