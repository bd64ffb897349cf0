"""Ray hits against closed forms and against sphere tracing; furniture against its stated sizes;
paints, shapes and light against theirs."""

import numpy as np
import pytest

from asmjax.data.scenes import Scenes, textures
from asmjax.data.scenes import render as rendering
from asmjax.data.scenes.furniture import KINDS
from asmjax.data.scenes.primitives import Ball, Box, Cylinder, Pose, Room, rotation
from asmjax.data.scenes.render import Camera, Part, render

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


def looking_ahead(size, focal=50.0):
  intrinsics = np.array([(focal, 0, size[1] / 2), (0, focal, size[0] / 2), (0, 0, 1)])
  return Camera(IDENTITY, intrinsics, size)


@pytest.mark.parametrize("spot", [(0, 0), (7, 12), (20, 3), (23, 31)])
def test_render_looks_through_centers_of_pixels(spot):
  """A bead smaller than a pixel is seen by the one pixel whose center looks at it."""
  camera = looking_ahead((24, 32))
  row, column = spot
  ray = np.linalg.inv(camera.intrinsics) @ (column + 0.5, row + 0.5, 1)
  view = render(camera, [Part(Ball(0.02), Pose(np.eye(3), 3 * ray))])
  assert np.argwhere(view.owner == 0).tolist() == [list(spot)]
  assert view.depth[spot] == pytest.approx(3 - 0.02 / np.linalg.norm(ray), abs=1e-4)
  assert np.isinf(view.depth).sum() == 24 * 32 - 1


def test_render_measures_depth_along_optical_axis():
  wall = Part(Box((50, 50, 0.5)), Pose(np.eye(3), np.array([0, 0, 4.5])))
  view = render(looking_ahead((24, 32)), [wall])
  np.testing.assert_allclose(view.depth, 4, rtol=1e-6)
  np.testing.assert_array_equal(view.normals, np.broadcast_to([[[0]], [[0]], [[-1]]], (3, 24, 32)))


def test_render_ignores_solids_behind_camera():
  spots = np.array([(0, 0, -2), (0.6, 0, -0.1)])
  around = [Part(Ball(0.5), Pose(np.eye(3), spot)) for spot in spots]
  assert (render(looking_ahead((24, 32)), around).owner == -1).all()


def test_render_windows_cut_nothing_off(monkeypatch):
  """Intersecting every solid with every pixel's ray gives the same view."""
  scenes = [Scenes("train", size=(48, 64)).scene(index) for index in range(6)]
  views = [render(scene.camera, scene.parts()[0]) for scene in scenes]
  monkeypatch.setattr(rendering, "_NEAR", 1e6)
  for scene, view in zip(scenes, views, strict=True):
    for windowed, full in zip(view, render(scene.camera, scene.parts()[0]), strict=True):
      np.testing.assert_array_equal(windowed, full)


def test_render_does_not_depend_on_order_of_parts():
  scene = Scenes("train", size=(48, 64)).scene(3)
  parts, _ = scene.parts()
  view, reverse = render(scene.camera, parts), render(scene.camera, parts[::-1])
  np.testing.assert_array_equal(view.depth, reverse.depth)
  # Parts of one object may share a face.
  assert (view.owner == len(parts) - 1 - reverse.owner).mean() > 0.98


@pytest.mark.parametrize("index", range(4))
def test_render_agrees_with_sphere_tracing(index):
  scene = Scenes("val", size=(24, 32)).scene(index)
  parts, instances = scene.parts()
  view = render(scene.camera, parts)
  x, y = scene.camera.rays()
  rays = np.stack(np.broadcast_arrays(x, y[:, None], 1.0), -1).reshape(-1, 3)
  turned = unit(rays) @ scene.camera.pose.rotation.T
  along, owner = trace(parts, scene.camera.pose.translation, turned, steps=120)
  depth = along / np.linalg.norm(rays, axis=-1)
  agree = np.isclose(view.depth.ravel(), depth, atol=2e-3)
  agree &= instances[view.owner.ravel()] == instances[owner]
  assert agree.mean() > 0.98


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
