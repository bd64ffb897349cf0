"""Ray hits against closed forms and against sphere tracing."""

import numpy as np
import pytest

from asmjax.data.scenes.primitives import Ball, Box, Cylinder, Pose, Room, rotation
from asmjax.data.scenes.render import Part
from tests.oracles.ray_tracing import signed_distance, trace, unit

IDENTITY = Pose(np.eye(3), np.zeros(3))
SOLIDS = {
  "box": Box((0.5, 0.3, 0.8)),
  "board": Box((0.5, 0.3, 0.01)),
  "ball": Ball(0.6),
  "drum": Cylinder(0.5, 0.4),
  "rod": Cylinder(0.015, 0.7),
  "ring": Cylinder(0.6, 0.1, 0.5),
  "pipe": Cylinder(0.3, 0.7, 0.25),
}


def intersect(solid, origin, directions):
  """Hits of rays (n, 3) from one origin: t (n,) and normals (n, 3)."""
  rays = np.asarray(directions, np.float32).T[:, None]
  t, normals = solid.intersect(np.asarray(origin, np.float32), rays)
  return t[0], normals[:, 0].T


@pytest.mark.parametrize("solid", SOLIDS.values(), ids=SOLIDS)
def test_intersect_agrees_with_sphere_tracing(solid):
  """From any side and from centimeters to meters away, hits, misses and normals agree."""
  rng = np.random.default_rng(0)
  hits = 0
  for distance in (1.05, 2.0, 6.0):
    origin = distance * unit(rng.standard_normal(3))
    aims = rng.uniform(-1.1, 1.1, (500, 3)) * solid.half
    lengths = rng.uniform(0.5, 2, (500, 1))
    directions = unit(aims - origin)
    t, normals = intersect(solid, origin, lengths * directions)
    expected, _ = trace([Part(solid, IDENTITY)], origin, directions)
    distances = t * lengths[:, 0]
    agree = np.isclose(distances, expected, atol=2e-3, rtol=0) | (distances == expected)
    # Rays that graze a surface need more steps than these.
    assert agree.mean() > 0.97
    hit = agree & np.isfinite(distances)
    points = origin + distances[hit, None] * directions[hit]
    slopes = [
      signed_distance(solid, points + step) - signed_distance(solid, points - step)
      for step in 1e-5 * np.eye(3)
    ]
    aligned = (unit(np.stack(slopes, -1)) * unit(normals[hit])).sum(-1)
    assert np.mean(aligned > 0.999) > 0.97
    hits += hit.sum()
  assert hits > 400


def test_ball_intersect_has_closed_form():
  t, normals = intersect(Ball(0.5), (0, 0, -3), [(0, 0, 1), (0, 0, 2), (0, 0, -1), (1, 0, 1)])
  np.testing.assert_allclose(t, [2.5, 1.25, np.inf, np.inf])
  np.testing.assert_allclose(normals[0], [0, 0, -1])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("side", [-1, 1])
def test_box_intersect_is_exact_from_each_side(axis, side):
  """Rays along an axis, whose other components are exactly zero."""
  half = (0.5, 0.3, 0.8)
  normal = side * np.eye(3)[axis]
  origin = 4 * normal + 0.2 * np.roll(np.eye(3)[axis], 1)
  t, normals = intersect(Box(half), origin, [-normal, normal])
  np.testing.assert_allclose(t, [4 - half[axis], np.inf], rtol=1e-6)
  np.testing.assert_array_equal(normals[0], normal)


def test_room_intersect_hits_from_within():
  room, origin = Room((2, 3, 1.2)), np.array([0.5, -1, 0.2])
  directions = np.concatenate([np.eye(3), -np.eye(3)])
  t, normals = intersect(room, origin, directions)
  np.testing.assert_allclose(t, [1.5, 4, 1, 2.5, 2, 1.4], rtol=1e-6)
  np.testing.assert_array_equal(normals, -directions)


def test_cylinder_intersect_hits_caps_and_side():
  rod = Cylinder(0.2, 1.0)
  t, normals = intersect(rod, (0.1, 0, 3), [(0, 0, -1), (0.2, 0, -1)])
  np.testing.assert_allclose(t, [2, np.inf], rtol=1e-6)
  np.testing.assert_array_equal(normals[0], [0, 0, 1])
  t, normals = intersect(rod, (3, 0, 0.5), [(-1, 0, 0), (-1, 0, 0.2)])
  np.testing.assert_allclose(t, [2.8, np.inf], rtol=1e-6)
  np.testing.assert_allclose(normals[0], [1, 0, 0], atol=1e-6)


def test_cylinder_intersect_passes_through_bore():
  """Through the bore, onto the rim's face, and onto the far inside, whose normal points inwards."""
  ring = Cylinder(0.5, 0.1, 0.4)
  t, normals = intersect(ring, (0, 0, 2), [(0, 0, -1), (0.225, 0, -1), (0.2, 0, -1)])
  np.testing.assert_allclose(t[:2], [np.inf, 1.9], rtol=1e-6)
  np.testing.assert_array_equal(normals[1], [0, 0, 1])
  np.testing.assert_allclose(t[2], 2, rtol=1e-6)
  np.testing.assert_allclose(normals[2], [-1, 0, 0], atol=1e-6)


def test_pose_composes_and_inverts():
  first = Pose(rotation(0, 0.3) @ rotation(2, 1.1), np.array([1.0, 2, 3]))
  second = Pose(rotation(1, -0.7), np.array([-2.0, 0.5, 1]))
  points = np.random.default_rng(0).standard_normal((3, 5))
  np.testing.assert_allclose((first @ second).apply(points), first.apply(second.apply(points)))
  np.testing.assert_allclose(first.inverse().apply(first.apply(points)), points)
  for axis in range(3):
    turned = rotation(axis, np.pi / 2) @ np.eye(3)[(axis + 1) % 3]
    np.testing.assert_allclose(turned, np.eye(3)[(axis + 2) % 3], atol=1e-12)
