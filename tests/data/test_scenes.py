"""Scenes: a pure function of the index, labels by structure that colour does not give away."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest

from asmjax.data import SOURCES
from asmjax.data.scenes import Part, Pose, Scenes, chair, coverage, fence, frame, ladder, wheel

SIZES = [(64, 64), (96, 96), (128, 160)]
UPRIGHT = Pose(centre=(48.0, 48.0), scale=80.0, angle=0.0, mirrored=False)


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def holes(mask):
  """Regions outside the mask that do not reach the border, by flood fill from outside."""
  outside = np.zeros(np.array(mask.shape) + 2, bool)
  outside[0] = True
  free = np.pad(~mask, 1, constant_values=True)
  while True:
    grown = outside.copy()
    grown[1:] |= outside[:-1]
    grown[:-1] |= outside[1:]
    grown[:, 1:] |= outside[:, :-1]
    grown[:, :-1] |= outside[:, 1:]
    grown &= free
    if np.array_equal(grown, outside):
      return (free & ~outside)[1:-1, 1:-1]
    outside = grown


def test_image_does_not_depend_on_order_threads_or_instance():
  source = Scenes("train", seed=3, size=(64, 64))
  forward = [source[i] for i in range(12)]
  backward = [source[i] for i in reversed(range(12))][::-1]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    threaded = list(pool.map(Scenes("train", seed=3, size=(64, 64)).__getitem__, range(12)))
  for one, two, three in zip(forward, backward, threaded, strict=True):
    assert same(one, two) and same(one, three)


def test_seed_split_and_index_each_change_the_image():
  first = Scenes("train", size=(64, 64))[0]
  others = [
    Scenes("train", seed=1, size=(64, 64))[0],
    Scenes("val", size=(64, 64))[0],
    Scenes("train", size=(64, 64))[1],
  ]
  assert not any(np.array_equal(first["image"], other["image"]) for other in others)


@pytest.mark.parametrize("size", SIZES)
def test_contract(size):
  source = Scenes("val", size=size)
  for index in range(8):
    example = source[index]
    assert set(example) == {"image"} | source.descriptor.provides
    assert example["image"].shape == (*size, 3) and example["image"].dtype == np.uint8
    assert example["label"].shape == size and example["label"].dtype == np.int32
    assert example["label"].max() < len(source.descriptor.classes)


@pytest.mark.parametrize("size", SIZES)
def test_every_class_is_frequent_in_images_and_pixels(size):
  source = Scenes("train", size=size)
  labels = np.stack([source[i]["label"] for i in range(150)])
  for k in range(len(source.descriptor.classes)):
    assert (labels == k).any((1, 2)).mean() > 0.25
    assert 0.02 < (labels == k).mean() < 0.85


def test_colour_alone_tells_nothing_but_a_little():
  """The most likely class given a colour, counted over many images, barely beats 'background'."""
  source = Scenes("train", size=(64, 64))
  examples = [source[i] for i in range(300)]
  colour = np.concatenate([(e["image"] // 64).reshape(-1, 3) for e in examples]) @ [16, 4, 1]
  label = np.concatenate([e["label"].ravel() for e in examples])
  counts = np.zeros((64, 6))
  np.add.at(counts, (colour, label), 1)
  assert counts.max(1).sum() / counts.sum() < (label == 0).mean() + 0.02


@pytest.mark.parametrize("draw", [wheel, chair, fence, ladder, frame])
def test_objects_have_holes_at_every_scale(draw):
  for seed in range(5):
    for scale, side in [(40.0, 64), (80.0, 96)]:
      pose = Pose((side / 2, side / 2), scale, 0.0, False)
      mask = coverage(draw(np.random.default_rng(seed)), pose, (side, side)) >= 0.5
      assert holes(mask).sum() > 8


def test_only_the_wheel_has_something_in_its_middle():
  rings = coverage(frame(np.random.default_rng(0)), UPRIGHT, (96, 96))
  wheels = coverage(wheel(np.random.default_rng(0)), UPRIGHT, (96, 96))
  assert rings[46:50, 46:50].max() == 0 and wheels[46:50, 46:50].min() == 1


def test_holes_show_what_is_behind(monkeypatch):
  """A fence painted over a filled square: square in its gaps, fence on its posts."""
  square = Part(np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]), 0)
  bars = fence(np.random.default_rng(0))
  things = (
    (lambda rng: [square], lambda rng, size: UPRIGHT),
    (lambda rng: bars, lambda rng, size: UPRIGHT),
  )
  monkeypatch.setattr("asmjax.data.scenes._OBJECTS", things)
  behind = coverage([square], UPRIGHT, (96, 96)) >= 0.5
  before = coverage(bars, UPRIGHT, (96, 96)) >= 0.5
  over = np.where(before, 2, np.where(behind, 1, 0))
  under = np.where(behind, 1, np.where(before, 2, 0))
  found = [Scenes("train", seed=seed)[0]["label"] for seed in range(20)]
  assert any(np.array_equal(label, over) for label in found)
  assert all(
    any(np.array_equal(label, known) for known in (over, under, before * 2, behind * 1))
    for label in found
  )


def test_coverage_is_area_and_lies_where_it_should():
  """OpenCV fills the outline too: at most one of four steps more than the exact area at an edge."""
  corners = np.array([(10.25, 20.5), (30.75, 20.5), (30.75, 40.0), (10.25, 40.0)])
  cover = coverage([Part(corners, 0)], Pose((0, 0), 1.0, 0.0, False), (48, 48))
  starts = np.arange(48)
  columns = np.clip(30.75 - starts, 0, 1) * np.clip(starts + 1 - 10.25, 0, 1)
  rows = np.clip(40.0 - starts, 0, 1) * np.clip(starts + 1 - 20.5, 0, 1)
  np.testing.assert_allclose(cover, np.outer(rows, columns), atol=0.26)
  centre = np.array([cover.sum(0), cover.sum(1)]) @ (starts + 0.5) / cover.sum()
  np.testing.assert_allclose(centre, [20.5, 30.25], atol=0.13)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_thinnest_strokes_do_not_break(angle):
  """A hair across the image labels at least one pixel in every column or row that it crosses."""
  hair = Part(np.array([(-0.5, 0.0), (0.5, 0.0)]), 1e-6)
  for offset in np.linspace(0, 1, 9):
    cover = coverage([hair], Pose((32 + offset, 32 + offset), 40.0, angle, False), (64, 64))
    hit = (cover >= 0.5).any(1 if angle > np.pi / 4 else 0)
    first, last = np.flatnonzero(hit)[[0, -1]]
    assert hit[first : last + 1].all() and last - first > 20


def test_pose_mirrors_before_it_rotates():
  mark = [Part(np.array([(0.2, -0.05), (0.4, -0.05), (0.4, 0.05), (0.2, 0.05)]), 0)]
  plain = coverage(mark, UPRIGHT, (96, 96))
  mirrored = coverage(mark, UPRIGHT._replace(mirrored=True), (96, 96))
  turned = coverage(mark, UPRIGHT._replace(angle=np.pi / 2), (96, 96))
  np.testing.assert_allclose(mirrored, plain[:, ::-1], atol=0.3)
  np.testing.assert_allclose(turned, np.rot90(plain, -1), atol=0.3)
  assert plain[:, :48].max() == 0 and plain.max() == 1


def test_length_and_its_limits():
  assert [len(Scenes(split)) for split in ("train", "val", "test")] == [1024, 256, 256]
  source = Scenes("train", length=5)
  assert len(list(source)) == len(source) == 5
  with pytest.raises(IndexError, match="5 of a source with 5"):
    source[5]
  assert same(source[4], Scenes("train")[4])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"split": "training"}, "'training'.*train, val, test"),
    ({"size": (8, 64)}, r"\(8, 64\).*at least 16"),
    ({"length": -1}, "length -1"),
  ],
)
def test_bad_arguments_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(Scenes("train"), **change)


def test_descriptors_are_consistent():
  for name, source in SOURCES.items():
    descriptor = source.descriptor
    assert descriptor.name == name
    assert len(descriptor.classes) == len(descriptor.palette) == len(set(descriptor.palette))
