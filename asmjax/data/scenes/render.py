"""Ray caster for scenes of solids: depth, normals and visible parts from the same ray hits.

The camera's frame has x to the right, y down and z forward.  The ray through a pixel has the
direction (x, y, 1) there, so that its parameter is the depth along the optical axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asmjax.data.scenes.primitives import Pose, Solid

# Solids whose bounding box has a corner of lower depth than this, in meters, are intersected in the
# whole image, since projecting points near the camera's plane, or behind it, gives no bounds.
_NEAR = 0.05

_CORNERS = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(8, 3)


class Camera(NamedTuple):
  """Pinhole camera without distortion.

  Attributes:
    pose: Pose of the camera's frame in the world.
    intrinsics: Camera matrix, float64 (3, 3), with zero skew, for coordinates in which the pixel in
      row r and column c has its center at (c + 1/2, r + 1/2).
    size: (height, width) of the image in pixels.
  """

  pose: Pose
  intrinsics: np.ndarray
  size: tuple[int, int]

  def rays(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns x of every column's rays and y of every row's at z = 1, float32 (w,) and (h,)."""
    (focal_x, _, center_x), (_, focal_y, center_y), _ = self.intrinsics
    columns, rows = np.arange(self.size[1]) + 0.5, np.arange(self.size[0]) + 0.5
    return (
      ((columns - center_x) / focal_x).astype(np.float32),
      ((rows - center_y) / focal_y).astype(np.float32),
    )


class Part(NamedTuple):
  """Solid with its pose in the frame of an object or of the world."""

  solid: Solid
  pose: Pose


class View(NamedTuple):
  """First hits of all pixels' rays.

  Attributes:
    depth: Depth along the optical axis in meters, float32 (h, w); infinite for a miss.
    normals: Unit normals in the camera's frame, towards the camera, float32 (3, h, w).
    owner: Index of the part that is hit, int32 (h, w); -1 for a miss.
  """

  depth: np.ndarray
  normals: np.ndarray
  owner: np.ndarray


def render(camera: Camera, parts: Sequence[Part]) -> View:
  """Renders the visible surfaces of `parts`, whose poses are in the world.

  A solid is intersected only within the rectangle of pixels that its bounding box can cover.
  """
  x, y = camera.rays()
  view = View(
    np.full(camera.size, np.inf, np.float32),
    np.zeros((3, *camera.size), np.float32),
    np.full(camera.size, -1, np.int32),
  )
  world = camera.pose.inverse()
  poses = [world @ part.pose for part in parts]
  windows = _bounding_windows(camera, poses, np.array([part.solid.half for part in parts]))
  for index, (part, pose, (rows, columns)) in enumerate(zip(parts, poses, windows, strict=True)):
    if rows.start < rows.stop and columns.start < columns.stop:
      window = View(
        view.depth[rows, columns], view.normals[:, rows, columns], view.owner[rows, columns]
      )
      _draw_solid(window, part.solid, pose, x[columns], y[rows], index)
  length = np.sqrt(np.einsum("khw,khw->hw", view.normals, view.normals))
  # The normals of hits have at least about unit length, those of misses are 0 and stay 0.
  view.normals[...] /= np.maximum(length, np.float32(0.5))
  return view


def _draw_solid(
  view: View, solid: Solid, pose: Pose, x: np.ndarray, y: np.ndarray, index: int
) -> None:
  """Writes those hits of one solid into `view` that are closer than the hits there."""
  rotation = pose.rotation.astype(np.float32)
  origin = (-pose.rotation.T @ pose.translation).astype(np.float32)
  # Directions (x, y, 1) are linear in x and y, so that their rotation to the solid's frame is a sum
  # of one term for each column and one for each row.
  across = rotation[0, :, None] * x
  down = rotation[1, :, None] * y + rotation[2, :, None]
  depth, normals = solid.intersect(origin, across[:, None, :] + down[:, :, None])
  closer = depth < view.depth
  if closer.any():
    rotated = (rotation @ normals.reshape(3, -1)).reshape(normals.shape)
    np.copyto(view.depth, depth, where=closer)
    np.copyto(view.normals, rotated, where=closer)
    np.copyto(view.owner, np.int32(index), where=closer)


def _bounding_windows(
  camera: Camera, poses: Sequence[Pose], halves: np.ndarray
) -> list[tuple[slice, slice]]:
  """Returns the rows and columns whose rays can hit each bounding box, of half sides (n, 3)."""
  rotations = np.stack([pose.rotation for pose in poses])
  centers = np.stack([pose.translation for pose in poses])
  corners = (_CORNERS * halves[:, None]) @ rotations.transpose(0, 2, 1) + centers[:, None]
  depth = corners[..., 2:]
  pixels = (corners @ camera.intrinsics.T / np.maximum(depth, _NEAR))[..., :2]
  is_near = (depth < _NEAR).any(1)
  limits = np.array([camera.size[1], camera.size[0]])
  starts = np.where(is_near, 0, np.ceil(pixels.min(1) - 0.5).clip(0, limits)).astype(int)
  stops = np.where(is_near, limits, (np.floor(pixels.max(1) - 0.5) + 1).clip(0, limits)).astype(int)
  return [
    (slice(top, bottom), slice(left, right))
    for (left, top), (right, bottom) in zip(starts.tolist(), stops.tolist(), strict=True)
  ]
