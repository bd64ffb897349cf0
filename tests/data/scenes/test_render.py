"""Views of solids and of scenes: closed forms, sphere tracing, and every shortcut left out."""

import numpy as np
import pytest

from asmjax.data.scenes import Scenes
from asmjax.data.scenes import render as rendering
from asmjax.data.scenes.primitives import Ball, Box, Pose
from asmjax.data.scenes.render import Camera, Part, render
from tests.oracles.ray_tracing import trace, unit


def looking_ahead(size, focal=50.0):
  intrinsics = np.array([(focal, 0, size[1] / 2), (0, focal, size[0] / 2), (0, 0, 1)])
  return Camera(Pose(np.eye(3), np.zeros(3)), intrinsics, size)


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
