"""Distortions against NumPy and colorsys, and the rule that all truths move with the image."""

import colorsys

import numpy as np
import pytest
from scipy import ndimage

from asmjax.batch import UNLABELED
from asmjax.data import distortions
from asmjax.data.distortions import Distortions
from asmjax.data.geometry import normals_from_depth
from asmjax.data.loader import EpochSampler
from asmjax.data.transforms import Augment
from tests.data.test_transforms import centroid, disk, example, plane
from tests.helpers.examples import assert_examples_equal
from tests.helpers.list_source import ListSource

GRAY = (127, 127, 127)
SSD = Distortions(brightness=32, contrast=0.5, saturation=0.5, hue=36)
# Every field of its own, with all others off.
EACH = {
  "brightness": 32.0,
  "contrast": 0.5,
  "saturation": 0.5,
  "hue": 36.0,
  "blur": 2.0,
  "jpeg": 30,
  "cutout": 0.5,
  "rotation": 20.0,
  "shear": 15.0,
}


def rounded(values):
  return np.clip(np.rint(values), 0, 255)


def test_adjust_brightness_and_contrast_agree_with_numpy():
  image = example()["image"]
  brighter = distortions.adjust_brightness(image, -40.25)
  np.testing.assert_array_equal(brighter, rounded(image.astype(float) - 40.25))
  contrasted = distortions.adjust_contrast(image, 1.375)
  np.testing.assert_array_equal(contrasted, rounded(image * 1.375))


@pytest.mark.parametrize(("saturation", "hue"), [(0.5, 0), (1.5, 0), (1, 30), (1, -77.5), (0, 0)])
def test_adjust_saturation_and_hue_agree_with_colorsys(saturation, hue):
  image = example(6, 7)["image"]
  if hue:
    actual = distortions.adjust_hue(image, hue)
  else:
    actual = distortions.adjust_saturation(image, saturation)
  expected = np.empty(image.shape)
  for place in np.ndindex(6, 7):
    h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
    expected[place] = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1, s * saturation), v)
  np.testing.assert_allclose(actual, 255 * expected, atol=0.51)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_agrees_with_scipy(sigma):
  image = example()["image"]
  expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=3)
  np.testing.assert_allclose(distortions.blur(image, sigma), expected, atol=2)


def test_compress_jpeg_keeps_colors_and_loses_more_at_low_quality():
  red = np.zeros((16, 16, 3), np.uint8)
  red[..., 0] = 200
  np.testing.assert_allclose(distortions.compress_jpeg(red, 90), red, atol=4)
  image = distortions.blur(example(32, 32)["image"], 2)
  errors = [np.abs(distortions.compress_jpeg(image, q).astype(int) - image) for q in (5, 95)]
  assert errors[0].mean() > 2 * errors[1].mean() > 0


def test_cut_out_covers_a_rectangle():
  image = example()["image"]
  covered = distortions.cut_out(image, 3, 30, (4, 5), (1, 2, 3))
  expected = image.copy()
  expected[3:7, 30:32] = (1, 2, 3)
  np.testing.assert_array_equal(covered, expected)


# The image plane


def slow_affine(array, matrix, missing):
  """For each pixel, the one whose center's image is nearest, within half a pixel."""
  (height, width), inverse = array.shape[:2], np.linalg.inv(matrix)
  out = np.full_like(array, missing)
  for row, column in np.ndindex(height, width):
    x, y = inverse @ (column + 0.5 - width / 2, row + 0.5 - height / 2)
    j, i = round(x + width / 2 - 0.5), round(y + height / 2 - 0.5)
    if 0 <= i < height and 0 <= j < width:
      out[row, column] = array[i, j]
  return out


@pytest.mark.parametrize(("rotation", "shear"), [(17, 0), (-133.1, 0), (0, 31), (25, -12)])
def test_affine_takes_nearest_pixel(rotation, shear):
  matrix = distortions.make_affine(rotation, shear)
  moved = distortions.affine(example(), matrix, GRAY)
  for key, missing in (("label", UNLABELED), ("depth", 0), ("instance", 0)):
    np.testing.assert_array_equal(moved[key], slow_affine(example()[key], matrix, missing))
    assert moved[key].dtype == example()[key].dtype


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_affine_by_quarters_is_exact(turns):
  original = example(24, 24)
  moved = distortions.affine(original, distortions.make_affine(90 * turns, 0), GRAY)
  for key in ("image", "label", "depth", "instance"):
    np.testing.assert_array_equal(moved[key], np.rot90(original[key], -turns))
  x, y, z = np.moveaxis(np.rot90(original["normals"], -turns), -1, 0)
  expected = {1: (-y, x, z), 2: (-x, -y, z), 3: (y, -x, z)}[turns]
  np.testing.assert_allclose(moved["normals"], np.stack(expected, -1), atol=1e-6)


@pytest.mark.parametrize(("rotation", "shear"), [(30, 0), (-75, 0), (0, 25), (40, -20)])
def test_affine_normals_agree_with_moved_depth(rotation, shear):
  """Of a slanted plane: those that its moved depth map alone gives."""
  depth, normals = plane(96, 128, focal=100, slope=(0.5, -0.3))
  image = np.zeros((96, 128, 3), np.uint8)
  matrix = distortions.make_affine(rotation, shear)
  moved = distortions.affine({"image": image, "depth": depth, "normals": normals}, matrix, GRAY)
  intrinsics = np.array([[100, 0, 63.5], [0, 100, 47.5], [0, 0, 1.0]])
  computed = normals_from_depth(moved["depth"], intrinsics, windows=(33,))
  both = computed.any(-1) & moved["normals"].any(-1)
  assert both.mean() > 0.3
  angles = np.degrees(np.arccos(np.clip((computed * moved["normals"]).sum(-1)[both], -1, 1)))
  assert np.median(angles) < 0.5 and angles.max() < 3
  before = np.degrees(np.arccos((normals[0, 0] * moved["normals"][both][0]).sum()))
  assert before > 5  # Normals that were not turned would fail above.


@pytest.mark.parametrize(("rotation", "shear"), [(30, 0), (10, 20)])
def test_affine_keeps_image_and_truth_aligned(rotation, shear):
  original = disk(64, 96, center=(20.3, 60.2), radius=12)
  matrix = distortions.make_affine(rotation, shear)
  moved = distortions.affine(original, matrix, (0, 0, 0))
  x, y = matrix @ (60.2 - 48, 20.3 - 32)
  for weights in (moved["image"][..., 0].astype(float), moved["label"] == 1, moved["depth"]):
    where = centroid(weights) * weights.shape
    np.testing.assert_allclose(where, (y + 32, x + 48), atol=0.15)


def test_affine_invents_no_truth():
  matrix = distortions.make_affine(33, 0)
  moved = distortions.affine(example(), matrix, (1, 2, 3))
  outside = moved["label"] == UNLABELED
  assert 0.1 < outside.mean() < 0.6
  assert not moved["depth"][outside].any() and not moved["normals"][outside].any()
  assert not moved["instance"][outside].any()
  np.testing.assert_array_equal(moved["image"][0, 0], (1, 2, 3))
  length = np.linalg.norm(moved["normals"], axis=-1)
  np.testing.assert_allclose(length[moved["depth"] > 0], 1, atol=1e-5)


def test_affine_moves_replayed_predictions_too():
  original = {"image": example()["image"], "replay_label": example()["label"]}
  moved = distortions.affine(original, distortions.make_affine(20, 0), GRAY)
  together = distortions.affine(example(), distortions.make_affine(20, 0), GRAY)
  np.testing.assert_array_equal(moved["replay_label"], together["label"])


# What is drawn


def test_distortions_are_off_by_default_and_draw_nothing():
  rng = np.random.default_rng(0)
  result = Distortions().recolor(Distortions().move(example(), GRAY, rng), GRAY, rng)
  assert_examples_equal(result, example())
  assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("field", EACH)
def test_distortions_change_what_their_field_says(field):
  chosen = Distortions(**{field: EACH[field]})
  original = example()
  for value in original.values():
    value.setflags(write=False)
  changes = []
  for seed in range(40):
    rng = np.random.default_rng(seed)
    result = chosen.recolor(chosen.move(original, GRAY, rng), GRAY, rng)
    changes.append([not np.array_equal(result[key], original[key]) for key in original])
  share = np.mean(changes, 0)
  if field in ("rotation", "shear"):
    assert (share > 0.7).all()  # Not at the smallest angles.
  else:
    assert 0.25 < share[0] < 0.75 and not share[1:].any()


def test_distortions_change_contrast_before_or_after_saturation():
  """As SSD does. Saturation leaves gray as it is, so that it tells which of the two is which."""
  gray = np.full((1, 1, 3), 100, np.uint8)
  chosen, orders = Distortions(contrast=0.5, saturation=0.5), []
  for seed in range(100):
    functions = chosen._choose_colors(np.random.default_rng(seed))
    if len(functions) == 2:
      orders.append([not np.array_equal(function(gray), gray) for function in functions])
  assert all(sum(order) == 1 for order in orders)
  assert 0.25 < np.mean([order[0] for order in orders]) < 0.75


def test_distortions_stay_within_their_limits():
  gray = {"image": np.full((8, 8, 3), 100, np.uint8)}
  values = {
    name: [
      int(
        Distortions(**{name: limit}).recolor(gray, GRAY, np.random.default_rng(k))["image"][0, 0, 0]
      )
      for k in range(200)
    ]
    for name, limit in (("brightness", 32), ("contrast", 0.5))
  }
  assert min(values["brightness"]) in range(68, 73) and max(values["brightness"]) in range(128, 133)
  assert min(values["contrast"]) in range(50, 55) and max(values["contrast"]) in range(146, 151)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"brightness": 256}, "brightness=256; expected"),
    ({"contrast": 1.0}, "contrast=1.0; expected"),
    ({"jpeg": 96}, "jpeg=96; expected"),
    ({"rotation": -1}, "rotation=-1; expected"),
    ({"shear": 90}, "shear=90; expected"),
  ],
)
def test_distortions_refuse_numbers_out_of_range(change, message):
  with pytest.raises(ValueError, match=message):
    Distortions(**change)


def test_augment_distorts_as_seed_epoch_and_index_say():
  everything = Distortions(**EACH)
  augment = Augment((16, 16), flip=True, scale=(0.5, 2), random_crop=True, distortions=everything)
  sampler = EpochSampler(ListSource([example(seed=k) for k in range(3)], None), augment, seed=5)
  assert_examples_equal(sampler.example(2, 1), sampler.example(2, 1))
  for other in (sampler.example(3, 1), sampler.example(2, 0)):
    assert not np.array_equal(other["image"], sampler.example(2, 1)["image"])


def test_augment_pads_with_the_fill_color_whatever_the_distortions():
  """It is what the network sees as 0."""
  augment = Augment((40, 40), distortions=SSD, fill=(9, 8, 7))
  for seed in range(8):
    image = augment(example(), np.random.default_rng(seed))["image"]
    assert (image[20:] == (9, 8, 7)).all() and (image[:, 32:] == (9, 8, 7)).all()
