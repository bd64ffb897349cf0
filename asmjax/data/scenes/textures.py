"""How surfaces look: paints that fill space, shapes painted on flat ground, light and the sensor.

Everything is drawn at random from distributions that know nothing of what is painted.  Colors are
reflectances in 0..1.
"""

from typing import NamedTuple

import cv2
import numpy as np

from asmjax.data.scenes.primitives import rotation


class Paint(NamedTuple):
  """A color that varies through space in a sum or product of waves.

  Attributes:
    base: float32 (3,), the mean color.
    tint: float32 (3,), what the pattern adds at its crests.
    waves: float32 (k, 3), radians per meter.
    phases: float32 (k,).
    pattern: "stripes", "checks" or "blotches".
  """

  base: np.ndarray
  tint: np.ndarray
  waves: np.ndarray
  phases: np.ndarray
  pattern: str

  def __call__(self, points: np.ndarray) -> np.ndarray:
    """Colors float32 (n, 3) at points float32 (3, n)."""
    crests = np.sin(self.waves @ points + self.phases[:, None])
    _, shape = _PATTERNS[self.pattern]
    return self.base + shape(crests)[:, None] * self.tint


# Patterns by name: how many waves one takes, and what it makes of them: from (k, n) to values in
# about -1..1 (n,).
_PATTERNS = {
  "stripes": (1, lambda crests: np.clip(2 * crests[0], -1, 1)),
  "checks": (3, lambda crests: np.sign(crests[0] * crests[1] * crests[2])),
  "blotches": (5, lambda crests: crests.sum(0) / np.float32(5**0.5)),
}


def paint(rng: np.random.Generator) -> Paint:
  """Any color and pattern, of about 0.1 to 0.7 meters a wave."""
  pattern = tuple(_PATTERNS)[int(rng.integers(len(_PATTERNS)))]
  count = _PATTERNS[pattern][0]
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
  """A rectangle or ellipse in a plane, or only its rim: what may be painted on a wall.

  Attributes:
    center: float64 (u, v) in meters.
    half: float64 half the sides, in meters.
    angle: in radians.
    hole: what part of the half sides is left out, 0..1.
    round: an ellipse.
  """

  center: np.ndarray
  half: np.ndarray
  angle: float
  hole: float
  round: bool

  def covers(self, spots: np.ndarray) -> np.ndarray:
    """Which of the spots float32 (2, n) it covers."""
    cos, sin = np.cos(self.angle), np.sin(self.angle)
    turned = np.array([(cos, sin), (-sin, cos)]) / self.half[:, None]
    middle = (turned @ self.center).astype(np.float32)
    u, v = turned.astype(np.float32) @ spots - middle[:, None]
    radius = np.hypot(u, v) if self.round else np.maximum(np.abs(u), np.abs(v))
    return (radius < 1) & (radius >= self.hole)


def shape(rng: np.random.Generator, extent: np.ndarray) -> Shape:
  """A poster, a frame, a disc, a ring or a stroke in a plane of half sides `extent`."""
  stroke = rng.random() < 0.4
  return Shape(
    center=rng.uniform(-0.9, 0.9, 2) * extent,
    half=rng.uniform((0.2, 0.02), (0.8, 0.04)) if stroke else rng.uniform(0.1, 0.5, 2),
    angle=rng.uniform(0, np.pi) * (rng.random() < 0.5),
    hole=rng.uniform(0.6, 0.85) * (rng.random() < 0.4),
    round=bool(rng.random() < 0.5),
  )


class Light(NamedTuple):
  """A lamp in a room that scatters some of its light.

  Attributes:
    position: float64 (3,).
    ambient: the share that comes from everywhere.
    reach: meters at which the lamp's own light has halved.
  """

  position: np.ndarray
  ambient: float
  reach: float

  def shade(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Brightness float32 (h, w) of matt surfaces (Lambert) at points with normals, (3, h, w)."""
    towards = self.position.astype(np.float32)[:, None, None] - points
    squared = np.einsum("khw,khw->hw", towards, towards)
    cosine = np.einsum("khw,khw->hw", towards, normals) / np.sqrt(squared)
    own = np.maximum(cosine, 0) / (1 + squared / np.float32(self.reach**2))
    return np.float32(self.ambient) + np.float32(2 * (1 - self.ambient)) * own


def photograph(rng: np.random.Generator, radiance: np.ndarray) -> np.ndarray:
  """What a camera makes of radiance float32 (h, w, 3): exposure, blur, noise; uint8 (h, w, 3)."""
  exposed = radiance * np.float32(rng.uniform(85, 150) / radiance.mean())
  blurred = cv2.GaussianBlur(exposed, (3, 3), rng.uniform(0.3, 0.7))
  noise = rng.standard_normal(radiance.shape, np.float32) * np.float32(rng.uniform(1, 6))
  return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)
