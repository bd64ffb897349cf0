"""Paints, shapes, light and the camera's sensor against their stated properties."""

import numpy as np
import pytest

from asmjax.data.scenes import textures


def test_paint_repeats_along_waves():
  """Stripes are the same a wave further, and across it, and opposite half a wave further."""
  rng = np.random.default_rng(0)
  drawn = [textures.draw_paint(rng) for _ in range(60)]
  stripes = [paint for paint in drawn if paint.pattern == "stripes"]
  points = rng.uniform(-1, 1, (3, 200)).astype(np.float32)
  for paint in stripes:
    wave = paint.waves[0].astype(np.float64)
    period = 2 * np.pi * wave / (wave @ wave)
    assert 0.07 <= np.linalg.norm(period) <= 0.98
    across = np.cross(wave, [1, 2, 3])
    for step, sign in [(period, 1), (across, 1), (period / 2, -1)]:
      moved = paint(points + step[:, None].astype(np.float32)) - paint.base
      np.testing.assert_allclose(moved, sign * (paint(points) - paint.base), atol=1e-2)
  assert len(stripes) > 10


def test_paint_varies_about_base_by_tint():
  rng = np.random.default_rng(1)
  points = rng.uniform(-50, 50, (3, 20000)).astype(np.float32)
  for paint in (textures.draw_paint(rng) for _ in range(20)):
    spread = (paint(points) - paint.base) / paint.tint
    assert np.abs(spread.mean(0)).max() < 0.05 and 0.6 < spread.std() < 1.01


@pytest.mark.parametrize("angle", [0.0, 0.6])
@pytest.mark.parametrize("hole", [0.0, 0.7])
@pytest.mark.parametrize(("around", "full"), [(False, 4.0), (True, np.pi)])
def test_shape_covers_its_area(angle, hole, around, full):
  shape = textures.Shape(np.array([0.1, -0.2]), np.array([0.6, 0.25]), angle, hole, around)
  axis = (np.arange(-500, 500) + 0.5) / 500
  spots = np.stack(np.meshgrid(axis, axis)).reshape(2, -1).astype(np.float32)
  covered = spots[:, shape.covers(spots)]
  area = covered.shape[1] / 500**2
  assert area == pytest.approx(full * 0.6 * 0.25 * (1 - hole**2), rel=0.01)
  np.testing.assert_allclose(covered.mean(1), shape.center, atol=1e-3)
  long = np.linalg.eigh(np.cov(covered))[1][:, 1]
  assert abs(long @ [np.cos(angle), np.sin(angle)]) == pytest.approx(1, abs=1e-3)


def test_light_shade_falls_with_angle_and_distance():
  """Lambert's cosine, half at `reach`, and only what is scattered from behind."""
  light = textures.Light(np.array([0.0, 0, -2]), ambient=0.3, reach=2.0)
  angles = np.array([0, 0.5, 1.2, np.pi])
  normals = np.stack([np.sin(angles), 0 * angles, -np.cos(angles)])[:, None]
  shade = light.shade(np.zeros((3, 1, 4), np.float32), normals.astype(np.float32))
  np.testing.assert_allclose(shade[0], 0.3 + 0.7 * np.maximum(np.cos(angles), 0), rtol=1e-6)
  farther = np.full((3, 1, 1), [[[0]], [[0]], [[4]]], np.float32)
  np.testing.assert_allclose(
    light.shade(farther, normals[..., :1].astype(np.float32)), 0.3 + 1.4 / 10, rtol=1e-6
  )


def test_photograph_has_exposure_and_noise():
  for seed in range(10):
    image = textures.photograph(np.random.default_rng(seed), np.full((40, 40, 3), 0.01, np.float32))
    assert image.dtype == np.uint8 and 84 < image.mean() < 151 and 0.5 < image.std() < 6.5
