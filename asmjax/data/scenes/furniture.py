"""Kinds of objects in `asmjax.data.scenes`: functions from a random generator to parts.

Each object stands on z = 0 about the z axis, its back (if it has one) towards +y.  Lengths are in
meters, and in the range of real objects.
"""

from collections.abc import Sequence

import numpy as np

from asmjax.data.scenes.primitives import Ball, Box, Cylinder, Pose, rotation
from asmjax.data.scenes.render import Part


def draw_box(rng: np.random.Generator) -> list[Part]:
  """Draws a crate with sides of 0.3 to 0.9 m."""
  return [_box_at((0, 0, 0), rng.uniform(0.3, 0.9, 3))]


def draw_sphere(rng: np.random.Generator) -> list[Part]:
  """Draws a ball with a diameter of 0.4 to 0.9 m."""
  radius = rng.uniform(0.2, 0.45)
  return [Part(Ball(radius), _pose_at(0, 0, radius))]


def draw_cylinder(rng: np.random.Generator) -> list[Part]:
  """Draws a bin or drum, upright or on its side."""
  radius, half = rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.55)
  solid = Cylinder(radius, half)
  if rng.random() < 0.3:
    return [Part(solid, _pose_at(0, 0, radius, rotation(0, np.pi / 2)))]
  return [Part(solid, _pose_at(0, 0, half))]


def draw_wheel(rng: np.random.Generator) -> list[Part]:
  """Draws a wheel 0.7 to 1.2 m across with 5 to 8 spokes, which leans by up to 20 degrees."""
  radius, half_width, lean = rng.uniform(0.35, 0.6), rng.uniform(0.03, 0.05), rng.uniform(0, 0.35)
  height = radius * np.cos(lean) + half_width * np.sin(lean)
  # The wheel's axis is the z of its solids; it points along y here.
  upright = rotation(0, np.pi / 2 + lean) @ rotation(2, rng.uniform(0, 2 * np.pi))
  hub = _pose_at(0, 0, height, upright)
  bore = radius - rng.uniform(0.05, 0.08)
  parts = [
    Part(Cylinder(radius, half_width, bore), hub),
    Part(Cylinder(rng.uniform(0.05, 0.09), half_width), hub),
  ]
  count, thickness = rng.integers(5, 9), rng.uniform(0.014, 0.022)
  # A little longer than the bore, so that no gap opens before the curved rim.
  spoke = Cylinder(thickness, bore / 2 + 0.01)
  for angle in 2 * np.pi * np.arange(count) / count:
    outwards = _pose_at(0, 0, 0, rotation(2, angle) @ rotation(1, np.pi / 2))
    parts.append(Part(spoke, hub @ outwards @ _pose_at(0, 0, spoke.half_length)))
  return parts


def draw_table(rng: np.random.Generator) -> list[Part]:
  """Draws a table: a top on four legs."""
  width, depth, height = rng.uniform((0.7, 0.55, 0.55), (1.3, 0.8, 0.76))
  thickness, leg = rng.uniform(0.03, 0.06), rng.uniform(0.045, 0.075)
  top = _box_at((0, 0, height - thickness), (width, depth, thickness))
  return [top, *_draw_legs(rng, width, depth, height - thickness, leg)]


def draw_chair(rng: np.random.Generator) -> list[Part]:
  """Draws a chair: four thin legs, a seat, and a back of slats between two posts."""
  width, depth, height = rng.uniform((0.4, 0.4, 0.4), (0.52, 0.5, 0.48))
  leg, thickness, back = rng.uniform((0.035, 0.03, 0.4), (0.05, 0.05, 0.6))
  parts = _draw_legs(rng, width, depth, height, leg)
  parts.append(_box_at((0, 0, height), (width, depth, thickness)))
  foot = height + thickness
  posts = [(side * (width - leg) / 2, (depth - leg) / 2) for side in (-1, 1)]
  parts += [_box_at((x, y, foot), (leg, leg, back)) for x, y in posts]
  if rng.random() < 0.5:
    slat = rng.uniform(0.045, 0.07)
    for bottom in np.linspace(foot + back - slat, foot + 0.1, rng.integers(2, 5)):
      parts.append(_box_at((0, posts[0][1], bottom), (width - 2 * leg, 0.02, slat)))
  else:
    parts.append(_box_at((0, posts[0][1], foot + back - 0.06), (width - 2 * leg, leg, 0.06)))
    inner = np.linspace(posts[0][0], posts[1][0], rng.integers(4, 7))[1:-1]
    parts += [_box_at((x, posts[0][1], foot), (0.03, 0.02, back - 0.06)) for x in inner]
  return parts


def draw_shelf(rng: np.random.Generator) -> list[Part]:
  """Draws a shelf: three to five boards between two sides, in half of the cases with a low back."""
  width, depth, height = rng.uniform((0.6, 0.25, 0.8), (1.1, 0.4, 1.8))
  board = rng.uniform(0.025, 0.04)
  offset = (width - board) / 2
  parts = [_box_at((x, 0, 0), (board, depth, height)) for x in (-offset, offset)]
  for bottom in np.linspace(0.05, height - board, rng.integers(3, 6)):
    parts.append(_box_at((0, 0, bottom), (width - 2 * board, depth, board)))
  if rng.random() < 0.5:
    # With a back of full height, a shelf would look like a crate from behind.
    back = (width - 2 * board, 0.02, height * rng.uniform(0.3, 0.6))
    parts.append(_box_at((0, depth / 2 - 0.01, 0.05), back))
  return parts


# Function that draws an object, by the name of its class.
KINDS = {
  "box": draw_box,
  "sphere": draw_sphere,
  "cylinder": draw_cylinder,
  "wheel": draw_wheel,
  "table": draw_table,
  "chair": draw_chair,
  "shelf": draw_shelf,
}


def _draw_legs(
  rng: np.random.Generator, width: float, depth: float, height: float, thickness: float
) -> list[Part]:
  """Draws four legs at the corners of a rectangle, all square or all round."""
  x, y = (width - thickness) / 2, (depth - thickness) / 2
  corners = [(-x, -y), (-x, y), (x, -y), (x, y)]
  if rng.random() < 0.5:
    rod = Cylinder(thickness / 2, height / 2)
    return [Part(rod, _pose_at(*corner, height / 2)) for corner in corners]
  return [_box_at((*corner, 0), (thickness, thickness, height)) for corner in corners]


def _box_at(foot: tuple[float, float, float], sides: Sequence[float] | np.ndarray) -> Part:
  """Returns an upright box with the lengths `sides`, whose bottom has its center at `foot`."""
  half = np.asarray(sides) / 2
  return Part(Box((half[0], half[1], half[2])), _pose_at(foot[0], foot[1], foot[2] + half[2]))


def _pose_at(x: float, y: float, z: float, rotation: np.ndarray | None = None) -> Pose:
  return Pose(np.eye(3) if rotation is None else rotation, np.array([x, y, z]))
