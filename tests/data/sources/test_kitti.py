"""KITTI: depths in 1/256 m beside the raw drives, and masks with Cityscapes' ids."""

import numpy as np
import pytest

from asmjax.data.files import check_files
from asmjax.data.sources.kitti import KittiDepth, KittiSemantics
from tests.helpers.tiny_files import assert_whole, save, save_photo

SIZE = (4, 6)
RAW = np.array([[0, 1, 256, 384, 20480, 65535]] * 4, np.uint16)
DRIVE = "2011_09_26_drive_0001_sync"
MASK = f"val/{DRIVE}/proj_depth/groundtruth/image_03/0000000005.png"


@pytest.fixture
def root(tmp_path):
  save(tmp_path / MASK, RAW)
  save_photo(tmp_path / "2011_09_26" / DRIVE / "image_03" / "data" / "0000000005.png", SIZE)
  folder = tmp_path / "depth_selection" / "val_selection_cropped"
  save(folder / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_0000000008_image_02.png", RAW)
  save_photo(folder / "image" / f"{DRIVE}_image_0000000008_image_02.png", SIZE, seed=1)
  return tmp_path


@pytest.mark.parametrize("split", ["val", "val_selection"])
def test_kitti_depth_reads_meters(root, split):
  source = KittiDepth(str(root), split)
  assert_whole(source)
  depth = source[0]["depth"]
  assert depth.dtype == np.float32
  np.testing.assert_array_equal(depth[0], [0, 1 / 256, 1, 1.5, 80, 65535 / 256])


def test_kitti_depth_finds_raw_drives_elsewhere(root):
  (root / "raw").mkdir()
  (root / "2011_09_26").rename(root / "raw" / "2011_09_26")
  with pytest.raises(
    FileNotFoundError, match=rf"lacks 1 files: .*2011_09_26/{DRIVE}/image_03/data"
  ):
    check_files(KittiDepth(str(root), "val"))
  assert_whole(KittiDepth(str(root), "val", raw="raw"))


def test_kitti_depth_refuses_previews_of_8_bits(root):
  save(root / MASK, (RAW // 256).astype(np.uint8))
  with pytest.raises(ValueError, match=r"0000000005\.png .*expected one channel of 16 bits"):
    KittiDepth(str(root), "val")[0]


def test_kitti_depth_names_layout(root):
  with pytest.raises(FileNotFoundError, match="train does not exist; expected ROOT/SPLIT/DRIVE"):
    KittiDepth(str(root), "train")


IDS = np.array([[7, 8, 11], [26, 26, 0]], np.uint8).repeat(2, 0).repeat(2, 1)
NUMBERS = np.array([[0, 0, 0], [1, 2, 0]]).repeat(2, 0).repeat(2, 1)


@pytest.fixture
def semantics(tmp_path):
  for index in range(5):
    name = f"{index:06d}_10.png"
    save_photo(tmp_path / "training" / "image_2" / name, IDS.shape, seed=index)
    save(tmp_path / "training" / "semantic" / name, IDS)
    save(tmp_path / "training" / "instance" / name, (IDS * 256.0 + NUMBERS).astype(np.uint16))
  return tmp_path


def test_kitti_semantics_reads_training_ids_and_instances(semantics):
  source = KittiSemantics(str(semantics), "all")
  assert_whole(source)
  table = {7: 0, 8: 1, 11: 2, 26: 13, 0: 255}
  np.testing.assert_array_equal(source[0]["label"], np.vectorize(table.get)(IDS))
  expected = np.where(NUMBERS, 26 * 256 + NUMBERS, 0)
  np.testing.assert_array_equal(source[0]["instance"], expected)


def test_kitti_semantics_folds_share_no_photo(semantics):
  parts = [KittiSemantics(str(semantics), "val", fold=fold).names for fold in range(5)]
  assert sorted(sum(parts, ())) == list(KittiSemantics(str(semantics), "all").names)
  train = KittiSemantics(str(semantics), "train", fold=3).names
  assert sorted(train + parts[3]) == sorted(sum(parts, ()))
  with pytest.raises(ValueError, match="fold=5, folds=5; expected"):
    KittiSemantics(str(semantics), "val", fold=5)
