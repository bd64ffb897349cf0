"""Solids that rays can hit, each in a frame of its own, and the poses that place them.

All lengths are in meters.  A ray is origin + t * direction; directions need not have unit length.
A solid returns the smallest positive t, infinite where the ray misses, and the outward normal
there, which may be off unit length where two faces meet at exactly the same t.
"""

from typing import NamedTuple, Protocol

import numpy as np

# Added to divisors so that none is zero; any other divisor absorbs it in float32's rounding.
_TINY = np.float32(1e-20)
# Rays that pass a silhouette by less than this share of the squared radius miss, since roundoff
# could turn the normal of a hit away from the viewer.
_GRAZING = np.float32(1e-6)


class Pose(NamedTuple):
  """Pose of a frame in its parent frame: p -> rotation @ p + translation.

  Attributes:
    rotation: Rotation matrix, float64 (3, 3).
    translation: Position of the frame's origin in the parent, float64 (3,), in meters.
  """

  rotation: np.ndarray
  translation: np.ndarray

  def __matmul__(self, inner: "Pose") -> "Pose":
    """Returns the pose, in this frame's parent, of the frame whose pose in this one is `inner`."""
    return Pose(
      self.rotation @ inner.rotation, self.rotation @ inner.translation + self.translation
    )

  def apply(self, points: np.ndarray) -> np.ndarray:
    """Maps points (3, n) from this frame to its parent, in the precision of the points."""
    shift = self.translation.astype(points.dtype)
    return self.rotation.astype(points.dtype) @ points + shift[:, None]

  def inverse(self) -> "Pose":
    """Returns the pose of the parent in this frame."""
    return Pose(self.rotation.T, -self.rotation.T @ self.translation)


def rotation(axis: int, angle: float) -> np.ndarray:
  """Returns the matrix (3, 3) of a counterclockwise rotation about axis 0, 1 or 2, in radians."""
  rotation = np.eye(3)
  first, second = (axis + 1) % 3, (axis + 2) % 3
  rotation[first, first] = rotation[second, second] = np.cos(angle)
  rotation[second, first] = np.sin(angle)
  rotation[first, second] = -rotation[second, first]
  return rotation


class Solid(Protocol):
  """Protocol of solids that rays can hit."""

  @property
  def half(self) -> tuple[float, float, float]:
    """Half the sides of the box about the origin that bounds the solid, in meters."""
    ...

  def intersect(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first hits of rays from one point, and the normals there.

    Args:
      origin: Point that the rays start from, float32 (3,), outside of the solid.
      directions: Directions of the rays, float32 (3, h, w), of any length.

    Returns:
      Ray parameters t (h, w), infinite for a miss, and outward normals (3, h, w), arbitrary for a
      miss.
    """
    ...


class Box(NamedTuple):
  """Box of the points with |x|, |y|, |z| <= half."""

  half: tuple[float, float, float]

  def intersect(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first hits of rays from one point, and the normals there; see `Solid`."""
    near, far = _intersect_slabs(origin, directions, self.half)
    enter = near.max(0)
    normals = np.copysign(near == enter, -directions)
    return _first_hit(enter, far.min(0)), normals


class Room(NamedTuple):
  """Box around the camera: rays hit it where they would leave it, and normals point inwards."""

  half: tuple[float, float, float]

  def intersect(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hits and normals of rays from a point inside, none of which misses."""
    _, far = _intersect_slabs(origin, directions, self.half)
    leave = far.min(0)
    return leave, np.copysign(far == leave, -directions)


class Ball(NamedTuple):
  """Ball of the points with x^2 + y^2 + z^2 <= radius^2."""

  radius: float

  @property
  def half(self) -> tuple[float, float, float]:
    """Half the sides of the bounding box, in meters; see `Solid`."""
    return (self.radius, self.radius, self.radius)

  def intersect(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first hits of rays from one point, and the normals there; see `Solid`."""
    enter, leave = _intersect_ball(origin, directions, self.radius)
    normals = _points_along(origin, directions, enter) / np.float32(self.radius)
    return _first_hit(enter, leave), normals


class Cylinder(NamedTuple):
  """Rod, or ring with a bore: bore^2 <= x^2 + y^2 <= radius^2 and |z| <= half_length."""

  radius: float
  half_length: float
  bore: float = 0.0

  @property
  def half(self) -> tuple[float, float, float]:
    """Half the sides of the bounding box, in meters; see `Solid`."""
    return (self.radius, self.radius, self.half_length)

  def intersect(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first hits of rays from one point, and the normals there; see `Solid`."""
    near, far = _intersect_slabs(origin[2:], directions[2:], (self.half_length,))
    curved, leave = _intersect_ball(origin[:2], directions[:2], self.radius)
    enter, leave = np.maximum(curved, near[0]), np.minimum(leave, far[0])
    is_curved = curved > near[0]  # Else the ray enters through a cap.
    in_bore = False
    if self.bore:
      # A ray that would enter through the opening of the bore hits the far side of the bore.
      bore_enter, bore_leave = _intersect_ball(origin[:2], directions[:2], self.bore)
      in_bore = (bore_enter < enter) & (enter < bore_leave)
      enter, is_curved = np.where(in_bore, bore_leave, enter), is_curved | in_bore
    normals = np.empty_like(directions)
    radial = _points_along(origin[:2], directions[:2], enter) / np.float32(self.bore or self.radius)
    normals[:2] = np.where(is_curved, np.where(in_bore, -radial, radial), 0)
    normals[2] = np.where(is_curved, 0, np.copysign(np.float32(1), -directions[2]))
    return _first_hit(enter, leave), normals


def _intersect_slabs(
  origin: np.ndarray, directions: np.ndarray, half: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns where rays enter and leave k slabs |p_k| <= half_k (Kay and Kajiya 1986), (k, h, w)."""
  inverse = 1 / (directions + _TINY)
  middle = -origin[:, None, None] * inverse
  reach = np.array(half, np.float32)[:, None, None] * np.abs(inverse)
  return middle - reach, middle + reach


def _intersect_ball(
  origin: np.ndarray, directions: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns where rays enter and leave |p| <= radius in two or three dimensions; NaN for a miss.

  Starts from the point of each ray that is closest to the center: the discriminant of the quadratic
  equation would lose a thin rod some meters away to the roundoff of float32.
  """
  squared = np.einsum("khw,khw->hw", directions, directions) + _TINY
  middle = -np.einsum("k,khw->hw", origin, directions) / squared
  closest = _points_along(origin, directions, middle)
  gap = np.float32(radius**2) - np.einsum("khw,khw->hw", closest, closest)
  gap[gap <= _GRAZING * np.float32(radius**2)] = np.nan
  reach = np.sqrt(gap / squared)
  return middle - reach, middle + reach


def _points_along(origin: np.ndarray, directions: np.ndarray, t: np.ndarray) -> np.ndarray:
  return origin[:, None, None] + t * directions


def _first_hit(enter: np.ndarray, leave: np.ndarray) -> np.ndarray:
  """Returns `enter` where a ray passes through the inside ahead of its origin, else infinity."""
  return np.where((enter < leave) & (enter > 0), enter, np.float32(np.inf))
