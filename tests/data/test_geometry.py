"""Normals from depth: exact on planes, apart at edges, missing where depth is."""

import numpy as np
import pytest

from asmjax.data import transforms
from asmjax.data.geometry import check_intrinsics, normals_from_depth

SIZE = (60, 80)
INTRINSICS = np.array([[70.0, 0, 41.5], [0, 65.0, 27.0], [0, 0, 1]])


def rays(intrinsics=INTRINSICS, size=SIZE):
  """(h, w, 3): where pixel (column, row) looks, x right, y down, z forward, at z = 1."""
  row, column = np.indices(size)
  return np.stack([column, row, np.ones(size)], -1) @ np.linalg.inv(intrinsics).T


def plane(normal, distance=2.0, **camera):
  """Depth of the plane through (0, 0, distance) with a normal that counts z towards the camera."""
  forward = np.array(normal, float) * (1, 1, -1)
  return (forward[2] * distance / (rays(**camera) @ forward)).astype(np.float32)


def unit(normal):
  return np.array(normal, float) / np.linalg.norm(normal)


def degrees(normals, truth):
  cosine = np.sum(normals * unit(truth) if np.ndim(truth) == 1 else normals * truth, -1)
  return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def noisy(depth, scale, seed=0):
  noise = np.random.default_rng(seed).normal(0, scale, depth.shape)
  return (1 / (1 / depth + noise)).astype(np.float32)


@pytest.mark.parametrize(
  "normal", [(0, 0, 1), (0.5, 0, 1), (-0.7, 0, 1), (0, -1.2, 1), (0, 0.6, 1), (0.4, -0.5, 1)]
)
def test_normals_from_depth_are_exact_on_planes_with_holes(normal):
  depth = plane(normal)
  depth[np.random.default_rng(0).random(SIZE) < 0.3] = 0
  depth[20:26, 30:34] = 0
  normals = normals_from_depth(depth, INTRINSICS)
  assert normals.dtype == np.float32
  np.testing.assert_allclose(normals[depth > 0], [unit(normal)] * (depth > 0).sum(), atol=1e-3)
  assert not normals[depth == 0].any()


def test_normals_from_depth_have_signs_of_floor_and_wall():
  """A floor rises up (y negative) and shows more of its depth above; a left wall faces right."""
  floor, wall = plane((0, -1, 0.7)), plane((1, 0, 0.8))
  assert (np.diff(floor, axis=0) < 0).all() and (np.diff(wall, axis=1) > 0).all()
  assert (normals_from_depth(floor, INTRINSICS)[..., 1] < -0.8).all()
  assert (normals_from_depth(wall, INTRINSICS)[..., 0] > 0.7).all()


def test_normals_from_depth_respect_skew_and_focal_lengths():
  intrinsics = np.array([[90.0, 12, 30], [0, 50, 35], [0, 0, 1]])
  depth = plane((0.3, -0.4, 1), intrinsics=intrinsics)
  error = degrees(normals_from_depth(depth, intrinsics), (0.3, -0.4, 1))
  assert error.max() < 0.1
  without_skew = intrinsics * (intrinsics != 12)
  assert degrees(normals_from_depth(depth, without_skew), (0.3, -0.4, 1)).max() > 1


def test_normals_from_depth_take_centers_at_integers():
  """A camera whose first pixel is centered at (1/2, 1/2) needs cx, cy shifted by a half."""
  halves = INTRINSICS + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
  row, column = np.indices(SIZE) + 0.5
  directions = np.stack([column, row, np.ones(SIZE)], -1) @ np.linalg.inv(halves).T
  depth = (-2 / (directions @ (0.5, 0.6, -1))).astype(np.float32)
  error = degrees(normals_from_depth(depth, INTRINSICS), (0.5, 0.6, 1))
  assert error.max() < 0.1


def test_normals_from_depth_of_sphere_are_within_a_degree():
  """Within 1 degree where the sphere is tilted by less than 45, and 0.3 on average."""
  size, camera = (120, 120), np.array([[300.0, 0, 60], [0, 300, 60], [0, 0, 1]])
  directions, center, radius = rays(camera, size), np.array([0, 0, 3.0]), 0.5
  along, square = directions @ center, (directions**2).sum(-1)
  root = along**2 - square * (center @ center - radius**2)
  depth = np.where(root > 0, (along - np.sqrt(np.maximum(root, 0))) / square, 0)
  truth = (directions * depth[..., None] - center) / radius * (1, 1, -1)
  normals = normals_from_depth(depth.astype(np.float32), camera)
  facing = (depth > 0) & (truth[..., 2] > np.cos(np.pi / 4))
  error = degrees(normals, truth)[facing]
  assert normals[facing].any(-1).all() and error.max() < 1 and error.mean() < 0.3


@pytest.mark.parametrize("slope", [0, 0.35, 1, -3, None])
def test_normals_from_depth_do_not_smear_at_step_edge(slope):
  """Every pixel of two planes at different depths is right, up to the edge itself."""
  row, column = np.indices(SIZE)
  left = row < 30 if slope is None else column - 40 < slope * (row - 30)
  near, far = (0.4, -0.2, 1), (-0.3, 0.3, 1)
  depth = np.where(left, plane(near, 1.5), plane(far, 3))
  normals = normals_from_depth(depth, INTRINSICS)
  for side, normal in ((left, near), (~left, far)):
    error = degrees(normals, normal)[side]
    assert np.quantile(error, 0.98) < 0.1
    # Stairs of an oblique edge cut the corners of all windows of a few pixels.
    assert error[(normals != 0).any(-1)[side]].max() < (0.1 if slope in (0, None) else 25)


def test_normals_from_depth_do_not_smear_at_crease():
  """Two walls of a corner: depth is continuous, normals jump."""
  depth = np.minimum(plane((0.8, 0, 1), 2), plane((-0.8, 0, 1), 2))
  normals = normals_from_depth(depth, INTRINSICS)
  column = int(INTRINSICS[0, 2])
  assert degrees(normals[:, :column], (0.8, 0, 1)).max() < 0.5
  assert degrees(normals[:, column + 1 :], (-0.8, 0, 1)).max() < 0.5


def test_normals_from_depth_average_noise_in_larger_windows():
  depth = noisy(plane((0.3, 0.2, 1)), 0.002)
  normals = [
    normals_from_depth(depth, INTRINSICS, windows=(window,), noise=0.002) for window in (5, 9, 17)
  ]
  errors = [np.median(degrees(estimate, (0.3, 0.2, 1))) for estimate in normals]
  assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_normals_from_depth_ignore_steps_of_sensor_below_noise():
  """Sensors measure inverse depth in steps: a tilted wall looks like stairs of frontal planes."""
  truth, step = (0.05, 0.03, 1), 0.008
  depth = 1 / (np.round(1 / plane(truth) / step) * step)
  error_without_noise, error_with_noise = (
    np.median(degrees(normals_from_depth(depth, INTRINSICS, noise=noise), truth))
    for noise in (0, step / np.sqrt(12))
  )
  assert error_without_noise > 3 > 0.6 > error_with_noise


def test_normals_from_depth_choose_window_size_by_content():
  """As good as large windows on the plane, and as small ones keep the pole in front of it."""
  truth = (0.3, 0.2, 1)
  depth = plane(truth, 3)
  depth[:, 36:48] = plane((0, 0, 1), 1)[:, 36:48]
  depth = noisy(depth, 0.001)

  def errors(windows):
    normals = normals_from_depth(depth, INTRINSICS, windows=windows, noise=0.001)
    return np.median(degrees(normals, truth)[:, 55:]), degrees(normals, (0, 0, 1))[:, 36:48]

  (wall, pole), (rough, small), (smooth, mixed) = map(errors, ((9, 25), (9,), (25,)))
  assert wall < 1.5 * smooth and wall < rough / 2
  assert np.median(pole) < 1.5 * np.median(small) and np.median(mixed) > 4 * np.median(pole)


def test_normals_from_depth_are_missing_at_isolated_pixels():
  depth = plane((0, 0, 1))
  depth[10, 10] *= 1.1
  depth[30:50, 30:50] = 0
  depth[40, 40] = 2
  normals = normals_from_depth(depth, INTRINSICS, windows=(9,))
  missing = (normals == 0).all(-1)
  expected = depth == 0
  expected[[10, 40], [10, 40]] = True
  np.testing.assert_array_equal(missing, expected)


def test_normals_from_depth_are_missing_in_sparse_depth():
  depth = np.where(np.random.default_rng(2).random(SIZE) < 0.25, plane((0, 0, 1)), 0)
  assert not normals_from_depth(depth, INTRINSICS).any()


def test_normals_from_depth_are_missing_in_random_depth():
  """Some of its pixels lie on the plane through their windows, but the windows are no planes."""
  depth = np.random.default_rng(2).uniform(1, 3, SIZE)
  assert not normals_from_depth(depth, INTRINSICS).any()


@pytest.mark.parametrize("nothing", [0, -1, np.nan, np.inf])
def test_normals_from_depth_ignore_values_of_missing_depth(nothing):
  depth = noisy(plane((0.2, 0.3, 1)), 0.001)
  hole = np.random.default_rng(1).random(SIZE) < 0.2
  without = normals_from_depth(np.where(hole, np.float32(0), depth), INTRINSICS)
  normals = normals_from_depth(np.where(hole, np.float32(nothing), depth), INTRINSICS)
  np.testing.assert_array_equal(normals, without)
  assert not normals[hole].any() and normals[~hole].any(-1).all()


def test_normals_from_depth_without_depth_are_zero():
  assert not normals_from_depth(np.zeros(SIZE, np.float32), INTRINSICS).any()


def rough():
  """A noisy scene with an edge, a crease and holes."""
  depth = np.minimum(plane((0.8, 0, 1), 2), plane((-0.5, 0.3, 1), 2.2))
  depth[25:45, 10:30] = plane((0, 0.5, 1), 1)[25:45, 10:30]
  depth[np.random.default_rng(3).random(SIZE) < 0.1] = 0
  with np.errstate(divide="ignore"):
    return np.where(depth > 0, noisy(depth, 0.001), 0).astype(np.float32)


@pytest.mark.parametrize("scale", [0.25, 1000])
def test_normals_from_depth_do_not_depend_on_unit(scale):
  depth = rough()
  normals = normals_from_depth(depth, INTRINSICS, noise=0.001)
  scaled = normals_from_depth(depth * np.float32(scale), INTRINSICS, noise=0.001 / scale)
  assert np.mean(np.abs(scaled - normals).max(-1) > 1e-4) < 1e-3


def test_normals_from_depth_commute_with_flip():
  depth = rough()
  flipped_intrinsics = INTRINSICS.copy()
  flipped_intrinsics[0, 2] = SIZE[1] - 1 - INTRINSICS[0, 2]
  normals = normals_from_depth(depth, INTRINSICS, noise=0.001)
  expected = transforms.flip({"normals": normals})["normals"]
  flipped_normals = normals_from_depth(
    np.ascontiguousarray(depth[:, ::-1]), flipped_intrinsics, noise=0.001
  )
  assert np.mean(np.abs(flipped_normals - expected).max(-1) > 1e-4) < 0.01


@pytest.mark.parametrize(
  "options, message",
  [
    ({"windows": (9, 8)}, r"windows \(9, 8\): expected odd"),
    ({"windows": (1,)}, "at least 3"),
    ({"windows": ()}, "expected odd"),
    ({"noise": -1.0}, "noise -1.0"),
  ],
)
def test_normals_from_depth_refuse_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    normals_from_depth(np.ones(SIZE), INTRINSICS, **options)


def test_normals_from_depth_refuse_three_dimensions():
  with pytest.raises(ValueError, match=r"\(60, 80, 1\)"):
    normals_from_depth(np.ones((*SIZE, 1)), INTRINSICS)


@pytest.mark.parametrize(
  "intrinsics", [np.eye(4), -np.eye(3), np.eye(3) * 2, np.full((3, 3), np.nan), INTRINSICS.T]
)
def test_check_intrinsics_refuses_malformed_matrices(intrinsics):
  check_intrinsics(INTRINSICS)
  with pytest.raises(ValueError, match=r"intrinsics \[\[.*expected \[\[fx, s, cx\]"):
    normals_from_depth(np.ones(SIZE), intrinsics)
