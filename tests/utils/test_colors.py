"""Colors for the eye."""

import itertools

import numpy as np
import pytest

from asmjax.utils import colors as pictures

PALETTE = ((0, 0, 0), (224, 160, 64), (10, 200, 30))


def test_overlay_goes_from_the_image_to_the_palette():
  image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
  label = np.array([[0, 1, 2], [255, 3, -2]], np.int32)
  opaque = pictures.overlay(image, label, PALETTE, alpha=1.0)
  np.testing.assert_array_equal(opaque[0], PALETTE)
  assert (opaque[1] == 255).all()
  np.testing.assert_array_equal(pictures.overlay(image, label, PALETTE, alpha=0.0), image)
  half = pictures.overlay(image, label, PALETTE, alpha=0.5)
  np.testing.assert_allclose(half, (image.astype(float) + opaque) / 2, atol=0.5)
  see_through = pictures.overlay(image, label, PALETTE, alpha=1.0, transparent=[1])
  np.testing.assert_array_equal(see_through[label == 1], image[label == 1])
  np.testing.assert_array_equal(see_through[label != 1], opaque[label != 1])


def test_depth_colors_go_from_blue_to_red_and_missing_is_black():
  depth = np.array([[0, np.nan, np.inf, -1, 0.5, 1, 1.8, 5, 9, 12]], np.float32)
  colors = pictures.depth_colors(depth, 1, 9)[0]
  assert not colors[:4].any() and colors[4:].any(-1).all()
  # The ends of the Turbo map as its authors publish it (Mikhailov 2019), beyond which it clips.
  np.testing.assert_array_equal(colors[4:6], [(48, 18, 59)] * 2)
  np.testing.assert_array_equal(colors[8:], [(122, 4, 3)] * 2)
  assert colors[6].argmax() == 2 and colors[7].argmax() == 1


def test_depth_colors_take_a_range_of_one_depth():
  assert pictures.depth_colors(np.full((2, 2), 3, np.float32), 3, 3).any(-1).all()


@pytest.mark.parametrize(
  ("normal", "color"),
  [
    ((0, 0, 1), (128, 128, 255)),  # Towards the camera.
    ((0, -1, 0), (128, 0, 128)),  # A floor points up, y down.
    ((1, 0, 0), (255, 128, 128)),  # A wall on the left.
    ((0, 0, 0), (0, 0, 0)),
    ((np.nan, 0, 0), (0, 0, 0)),
  ],
)
def test_normal_colors_are_those_of_known_surfaces(normal, color):
  normals = np.tile(np.array(normal, np.float32), (2, 3, 1))
  np.testing.assert_array_equal(pictures.normal_colors(normals)[1, 2], color)


def test_normal_colors_can_be_decoded():
  normals = np.random.default_rng(0).standard_normal((8, 8, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  np.testing.assert_allclose(
    pictures.normal_colors(normals) / 127.5 - 1, normals, atol=0.5 / 127.5 + 1e-6
  )


def test_instance_colors_are_lasting_and_distinct():
  ids = np.arange(30, dtype=np.int32).reshape(5, 6)
  colors = pictures.instance_colors(ids).reshape(-1, 3).astype(int)
  assert not colors[0].any()
  apart = [np.abs(first - second).sum() for first, second in itertools.combinations(colors, 2)]
  assert min(apart) > 20
  alone = pictures.instance_colors(np.array([[17, 0]], np.int32))[0]
  np.testing.assert_array_equal(alone, colors[[17, 0]])
