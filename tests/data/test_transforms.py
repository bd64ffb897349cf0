"""Transforms act on all arrays together, keep them aligned, and never invent truth."""

import dataclasses

import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.data import transforms
from asmjax.data.transforms import Augment
from tests.helpers.examples import assert_examples_equal

SIZES = [(7, 11), (20, 32), (13, 40), (31, 5), (40, 64), (1, 1)]
FIXED = np.random.default_rng(0)


def example(height=20, width=32, seed=0):
  """Random arrays of every kind; a tenth of the depths and normals are missing."""
  rng = np.random.default_rng(seed)
  valid = rng.random((height, width)) > 0.1
  normals = rng.standard_normal((height, width, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  return {
    "image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
    "label": rng.integers(0, 5, (height, width), dtype=np.int32),
    "depth": (valid * rng.uniform(1, 9, (height, width))).astype(np.float32),
    "normals": (valid[..., None] * normals).astype(np.float32),
    "instance": rng.integers(0, 70000, (height, width), dtype=np.int32),
  }


def disk(height, width, center, radius):
  """A white disk on black with its mask, and its depth the label times two."""
  rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
  inside = np.hypot(rows - center[0], columns - center[1]) < radius
  image = np.repeat(inside[..., None] * np.uint8(255), 3, -1)
  return {
    "image": image,
    "label": inside.astype(np.int32),
    "depth": (2 * inside).astype(np.float32),
  }


def centroid(weights):
  """Center of mass as fractions of height and width."""
  rows, columns = (np.arange(side) + 0.5 for side in weights.shape)
  moments = np.array([weights.sum(1) @ rows, weights.sum(0) @ columns])
  return moments / weights.sum() / weights.shape


def slow_nearest(array, size):
  """For each output center the input pixel whose center is nearest; the later one where two are."""
  out = np.zeros(size + array.shape[2:], array.dtype)
  for i in range(size[0]):
    for j in range(size[1]):
      y, x = (i + 0.5) * array.shape[0] / size[0], (j + 0.5) * array.shape[1] / size[1]
      row = max(range(array.shape[0]), key=lambda k: (-round(abs(k + 0.5 - y), 9), k))
      column = max(range(array.shape[1]), key=lambda k: (-round(abs(k + 0.5 - x), 9), k))
      out[i, j] = array[row, column]
  return out


def slow_bilinear(image, size):
  """Bilinear interpolation between pixel centers, constant beyond the outer ones."""

  def taps(new, old):
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    return low, np.minimum(low + 1, old - 1), at - low

  top, bottom, v = taps(size[0], image.shape[0])
  left, right, u = taps(size[1], image.shape[1])
  u, v = u[:, None], v[:, None, None]
  image = image.astype(float)
  upper = image[top][:, left] * (1 - u) + image[top][:, right] * u
  lower = image[bottom][:, left] * (1 - u) + image[bottom][:, right] * u
  return upper * (1 - v) + lower * v


@pytest.mark.parametrize("size", SIZES)
def test_resize_nearest_takes_nearest_center(size):
  resized = transforms.resize(example(), size)
  for key in ("label", "depth", "normals", "instance"):
    np.testing.assert_array_equal(resized[key], slow_nearest(example()[key], size))
    assert resized[key].dtype == example()[key].dtype


def test_resize_nearest_keeps_large_values():
  ids = np.array([[2**24 + 1, -7]], np.int32)
  assert transforms.resize_nearest(ids, (2, 4)).tolist() == [[2**24 + 1] * 2 + [-7] * 2] * 2


@pytest.mark.parametrize("size", [(40, 64), (33, 47), (25, 32)])
def test_resize_image_enlarges_bilinearly(size):
  image = example()["image"]
  resized = transforms.resize_image(image, size)
  np.testing.assert_allclose(resized, slow_bilinear(image, size), atol=1.01)


def test_resize_image_reduces_to_mean_over_areas():
  image = example()["image"]
  blocks = image.reshape(5, 4, 8, 4, 3).mean((1, 3))
  np.testing.assert_allclose(transforms.resize_image(image, (5, 8)), blocks, atol=0.51)


@pytest.mark.parametrize("size", [(37, 51), (64, 96), (101, 149), (300, 140), (48, 200)])
def test_resize_keeps_image_and_truth_aligned(size):
  original = disk(64, 96, center=(24.3, 60.2), radius=15)
  resized = transforms.resize(original, size)
  where = centroid(original["label"])
  # In output pixels; labels are quantised, and a half-pixel error in alignment would be 0.5.
  for key in ("label", "depth"):
    np.testing.assert_allclose(centroid(resized[key]) * size, where * size, atol=0.3)
  gray = resized["image"][..., 0].astype(float)
  np.testing.assert_allclose(centroid(gray) * size, where * size, atol=0.1)


def test_resize_nearest_agrees_with_resize_image():
  """On a ramp, the value at a label's pixel is the interpolated one up to half an input pixel."""
  ramp = np.tile(np.arange(0, 250, 10, dtype=np.int32), (4, 1))
  picture = np.repeat(ramp[..., None], 3, -1).astype(np.uint8)
  for width in (60, 75, 101):
    resized = transforms.resize({"image": picture, "label": ramp}, (4, width))
    error = resized["label"] - resized["image"][..., 0].astype(int)
    assert np.abs(error).max() <= 6 and abs(error.mean()) < 0.5


def test_resize_to_same_size_is_identity():
  assert_examples_equal(transforms.resize(example(), (20, 32)), example())


def test_flip_twice_is_identity():
  once = transforms.flip(example())
  assert_examples_equal(transforms.flip(once), example())
  for key, value in example().items():
    assert not np.array_equal(once[key], value)


def test_flip_mirrors_pixels_and_normals():
  once, original = transforms.flip(example()), example()
  for key in ("image", "label", "depth", "instance"):
    np.testing.assert_array_equal(once[key][:, 3], original[key][:, -4])
  np.testing.assert_array_equal(once["normals"][:, 3, 0], -original["normals"][:, -4, 0])
  np.testing.assert_array_equal(once["normals"][:, 3, 1:], original["normals"][:, -4, 1:])


def plane(height, width, focal, slope):
  """Depth and normals of the plane z = 2 + slope . (x, y) before a pinhole camera in the middle."""
  u = (np.arange(width) + 0.5 - width / 2)[None] / focal
  v = (np.arange(height) + 0.5 - height / 2)[:, None] / focal
  depth = 2 / (1 - slope[0] * u - slope[1] * v)
  normal = np.array([*slope, 1]) / np.linalg.norm([*slope, 1])
  return depth.astype(np.float32), np.broadcast_to(normal, (height, width, 3)).astype(np.float32)


def normals_of(depth, focal):
  """Normals by finite differences of the back-projected points."""
  height, width = depth.shape
  u = (np.arange(width) + 0.5 - width / 2)[None] / focal
  v = (np.arange(height) + 0.5 - height / 2)[:, None] / focal
  points = np.stack([u * depth, v * depth, depth], -1)
  across, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
  # Across and down span a normal away from the camera, in a frame whose z points away as well.
  normal = np.cross(across, down) * [-1, -1, 1]
  return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def enlarged(factor, approaching):
  """A plane's depth and normals, and the normals that the depth alone gives after enlarging."""
  depth, normals = plane(40, 60, focal=50, slope=(0.4, -0.3))
  image = np.zeros((40, 60, 3), np.uint8)
  example = {"image": image, "depth": depth, "normals": normals}
  result = transforms.resize(example, (round(40 * factor), round(60 * factor)))
  result = transforms.rescale_depth_and_normals(result, factor) if approaching else result
  # An enlarged depth is piecewise constant: compare at the middle of every input pixel's copies.
  step = max(1, int(factor))
  middle = {key: value[step // 2 :: step, step // 2 :: step] for key, value in result.items()}
  focal = 50 if approaching else 50 * factor
  return example, middle, normals_of(middle["depth"], focal / step)


@pytest.mark.parametrize("factor", [0.5, 3])
@pytest.mark.parametrize("approaching", [True, False])
def test_rescale_depth_and_normals_keeps_them_consistent(factor, approaching):
  """With the old focal length if the scene comes nearer, with a longer one if it stays."""
  before, after, computed = enlarged(factor, approaching)
  ratio = after["depth"].mean() / before["depth"].mean()
  np.testing.assert_allclose(ratio, 1 / factor if approaching else 1, rtol=0.02)
  np.testing.assert_allclose(after["normals"][:-1, :-1], computed, atol=0.02)


def test_rescale_depth_and_normals_keeps_missing_and_unit():
  nearer = transforms.rescale_depth_and_normals(example(), 1.7)
  missing = nearer["depth"] == 0
  length = np.linalg.norm(nearer["normals"], axis=-1)
  assert missing.any() and (length[missing] == 0).all()
  np.testing.assert_allclose(length[~missing], 1, atol=1e-5)


def test_rescale_depth_and_normals_is_invertible():
  back = transforms.rescale_depth_and_normals(
    transforms.rescale_depth_and_normals(example(), 1.7), 1 / 1.7
  )
  for key, value in example().items():
    np.testing.assert_allclose(back[key], value, rtol=1e-5, atol=1e-6)


def test_pad_adds_no_truth():
  padded = transforms.pad(example(), (26, 40), (1, 2, 3))
  for key, value in example().items():
    np.testing.assert_array_equal(padded[key][:20, :32], value)
    assert padded[key].dtype == value.dtype and padded[key].shape[:2] == (26, 40)
  outside = np.ones((26, 40), bool)
  outside[:20, :32] = False
  fill = {"image": (1, 2, 3), "label": UNLABELED, "depth": 0, "normals": 0, "instance": 0}
  for key, value in fill.items():
    assert (padded[key][outside] == value).all()


def test_pad_never_cuts_and_crop_undoes_it():
  assert transforms.pad(example(), (10, 40))["label"].shape == (20, 40)
  assert_examples_equal(
    transforms.crop(transforms.pad(example(), (50, 50)), 0, 0, (20, 32)), example()
  )


def test_crop_takes_same_window_of_all_arrays():
  window = transforms.crop(example(), 3, 5, (10, 12))
  for key, value in example().items():
    np.testing.assert_array_equal(window[key], value[3:13, 5:17])


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (11, 0), (0, 23)])
def test_crop_refuses_window_outside(place):
  with pytest.raises(ValueError, match="leaves the image of size 20x32"):
    transforms.crop(example(), *place, (10, 10))


def test_augment_leaves_input_unchanged():
  original = example()
  for value in original.values():
    value.setflags(write=False)
  augment = Augment((24, 24), resize="none", flip=True, scale=(0.5, 2), random_crop=True)
  for seed in range(10):
    augment(original, np.random.default_rng(seed))
  assert_examples_equal(original, example())


def test_augment_is_a_function_of_its_generator():
  augment = Augment((16, 16), flip=True, scale=(0.5, 2.0), random_crop=True)
  runs = [augment(example(), np.random.default_rng(seed)) for seed in (1, 1, 2)]
  assert_examples_equal(runs[0], runs[1])
  assert not np.array_equal(runs[0]["image"], runs[2]["image"])
  assert {value.shape[:2] for run in runs for value in run.values()} == {(16, 16)}


def test_augment_letterbox_keeps_aspect_and_stretch_fills():
  letterboxed = Augment((32, 32), resize="letterbox")(example(20, 40), FIXED)
  assert (letterboxed["label"][:16] != UNLABELED).all() and (
    letterboxed["label"][16:] == UNLABELED
  ).all()
  stretched = Augment((32, 32), resize="stretch")(example(20, 40), FIXED)
  assert_examples_equal(stretched, transforms.resize(example(20, 40), (32, 32)))


@pytest.mark.parametrize("inner", [(333, 500), (500, 333), (1, 700), (64, 64), (63, 65)])
def test_augment_letterbox_fits_and_touches(inner):
  letterboxed = Augment((64, 48), resize="letterbox")
  inside = letterboxed(example(*inner), FIXED)["label"] != UNLABELED
  assert inside.any(1).all() or inside.any(0).all()


def test_augment_random_crops_reach_every_place():
  ids = np.arange(20 * 32, dtype=np.int32).reshape(20, 32)
  original = {"image": example()["image"], "instance": ids}
  augment = Augment((18, 30), flip=True, random_crop=True)
  crops = [augment(original, np.random.default_rng(seed))["instance"] for seed in range(300)]
  assert len({(int(ids.min()), ids[0, 0] < ids[0, 1]) for ids in crops}) == 3 * 3 * 2
  assert 0.4 < np.mean([ids[0, 0] > ids[0, 1] for ids in crops]) < 0.6


def test_augment_scale_is_log_uniform():
  white = {"image": np.full((40, 40, 3), 255, np.uint8), "label": np.zeros((40, 40), np.int32)}
  augment = Augment((160, 160), scale=(0.25, 4.0))
  sides = [
    (augment(white, np.random.default_rng(seed))["label"][0] == 0).sum() for seed in range(400)
  ]
  assert min(sides) < 12 and max(sides) > 140 and 30 < np.median(sides) < 53


def test_augment_scaled_crops_enlarge_and_reach_everything():
  """A crop's neighbors are 1 / factor apart in the image, and every input pixel may be seen."""
  columns = np.tile(np.arange(64, dtype=np.int32), (48, 1))
  rows = np.tile(np.arange(48, dtype=np.int32)[:, None], (1, 64))
  image = np.zeros((48, 64, 3), np.uint8)
  augment = Augment((24, 24), scale=(2.0, 2.0), random_crop=True)
  corners = set()
  for seed in range(600):
    across, down = (
      augment({"image": image, "instance": ids}, np.random.default_rng(seed))["instance"]
      for ids in (columns, rows)
    )
    np.testing.assert_array_equal(across[0], across[0, 0] + np.arange(24) // 2)
    np.testing.assert_array_equal(down[:, 0], down[0, 0] + np.arange(24) // 2)
    corners |= {(int(across[0, 0]), int(down[0, 0]))}
  assert {x for x, _ in corners} == set(range(53)) and {y for _, y in corners} == set(range(37))


def test_find_class_share_counts_labeled_pixels():
  label = np.array([[0, 0, 2, 255], [2, 2, 5, 255]])
  assert transforms.find_class_share(label) == 0.5
  assert transforms.find_class_share(np.full((2, 2), 255)) == 1


def test_augment_avoids_crops_of_one_class():
  """Objects in one corner, on much background."""
  label = np.zeros((64, 64), np.int32)
  label[:20, :20] = 1
  original = {"image": np.zeros((64, 64, 3), np.uint8), "label": label}
  shares = {}
  for limit in (1.0, 0.75):
    augment = Augment((16, 16), random_crop=True, max_class_share=limit)
    crops = [augment(original, np.random.default_rng(seed))["label"] for seed in range(200)]
    shares[limit] = np.mean([transforms.find_class_share(crop) <= 0.75 for crop in crops])
  # A crop is balanced with the probability p, and one of ten with 1 - (1 - p)^10.
  np.testing.assert_allclose(shares[0.75], 1 - (1 - shares[1.0]) ** 10, atol=0.15)
  assert shares[1.0] < 0.2 and shares[0.75] > 0.5


def test_augment_limits_no_classes_where_there_are_no_labels():
  augment = Augment((16, 16), random_crop=True, max_class_share=0.75)
  cropped = augment({"image": np.zeros((32, 32, 3), np.uint8)}, np.random.default_rng(0))
  assert cropped["image"].shape == (16, 16, 3)


def test_augment_draws_nothing_more_without_a_limit_of_classes():
  augment = Augment((16, 16), random_crop=True, max_class_share=0.99)
  for seed in range(20):  # The first crop of noise is balanced.
    assert_examples_equal(
      augment(example(), np.random.default_rng(seed)),
      dataclasses.replace(augment, max_class_share=1.0)(example(), np.random.default_rng(seed)),
    )


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.3, 2.0])
def test_augment_keeps_image_and_depth_aligned(factor):
  """Of a linear ramp: whatever pixel one looks at, image and depth tell the same place."""
  ramp = np.tile(np.arange(60, dtype=np.float32) * 4 + 2, (50, 1))
  original = {"image": np.repeat(ramp[..., None], 3, -1).astype(np.uint8), "depth": ramp}
  augment = Augment((32, 32), scale=(factor, factor), scale_depth=False, random_crop=True)
  for seed in range(5):
    augmented = augment(original, np.random.default_rng(seed))
    inside = augmented["depth"] > 0
    error = (augmented["image"][..., 0].astype(float) - augmented["depth"])[inside]
    assert np.abs(error).max() <= 5 and abs(error.mean()) <= 2
    slope = np.diff(augmented["image"][0, inside[0], 0].astype(float))[1:-1].mean()
    np.testing.assert_allclose(slope, 4 / factor, rtol=0.1)


def test_augment_scale_depth_divides_by_factor():
  original = {"image": np.zeros((20, 20, 3), np.uint8), "depth": np.ones((20, 20), np.float32)}
  augment = Augment((24, 24), scale=(0.5, 2.0), random_crop=True)
  depths = {augment(original, np.random.default_rng(seed))["depth"].max() for seed in range(50)}
  assert 0.5 <= min(depths) < 0.6 and 1.7 < max(depths) <= 2
  without_scale_depth = dataclasses.replace(augment, scale_depth=False)
  assert {
    without_scale_depth(original, np.random.default_rng(seed))["depth"].max() for seed in range(50)
  } == {1}


def test_augment_without_random_crop_never_loses_pixels():
  with pytest.raises(ValueError, match="20x32 exceeds size 20x30.*random_crop"):
    Augment((20, 30))(example(), FIXED)
  assert_examples_equal(Augment((20, 32))(example(), FIXED), example())


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"resize": "warp"}, "'warp'; known: none, stretch, letterbox"),
    ({"size": (0, 5)}, r"\(0, 5\).*at least 1"),
    ({"size": (5,)}, r"\(5,\).*height, width"),
    ({"scale": (2.0, 1.0)}, "0 < low <= high"),
    ({"scale": (0.0, 1.0)}, "0 < low <= high"),
    ({"scale": (1.0, 2.0), "resize": "letterbox"}, "set random_crop"),
    ({"max_class_share": 0.5}, "max_class_share 0.5 is for crops: set random_crop"),
    ({"max_class_share": 1.5}, "max_class_share=1.5; expected"),
  ],
)
def test_augment_refuses_bad_settings(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(Augment((8, 8)), **change)
