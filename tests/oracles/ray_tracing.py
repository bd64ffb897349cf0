"""Sphere tracing: distances to solids and first hits of rays, in float64."""

import numpy as np

from asmjax.data.scenes.primitives import Ball, Box, Room


def signed_distance(solid, points):
  """Distance (...) of points (..., 3) from a solid's surface, negative inside; exact outside."""
  if isinstance(solid, Room):
    return -_outside_box(np.abs(points) - np.array(solid.half))
  if isinstance(solid, Box):
    return _outside_box(np.abs(points) - np.array(solid.half))
  if isinstance(solid, Ball):
    return np.linalg.norm(points, axis=-1) - solid.radius
  axis = np.hypot(points[..., 0], points[..., 1])
  radial = np.maximum(axis - solid.radius, solid.bore - axis if solid.bore else -axis)
  return _outside_box(np.stack([radial, np.abs(points[..., 2]) - solid.half_length], -1))


def _outside_box(excess):
  return np.linalg.norm(np.maximum(excess, 0), axis=-1) + np.minimum(excess.max(-1), 0)


def nearest(parts, points):
  """The distance to the nearest part's surface and that part's index, points (n, 3)."""
  distances = [
    signed_distance(part.solid, (points - part.pose.translation) @ part.pose.rotation)
    for part in parts
  ]
  return np.min(distances, 0), np.argmin(distances, 0)


def trace(parts, origin, directions, steps=250, longest=20.0):
  """Sphere tracing (Hart 1996) in float64: distance along unit directions (n, 3), and the part."""
  traveled = np.zeros(len(directions))
  for _ in range(steps):
    distance, owner = nearest(parts, origin + traveled[:, None] * directions)
    traveled = np.minimum(traveled + distance, longest)
  return np.where(distance < 1e-5, traveled, np.inf), owner


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
