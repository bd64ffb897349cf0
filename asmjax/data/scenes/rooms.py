"""Geometry of `asmjax.data.scenes`: a room, objects on its floor and a camera.

In the world z points up and the floor is z = 0; lengths are in meters.
"""

from typing import NamedTuple

import numpy as np

from asmjax.data.scenes.furniture import KINDS
from asmjax.data.scenes.primitives import Pose, Room, rotation
from asmjax.data.scenes.render import Camera, Part

# Focal length over the image's longer side, and half of the field of view along it in radians.
FOCAL = 1.0
_HALF_VIEW = np.arctan(0.5 / FOCAL)
# Smallest distance on the floor, in meters, between the camera and the disc that bounds an object.
_NEAREST = 1.0
# Number of places tried for an object before it is left out.
_MAX_ATTEMPTS = 48


class SceneObject(NamedTuple):
  """Object in a scene.

  Attributes:
    kind: Name of the object's class.
    parts: Solids of the object, in the object's frame.
    pose: Pose of the object's frame in the world.
    radius: Radius in meters of a disc on the floor, about the frame's origin, that all parts are
      above.
  """

  kind: str
  parts: list[Part]
  pose: Pose
  radius: float


class Scene(NamedTuple):
  """Geometry of a scene; the world's origin is the middle of the floor.

  Attributes:
    camera: Camera that takes the image.
    room: Room around the camera and the objects.
    objects: Objects on the floor; object k - 1 is instance k.
  """

  camera: Camera
  room: Room
  objects: list[SceneObject]

  def parts(self) -> tuple[list[Part], np.ndarray]:
    """Returns all solids in the world and their instances: 0 for the room, k for object k - 1."""
    middle = Pose(np.eye(3), np.array([0, 0, self.room.half[2]]))
    placed = [
      (Part(part.solid, item.pose @ part.pose), instance)
      for instance, item in enumerate(self.objects, 1)
      for part in item.parts
    ]
    parts, instances = zip((Part(self.room, middle), 0), *placed, strict=True)
    return list(parts), np.array(instances, np.int32)


def draw_scene(rng: np.random.Generator, intrinsics: np.ndarray, size: tuple[int, int]) -> Scene:
  """Draws a room with two to five objects and a camera with these intrinsics and image size."""
  while True:
    room = Room(tuple(rng.uniform((2.0, 2.0, 1.2), (3.2, 3.2, 1.6))))
    eye = _draw_camera_pose(rng, room)
    objects = _draw_objects(rng, room, eye)
    if len(objects) >= 2:  # Else too few fit, and the next room may have more space.
      return Scene(Camera(eye, intrinsics, size), room, objects)


def _draw_objects(rng: np.random.Generator, room: Room, eye: Pose) -> list[SceneObject]:
  """Draws up to five objects; those for which no place is free are left out."""
  objects: list[SceneObject] = []
  count = int(rng.integers(2, 6))
  for kind in rng.choice(tuple(KINDS), 2 * count):
    item = _place_object(rng, str(kind), room, eye, objects)
    if item:
      objects.append(item)
    if len(objects) == count:
      break
  return objects


def _draw_camera_pose(rng: np.random.Generator, room: Room) -> Pose:
  """Draws the pose of a camera near a wall, 1.2 to 1.9 m high, looking across the room and down."""
  across = rng.uniform(0, 2 * np.pi)
  direction = np.array([np.cos(across), np.sin(across)])
  back = np.min((np.array(room.half[:2]) - 0.3) / np.abs(direction)) * rng.uniform(0.8, 1)
  height = rng.uniform(1.2, 1.9)
  yaw = rotation(2, across + rng.uniform(-0.15, 0.15))
  pitch = rotation(1, np.arctan((height - 0.4) / rng.uniform(2.0, 3.2)))
  # The camera's right, down and forward, as columns, before yaw and pitch: -y, -z and x.
  level = np.array([(0, 0, 1), (-1, 0, 0), (0, -1, 0)])
  return Pose(yaw @ pitch @ level, np.array([*(-back * direction), height]))


def _place_object(
  rng: np.random.Generator, kind: str, room: Room, eye: Pose, placed: list[SceneObject]
) -> SceneObject | None:
  """Places an object in view where it neither touches nor hides another, or returns None."""
  parts = KINDS[kind](rng)
  radius = _bounding_radius(parts)
  facing = rotation(2, rng.uniform(0, 2 * np.pi))
  nearest = radius + _NEAREST
  # At a distance of 8 radii and a focal length of 1, the bounding disc is a quarter as wide as the
  # image's longer side: small objects stay close enough to be recognized.
  distances = rng.uniform(nearest, max(nearest + 0.3, min(3.6, 8 * radius)), _MAX_ATTEMPTS)
  # Short of the sides of the field of view, so that no object is centered on the image's border.
  bearings = rng.uniform(-0.85, 0.85, _MAX_ATTEMPTS) * _HALF_VIEW
  forward = eye.rotation[:2, 2] / np.linalg.norm(eye.rotation[:2, 2])
  offsets = distances[:, None] * _rotate(forward, bearings)
  positions = eye.translation[:2] + offsets
  free = (np.abs(positions) + radius < room.half[:2]).all(-1)
  for item in placed:
    offset = item.pose.translation[:2] - eye.translation[:2]
    free &= np.linalg.norm(offsets - offset, axis=-1) > radius + item.radius
    free &= _leaves_centers_visible(offsets, radius, offset, item.radius)
  if not free.any():
    return None
  return SceneObject(kind, parts, Pose(facing, np.array([*positions[free.argmax()], 0])), radius)


def _rotate(direction: np.ndarray, angles: np.ndarray) -> np.ndarray:
  """Rotates a direction (2,) by each of the angles (n,) in radians; returns (n, 2)."""
  cos, sin = np.cos(angles), np.sin(angles)
  x, y = direction
  return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _leaves_centers_visible(
  centers: np.ndarray, radius: float, center: np.ndarray, center_radius: float
) -> np.ndarray:
  """Returns for which `centers` (n, 2) the nearer disc does not hide the center of the farther one.

  The discs are seen from the origin; one of `radius` is at `centers`, one at `center` (2,).
  """
  distances, distance = np.linalg.norm(centers, axis=-1), np.linalg.norm(center)
  cosines = (centers @ center / (distances * distance)).clip(-1, 1)
  half_angles = np.where(distance < distances, center_radius / distance, radius / distances)
  # Less than the nearer disc's full half angle, since few objects fill the disc that bounds them.
  return np.arccos(cosines) > 0.7 * half_angles


def _bounding_radius(parts: list[Part]) -> float:
  """Computes the radius of a disc about the origin that all parts are above."""
  reaches = [
    np.abs(part.pose.translation[:2]) + np.abs(part.pose.rotation[:2]) @ part.solid.half
    for part in parts
  ]
  return float(np.linalg.norm(reaches, axis=-1).max())
