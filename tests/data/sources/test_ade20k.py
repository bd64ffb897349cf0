"""ADE20K: ids that count from 1, and a tiny copy of the challenge's layout."""

import numpy as np
import pytest

from asmjax.data.files import check_files
from asmjax.data.sources.ade20k import Ade20k
from tests.helpers.tiny_files import assert_whole, save, save_photo

IDS = np.array([[0, 1, 2], [149, 150, 13]], np.uint8).repeat(4, 0).repeat(5, 1)
LABELS = np.array([[255, 0, 1], [148, 149, 12]]).repeat(4, 0).repeat(5, 1)


@pytest.fixture
def root(tmp_path):
  for number, (folder, kind) in enumerate(
    [("training", "train"), ("training", "train"), ("validation", "val")], 1
  ):
    name = f"ADE_{kind}_{number:08d}"
    save_photo(tmp_path / "images" / folder / f"{name}.jpg", IDS.shape, seed=number)
    save(tmp_path / "annotations" / folder / f"{name}.png", IDS)
  return tmp_path


def test_ade20k_descriptor_has_official_classes():
  classes = Ade20k.descriptor.classes
  assert len(classes) == 150
  ids = {1: "wall", 13: "person", 45: "chest of drawers", 66: "toilet", 100: "buffet", 150: "flag"}
  assert {number: classes[number - 1] for number in ids} == ids


@pytest.mark.parametrize(("split", "length"), [("train", 2), ("val", 1)])
def test_ade20k_shifts_ids_and_reads_0_as_unlabeled(root, split, length):
  source = Ade20k(str(root), split)
  assert len(source) == length
  assert_whole(source)
  for example in source:
    np.testing.assert_array_equal(example["label"], LABELS)


def test_ade20k_finds_folder_below_root(root, tmp_path_factory):
  above = tmp_path_factory.mktemp("above")
  (above / "ADEChallengeData2016").symlink_to(root, target_is_directory=True)
  assert len(Ade20k(str(above), "train")) == 2


def test_ade20k_names_missing_mask(root):
  (root / "annotations" / "training" / "ADE_train_00000002.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*training/ADE_train_00000002\.png"):
    check_files(Ade20k(str(root), "train"))


def test_ade20k_skips_hidden_files(root):
  """Archives that were made on a Mac have a ._NAME.jpg beside each NAME.jpg."""
  (root / "images" / "training" / "._ADE_train_00000001.jpg").write_bytes(b"Mac OS X")
  assert len(Ade20k(str(root), "train")) == 2


def test_ade20k_refuses_masks_of_full_release(root):
  """Those encode 3688 classes in colors."""
  colors = np.stack([IDS, IDS // 2, IDS], -1)
  save(root / "annotations" / "validation" / "ADE_val_00000003.png", colors)
  with pytest.raises(ValueError, match=r"ADE_val_00000003\.png has colors .*expected one id"):
    Ade20k(str(root), "val")[0]


def test_ade20k_refuses_ids_beyond_150(root):
  save(root / "annotations" / "validation" / "ADE_val_00000003.png", IDS + 3)
  with pytest.raises(ValueError, match=r"holds the ids 152, 153; expected 1\.\.150 or, unl.* 0"):
    Ade20k(str(root), "val")[0]
