"""Appearance of surfaces: paints that fill space, shapes painted on planes, light and the sensor.

Everything is drawn at random, from distributions that do not depend on the class of the surface.
Colors are reflectances in 0..1, lengths are in meters.
"""

from typing import NamedTuple

import cv2
import numpy as np

from asmjax.data.scenes.primitives import rotation


class Paint(NamedTuple):
  """Color that varies through space as a sum or product of k waves.

  Attributes:
    base: Mean color, float32 (3,).
    tint: Color that the pattern adds at its crests, float32 (3,).
    waves: Wave vectors in radians per meter, float32 (k, 3).
    phases: Phases of the waves in radians, float32 (k,).
    pattern: Kind of the pattern: "stripes", "checks" or "blotches".
  """

  base: np.ndarray
  tint: np.ndarray
  waves: np.ndarray
  phases: np.ndarray
  pattern: str

  def __call__(self, points: np.ndarray) -> np.ndarray:
    """Returns the colors, float32 (n, 3), at points float32 (3, n)."""
    crests = np.sin(self.waves @ points + self.phases[:, None])
    _, combine = _PATTERNS[self.pattern]
    return self.base + combine(crests)[:, None] * self.tint


# Patterns by name: number k of waves, and function from their values (k, n) to values (n,) in about
# -1..1.  Dividing five blotches by sqrt(5) keeps the variance of one wave.
_PATTERNS = {
  "stripes": (1, lambda crests: np.clip(2 * crests[0], -1, 1)),
  "checks": (3, lambda crests: np.sign(crests[0] * crests[1] * crests[2])),
  "blotches": (5, lambda crests: crests.sum(0) / np.float32(5**0.5)),
}


def draw_paint(rng: np.random.Generator) -> Paint:
  """Draws a paint of any color and pattern, with wavelengths of about 0.1 to 0.7 meters."""
  pattern = tuple(_PATTERNS)[int(rng.integers(len(_PATTERNS)))]
  count = _PATTERNS[pattern][0]
  # Uniform in the logarithm, so that no scale dominates; the waves of a paint differ a little.
  length = 0.1 * 7 ** rng.random() * rng.uniform(0.7, 1.4, count)
  if pattern == "checks":
    directions = rotation(0, rng.uniform(0, np.pi)) @ rotation(2, rng.uniform(0, np.pi))
  else:
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  base = np.clip(rng.uniform(0.2, 0.85) + rng.uniform(-0.22, 0.22, 3), 0.03, 1)
  return Paint(
    base=base.astype(np.float32),
    tint=(base * rng.uniform(0.02, 0.25) * rng.uniform(0.5, 1, 3)).astype(np.float32),
    waves=(2 * np.pi * directions / length[:, None]).astype(np.float32),
    phases=rng.uniform(0, 2 * np.pi, count).astype(np.float32),
    pattern=pattern,
  )


class Shape(NamedTuple):
  """Rectangle or ellipse in a plane, or its rim alone, to be painted on a wall.

  Attributes:
    center: Center (u, v) in meters, float64.
    half: Half the sides in meters, float64 (2,).
    angle: Angle of the first side to the u axis in radians.
    hole: Share of the half sides that the hole takes, 0..1; 0 for none.
    round: Whether the shape is an ellipse instead of a rectangle.
  """

  center: np.ndarray
  half: np.ndarray
  angle: float
  hole: float
  round: bool

  def covers(self, points: np.ndarray) -> np.ndarray:
    """Returns which of the points, float32 (2, n) in meters, the shape covers."""
    cos, sin = np.cos(self.angle), np.sin(self.angle)
    to_shape = np.array([(cos, sin), (-sin, cos)]) / self.half[:, None]
    center = (to_shape @ self.center).astype(np.float32)
    u, v = to_shape.astype(np.float32) @ points - center[:, None]
    radius = np.hypot(u, v) if self.round else np.maximum(np.abs(u), np.abs(v))
    return (radius < 1) & (radius >= self.hole)


def draw_shape(rng: np.random.Generator, extent: np.ndarray) -> Shape:
  """Draws a poster, frame, disc, ring or stroke in a plane of half sides `extent`, in meters."""
  stroke = rng.random() < 0.4
  return Shape(
    center=rng.uniform(-0.9, 0.9, 2) * extent,
    half=rng.uniform((0.2, 0.02), (0.8, 0.04)) if stroke else rng.uniform(0.1, 0.5, 2),
    angle=rng.uniform(0, np.pi) * (rng.random() < 0.5),
    hole=rng.uniform(0.6, 0.85) * (rng.random() < 0.4),
    round=bool(rng.random() < 0.5),
  )


class Light(NamedTuple):
  """Lamp in a room that scatters some of the lamp's light.

  Attributes:
    position: Position of the lamp in meters, float64 (3,).
    ambient: Brightness of the scattered light, which comes from everywhere, 0..1.
    reach: Distance in meters at which the lamp's own light has halved.
  """

  position: np.ndarray
  ambient: float
  reach: float

  def shade(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Computes the brightness of matt surfaces by Lambert's law, float32 (h, w).

    The surfaces' points, in meters, and unit normals, float32 (3, h, w), are in the lamp's frame.
    """
    to_lamp = self.position.astype(np.float32)[:, None, None] - points
    squared = np.einsum("khw,khw->hw", to_lamp, to_lamp)
    cosine = np.einsum("khw,khw->hw", to_lamp, normals) / np.sqrt(squared)
    direct = np.maximum(cosine, 0) / (1 + squared / np.float32(self.reach**2))
    return np.float32(self.ambient) + np.float32(2 * (1 - self.ambient)) * direct


def photograph(rng: np.random.Generator, radiance: np.ndarray) -> np.ndarray:
  """Simulates a camera with random exposure, blur and noise; returns an image, uint8 (h, w, 3).

  `radiance` is the light that reaches the camera, float32 (h, w, 3), in any unit.
  """
  exposed = radiance * np.float32(rng.uniform(85, 150) / radiance.mean())
  blurred = cv2.GaussianBlur(exposed, (3, 3), rng.uniform(0.3, 0.7))
  noise = rng.standard_normal(radiance.shape, np.float32) * np.float32(rng.uniform(1, 6))
  return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)
