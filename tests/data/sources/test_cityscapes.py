"""Cityscapes: the official table, and a tiny copy of the layout with what goes wrong in it."""

import collections

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.cityscapes import LABELS, Cityscapes

IDS = np.arange(34, dtype=np.uint8).reshape(2, 17).repeat(4, 0)
# A car and a group of cars that nobody took apart.
INSTANCES = np.where(IDS == 26, np.uint16(26003), IDS)


def write(root, name, *, split="train", ids=IDS, instances=INSTANCES):
  city = name.split("_")[0]
  for kind, suffix, array in (
    ("leftImg8bit", "leftImg8bit", np.full((*IDS.shape, 3), 99, np.uint8)),
    ("gtFine", "gtFine_labelIds", ids),
    ("gtFine", "gtFine_instanceIds", instances),
    ("gtFine", "gtFine_color", np.zeros((*IDS.shape, 4), np.uint8)),
  ):
    folder = root / kind / split / city
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / f"{name}_{suffix}.png")


@pytest.fixture
def root(tmp_path):
  for name in ("ulm_000001_000019", "aachen_000002_000019", "aachen_000000_000019"):
    write(tmp_path, name)
  write(tmp_path, "munster_000000_000019", split="val")
  write(tmp_path, "berlin_000000_000019", split="test")
  return tmp_path


def test_labels_are_the_official_table():
  ids = [row.id for row in LABELS]
  assert sorted(ids) == list(range(-1, 34))
  trained = [row for row in LABELS if row.label != 255]
  assert [row.label for row in sorted(trained, key=lambda row: row.id)] == list(range(19))
  assert [row.id for row in trained] == [
    *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
  ]
  # The table gives a color to two labels at most, but for the five that are black.
  shared = collections.Counter(row.color for row in LABELS)
  assert {color: times for color, times in shared.items() if times > 1} == {
    (0, 0, 0): 5,
    (153, 153, 153): 2,
    (0, 0, 142): 2,
  }


def test_cityscapes_descriptor_has_official_classes_and_colors():
  descriptor = Cityscapes.descriptor
  colors = dict(zip(descriptor.classes, descriptor.palette, strict=True))
  assert list(colors) == [
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
  ]
  assert colors["road"] == (128, 64, 128) and colors["sky"] == (70, 130, 180)
  assert colors["person"] == (220, 20, 60) and colors["bicycle"] == (119, 11, 32)
  assert descriptor.ignored == {-1, 0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}


def test_cityscapes_read_maps_ids_to_training_ids(root):
  example = Cityscapes(str(root), "train")[0]
  by_id = {row.id: row.label for row in LABELS}
  assert example["label"].dtype == np.int32
  assert example["label"].tolist() == [[by_id[value] for value in row] for row in IDS.tolist()]


def test_cityscapes_read_gives_groups_no_instance(root):
  instance = Cityscapes(str(root), "train")[0]["instance"]
  assert instance.dtype == np.int32
  assert np.array_equal(instance, np.where(IDS == 26, 26003, 0))


def test_cityscapes_names_are_sorted_by_city(root):
  source = Cityscapes(str(root), "train")
  assert source.names == (
    "aachen/aachen_000000_000019",
    "aachen/aachen_000002_000019",
    "ulm/ulm_000001_000019",
  )
  check_files(source)
  for index, name in enumerate(source.names):
    assert all(name in path.as_posix() for path in source.files(index).values())


@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
def test_cityscapes_files_include_masks(root, kind):
  name = f"aachen_000002_000019_gtFine_{kind}.png"
  (root / "gtFine" / "train" / "aachen" / name).unlink()
  source = Cityscapes(str(root), "train")
  assert len(source) == 3
  with pytest.raises(FileNotFoundError, match=f"lacks 1 files: .*{name}"):
    check_files(source)


def test_cityscapes_has_no_test_split(root):
  """Its masks are published, but void: training or evaluating on them must not start."""
  with pytest.raises(ValueError, match="'test'; known: train, val"):
    Cityscapes(str(root), "test")


def test_cityscapes_refuses_split_without_photos(root):
  (root / "leftImg8bit" / "val").rename(root / "gone")
  with pytest.raises(ValueError, match="split 'val' of cityscapes .*empty; expected ROOT/leftImg8"):
    Cityscapes(str(root), "val")


def test_cityscapes_read_refuses_training_ids(root):
  """What `createTrainIdLabelImgs` writes has 255 where nothing is trained."""
  write(root, "munster_000000_000019", split="val", ids=np.full(IDS.shape, 255, np.uint8))
  message = r"munster_000000_000019_gtFine_labelIds\.png holds the ids 255; expected 7\.\.8, 11"
  with pytest.raises(ValueError, match=message):
    Cityscapes(str(root), "val")[0]


def test_cityscapes_read_names_both_files_of_different_sizes(root):
  write(root, "munster_000000_000019", split="val", ids=IDS[:4])
  with pytest.raises(ValueError, match=r"labelIds\.png is 4x17.*8x17 as .*_leftImg8bit\.png"):
    Cityscapes(str(root), "val")[0]
