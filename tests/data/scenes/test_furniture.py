"""Furniture has its stated sizes, and its parts touch."""

import numpy as np
import pytest

from asmjax.data.scenes.furniture import KINDS
from asmjax.data.scenes.primitives import Ball, Box


def extent(part):
  """Half the sides of the upright box about a part's center that just holds it."""
  lengths = part.pose.rotation
  solid = part.solid
  if isinstance(solid, Box):
    return np.abs(lengths) @ solid.half
  if isinstance(solid, Ball):
    return np.full(3, solid.radius)
  rise = np.abs(lengths[:, 2])
  return solid.half_length * rise + solid.radius * np.sqrt(np.maximum(1 - rise**2, 0))


def bounds(parts):
  """Least and greatest coordinates of each part, (n, 3) each."""
  centers, halves = (
    np.stack(rows) for rows in ([p.pose.translation for p in parts], [extent(p) for p in parts])
  )
  return centers - halves, centers + halves


# Width, depth and height over all, in meters: least and greatest.
SIZES = {
  "box": ((0.3, 0.3, 0.3), (0.9, 0.9, 0.9)),
  "sphere": ((0.4, 0.4, 0.4), (0.9, 0.9, 0.9)),
  "cylinder": ((0.3, 0.3, 0.3), (0.8, 1.1, 1.1)),
  "wheel": ((0.7, 0.06, 0.65), (1.2, 0.53, 1.21)),
  "table": ((0.7, 0.55, 0.55), (1.3, 0.8, 0.76)),
  "chair": ((0.4, 0.4, 0.83), (0.52, 0.5, 1.13)),
  "shelf": ((0.6, 0.25, 0.8), (1.1, 0.4, 1.8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_their_size_and_stand_on_floor(kind):
  for seed in range(40):
    low, high = bounds(KINDS[kind](np.random.default_rng(seed)))
    sides = high.max(0) - low.min(0)
    least, greatest = SIZES[kind]
    assert (sides > np.array(least) - 1e-6).all() and (sides < np.array(greatest) + 1e-6).all()
    assert abs(low[:, 2].min()) < 1e-9
    np.testing.assert_allclose((high.max(0) + low.min(0))[0], 0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_no_floating_part(kind):
  for seed in range(40):
    low, high = bounds(KINDS[kind](np.random.default_rng(seed)))
    touch = ((low[:, None] <= high[None] + 1e-6) & (low[None] <= high[:, None] + 1e-6)).all(-1)
    reached = np.linalg.matrix_power(touch.astype(float), len(low))[0] > 0
    assert reached.all()


@pytest.mark.parametrize("kind", ["table", "chair"])
def test_draw_table_and_chair_have_four_thin_legs(kind):
  for seed in range(20):
    low, high = bounds(KINDS[kind](np.random.default_rng(seed)))
    legs = low[:, 2] < 1e-6
    assert legs.sum() == 4 and (high - low)[legs, :2].max() < 0.08


def test_draw_wheel_spaces_spokes_evenly_from_hub_to_rim():
  for seed in range(20):
    rim, hub, *spokes = KINDS["wheel"](np.random.default_rng(seed))
    assert 5 <= len(spokes) <= 8
    assert rim.solid.bore and hub.solid.radius < rim.solid.bore < rim.solid.radius
    tips = [spoke.pose.apply(np.array([[0], [0], [spoke.solid.half_length]])) for spoke in spokes]
    flat = rim.pose.inverse().apply(np.concatenate(tips, 1))
    np.testing.assert_allclose(flat[2], 0, atol=1e-9)
    reach = np.hypot(flat[0], flat[1])
    assert (reach > rim.solid.bore).all() and (reach < rim.solid.radius).all()
    around = np.exp(1j * np.arctan2(flat[1], flat[0]))
    np.testing.assert_allclose(around / np.roll(around, 1), np.exp(2j * np.pi / len(spokes)))
