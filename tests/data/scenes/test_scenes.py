"""Scenes: a pure function of the index, truths that agree with each other, classes by structure."""

import concurrent.futures
import dataclasses

import cv2
import numpy as np
import pytest

from asmjax.data import SOURCES
from asmjax.data.scenes import Scenes
from asmjax.data.scenes.furniture import KINDS
from asmjax.data.transforms import flip
from tests.helpers.examples import assert_examples_equal

CLASSES = Scenes.descriptor.classes
OBJECTS = [CLASSES.index(kind) for kind in KINDS]


@pytest.fixture(scope="module")
def many():
  source = Scenes("train", size=(48, 64))
  return [source[index] for index in range(150)]


def points(example, intrinsics):
  """Back-projected pixels (h, w, 3) with x to the right, y down and z forward."""
  height, width = example["depth"].shape
  columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
  rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(intrinsics).T
  return rays * example["depth"][..., None].astype(np.float64)


def disagreement(example, intrinsics, edge=0.9):
  """Angles in degrees between the normals and the gradient of depth, away from edges.

  Returns:
    angles (h - 2, w - 2), NaN where a neighbor shows another instance or another face.
  """
  spots, normals = points(example, intrinsics), example["normals"].astype(np.float64)
  across, down = spots[1:-1, 2:] - spots[1:-1, :-2], spots[2:, 1:-1] - spots[:-2, 1:-1]
  # x right, y down, z forward is right-handed: down x across points to the camera.
  gradient = np.cross(down, across) * [1, 1, -1]
  gradient /= np.linalg.norm(gradient, axis=-1, keepdims=True)
  middle = normals[1:-1, 1:-1]
  smooth = np.ones(middle.shape[:2], bool)
  for rows, columns in [
    (slice(1, -1), slice(2, None)),
    (slice(1, -1), slice(None, -2)),
    (slice(2, None), slice(1, -1)),
    (slice(None, -2), slice(1, -1)),
  ]:
    smooth &= (normals[rows, columns] * middle).sum(-1) > edge
    smooth &= example["instance"][rows, columns] == example["instance"][1:-1, 1:-1]
    # Two parallel faces of one object, one behind the other.
    step = np.abs(((spots[rows, columns] - spots[1:-1, 1:-1]) * [1, 1, -1] * middle).sum(-1))
    smooth &= step < 0.35 * np.linalg.norm(spots[rows, columns] - spots[1:-1, 1:-1], axis=-1)
  angles = np.degrees(np.arccos(np.clip((gradient * middle).sum(-1), -1, 1)))
  return np.where(smooth, angles, np.nan)


def test_scenes_do_not_depend_on_order_threads_or_instance():
  source = Scenes("train", seed=3, size=(32, 48))
  forward = [source[i] for i in range(12)]
  backward = [source[i] for i in reversed(range(12))][::-1]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    threaded = list(pool.map(Scenes("train", seed=3, size=(32, 48)).__getitem__, range(12)))
  for first, second, third in zip(forward, backward, threaded, strict=True):
    assert_examples_equal(second, first)
    assert_examples_equal(third, first)


def test_scenes_differ_by_seed_split_and_index():
  variants = [
    Scenes("train", size=(32, 32))[0],
    Scenes("train", seed=1, size=(32, 32))[0],
    Scenes("val", size=(32, 32))[0],
    Scenes("test", size=(32, 32))[0],
    Scenes("train", size=(32, 32))[1],
  ]
  for key in ("image", "depth"):
    assert len({example[key].tobytes() for example in variants}) == len(variants)


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (48, 64), (16, 128)])
def test_scenes_follow_batch_contract(size):
  source = Scenes("val", size=size)
  kinds = {
    "image": np.uint8,
    "label": np.int32,
    "depth": np.float32,
    "normals": np.float32,
    "instance": np.int32,
  }
  assert set(kinds) == {"image"} | source.descriptor.provides
  for index in range(6):
    example = source[index]
    assert {key: value.dtype for key, value in example.items()} == kinds
    for key, value in example.items():
      assert value.shape == size + ((3,) if key in ("image", "normals") else ())
    assert 0 <= example["label"].min() and example["label"].max() < len(CLASSES)
    assert 0.5 < example["depth"].min() and example["depth"].max() < 10


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (96, 96)])
def test_scenes_normals_are_unit_and_face_camera(size):
  source = Scenes("train", size=size)
  for index in range(30):
    example = source[index]
    towards = -points(example, source.intrinsics) * [1, 1, -1]
    np.testing.assert_allclose(np.linalg.norm(example["normals"], axis=-1), 1, atol=1e-6)
    assert ((example["normals"] * towards).sum(-1) > 0).all()


def test_scenes_normals_are_gradient_of_depth():
  """Exactly on flat faces; on balls up to an error that falls with the square of a pixel."""
  errors = []
  for side in (64, 128):
    source = Scenes("train", size=(side, side))
    balls = []
    for index in range(25):
      example = source[index]
      angles = disagreement(example, source.intrinsics)
      label, normals = example["label"][1:-1, 1:-1], example["normals"][1:-1, 1:-1]
      flat = angles[np.isin(label, [CLASSES.index(name) for name in ("wall", "floor", "box")])]
      assert np.nanmax(flat) < 0.05 and np.isfinite(flat).mean() > 0.6
      # Not towards the silhouette, to which a finer image comes closer.
      balls.append(angles[(label == CLASSES.index("sphere")) & (normals[..., 2] > 0.6)])
    errors.append(np.nanmean(np.concatenate(balls)))
  coarse, fine = errors
  assert 0.2 * coarse < fine < 0.3 * coarse and coarse < 1


def test_scenes_depth_and_normals_agree_after_flip():
  source = Scenes("train", size=(48, 64))
  for index in range(5):
    angles = disagreement(flip(source[index]), source.intrinsics)
    assert np.nanmedian(angles) < 0.05 and np.nanquantile(angles, 0.99) < 3


def test_scenes_of_all_sizes_depict_same_geometry():
  """Every third pixel of a three times larger image looks through the same point."""
  small, large = Scenes("val", size=(32, 48)), Scenes("val", size=(96, 144))
  for index in range(6):
    coarse, fine = small[index], large[index]
    for key in ("label", "depth", "normals", "instance"):
      sampled = fine[key][1::3, 1::3]
      assert np.isclose(coarse[key], sampled, atol=1e-4).mean() > 0.999


def test_scenes_of_all_sizes_have_same_paints():
  """So a three times larger image, averaged, is the smaller one but for noise and fine patterns."""
  small, large = Scenes("val", size=(32, 48)), Scenes("val", size=(96, 144))
  alike = []
  for index in range(12):
    blocks = large[index]["image"].reshape(32, 3, 48, 3, 3).mean((1, 3))
    alike.append(np.corrcoef(blocks.ravel(), small[index]["image"].ravel())[0, 1])
  assert min(alike) > 0.8 and np.median(alike) > 0.93


def test_scenes_oblong_images_are_middle_of_square():
  for index in range(4):
    square = Scenes("val", size=(64, 64))[index]
    for size, window in [((48, 64), np.s_[8:56]), ((64, 32), np.s_[:, 16:48])]:
      oblong = Scenes("val", size=size)[index]
      for key in ("label", "depth", "normals"):
        np.testing.assert_array_equal(oblong[key], square[key][window])


def test_scenes_instances_are_numbered_objects_of_one_class(many):
  for example in many:
    label, instance = example["label"], example["instance"]
    assert np.array_equal(np.unique(instance), np.arange(instance.max() + 1))
    assert set(np.unique(label[instance == 0])) <= {0, 1}
    for k in range(1, instance.max() + 1):
      classes = np.unique(label[instance == k])
      assert len(classes) == 1 and classes[0] in OBJECTS


def test_scenes_labels_are_kinds_of_objects():
  """The objects seen are among those of the scene, in their order."""
  source = Scenes("train", size=(64, 64))
  for index in range(20):
    kinds = iter([item.kind for item in source.scene(index).objects])
    label, instance = source[index]["label"], source[index]["instance"]
    for k in range(1, instance.max() + 1):
      assert CLASSES[label[instance == k][0]] in kinds


def test_scenes_show_two_to_five_objects_of_some_size(many):
  counts = np.array([example["instance"].max() for example in many])
  assert set(counts) <= {1, 2, 3, 4, 5} and (counts >= 2).mean() > 0.95
  assert all((counts == k).sum() > 5 for k in range(2, 6))
  areas = np.concatenate([np.bincount(example["instance"].ravel())[1:] for example in many])
  assert np.median(areas) > 0.03 * 48 * 64 and np.quantile(areas, 0.05) > 0.004 * 48 * 64


def test_scenes_have_every_class_often(many):
  labels = np.stack([example["label"] for example in many])
  for k in range(len(CLASSES)):
    assert (labels == k).any((1, 2)).mean() > 0.2
    assert 0.005 < (labels == k).mean() < 0.6


def test_scenes_floor_is_level_and_all_is_inside_room():
  """Back-projected into the world: the floor at z = 0, nothing below it, beyond a wall or above."""
  source = Scenes("train", size=(48, 64))
  for index in range(20):
    example, scene = source[index], source.scene(index)
    flat = points(example, source.intrinsics).reshape(-1, 3).T
    world = scene.camera.pose.apply(flat)
    half = np.array(scene.room.half)[:, None]
    floor = example["label"].ravel() == CLASSES.index("floor")
    np.testing.assert_allclose(world[2, floor], 0, atol=1e-4)
    assert (np.abs(world - [[0], [0], half[2]]) < half + 1e-4).all()
    walls = (example["instance"].ravel() == 0) & ~floor
    beyond = (np.abs(world - [[0], [0], half[2]]) / half).max(0)
    np.testing.assert_allclose(beyond[walls], 1, atol=1e-4)
    objects = example["instance"].ravel() > 0
    assert (world[2, objects] > -1e-4).all() and world[2, objects].min() < 0.3


def test_scenes_floor_is_darker_under_objects():
  source = Scenes("train", size=(64, 64))
  ratios = []
  for index in range(40):
    example, scene = source[index], source.scene(index)
    floor = example["label"] == CLASSES.index("floor")
    floor_points = points(example, source.intrinsics)[floor].T
    spots = scene.camera.pose.apply(floor_points)[:2].T
    distances = [
      np.linalg.norm(spots - item.pose.translation[:2], axis=1) / item.radius
      for item in scene.objects
    ]
    brightness, near = example["image"][floor].mean(1), np.min(distances, 0)
    if (near < 0.6).sum() > 20:
      ratios.append(brightness[near < 0.6].mean() / brightness[near > 1.2].mean())
  assert len(ratios) > 25 and np.median(ratios) < 0.9


def test_draw_scene_keeps_objects_apart():
  """Every part's bounding box lies above its object's disc, and discs do not meet."""
  signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(8, 3).T
  for index in range(200):
    scene = Scenes("train").scene(index)
    middles = np.array([item.pose.translation[:2] for item in scene.objects])
    radii = np.array([item.radius for item in scene.objects])
    for item, middle in zip(scene.objects, middles, strict=True):
      for part in item.parts:
        corners = (item.pose @ part.pose).apply(signs * np.array(part.solid.half)[:, None])
        assert (np.linalg.norm(corners[:2].T - middle, axis=1) < item.radius + 1e-6).all()
    gaps = np.linalg.norm(middles[:, None] - middles, axis=-1) - radii[:, None] - radii
    assert (gaps[~np.eye(len(radii), dtype=bool)] > 0).all()
    assert (np.abs(middles) + radii[:, None] < scene.room.half[:2]).all()
    eye = scene.camera.pose.translation
    assert (np.linalg.norm(middles - eye[:2], axis=1) - radii > 0.99).all()
    assert (np.abs(eye[:2]) < scene.room.half[:2]).all() and 1.2 <= eye[2] <= 1.9


def room_within(mask, instance):
  """The room's share of the pixels inside an object's convex outline."""
  hull = cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))
  filled = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), hull, 1)
  # Outlines pass through the middles of pixels.
  inside = cv2.erode(filled, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
  return (instance[inside] == 0).mean()


def test_scenes_show_room_through_holes_only():
  """Never inside the outline of a convex object, but of thin parts in most."""
  source = Scenes("train", size=(96, 96))
  shares = {kind: [] for kind in KINDS}
  for index in range(80):
    label, instance = (source[index][key] for key in ("label", "instance"))
    for mask in (instance == k for k in range(1, instance.max() + 1)):
      if mask.sum() > 100:
        shares[CLASSES[label[mask][0]]].append(room_within(mask, instance))
  for kind in ("box", "sphere", "cylinder"):
    assert len(shares[kind]) > 10 and max(shares[kind]) == 0
  for kind, least in [("wheel", 0.3), ("chair", 0.2), ("table", 0.2), ("shelf", 0.05)]:
    assert np.median(shares[kind]) > least


def test_scenes_mean_colors_do_not_tell_classes(many):
  """The classes' mean colors differ by little of what colors differ by within a class."""
  colors = {k: [] for k in OBJECTS}
  for example in many:
    for k in set(np.unique(example["label"])) & set(OBJECTS):
      colors[k].append(example["image"][example["label"] == k].mean(0))
  means = np.stack([np.mean(values, 0) for values in colors.values()])
  within = np.mean([np.std(values, 0) for values in colors.values()], 0)
  assert (means.std(0) < 0.35 * within).all()


def test_scenes_length_is_an_option():
  assert [len(Scenes(split)) for split in ("train", "val", "test")] == [1024, 256, 256]
  source = Scenes("train", length=5)
  assert len(list(source)) == len(source) == 5
  for index in (-1, 5):
    with pytest.raises(IndexError, match=f"{index} of a source with 5"):
      source[index]
  assert_examples_equal(source[4], Scenes("train")[4])
  assert source.files(0) == {}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"split": "training"}, "'training'.*train, val, test"),
    ({"size": (8, 64)}, r"\(8, 64\).*at least 16"),
    ({"size": (64,)}, r"\(64,\).*height, width"),
    ({"length": -1}, "length -1"),
  ],
)
def test_scenes_refuse_bad_arguments(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(Scenes("train"), **change)


def test_sources_have_consistent_descriptors():
  described = {name: source.descriptor for name, source in SOURCES.items() if name != "tfds"}
  for name, descriptor in described.items():
    assert descriptor.name == name
    assert len(descriptor.classes) == len(descriptor.palette) == len(set(descriptor.palette))
