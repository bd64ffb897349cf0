"""Weizmann horses: a tiny data set with the quirks of the real one, then the real one."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.weizmann_horse import WeizmannHorse
from tests.helpers.published_weights import real


def disk(height, width):
  """A disk in the middle, as wide as half the smaller side; sizes with one aspect show the same."""
  rows = (np.arange(height)[:, None] + 0.5) - height / 2
  columns = (np.arange(width)[None] + 0.5) - width / 2
  return np.hypot(rows, columns) < min(height, width) / 4


def write(root, name, *, photo=(60, 90), mask=(40, 60), mode="RGB"):
  noise = np.random.default_rng(0).integers(0, 60, photo)
  gray = np.where(disk(*photo), 180, 30) + noise
  picture = Image.fromarray(gray.astype(np.uint8)).convert(mode)
  picture.save(root / "rgb" / f"{name}.jpg", quality=90)
  figure = Image.fromarray((disk(*mask) * 255).astype(np.uint8))
  figure.save(root / "figure_ground" / f"{name}.jpg", quality=60)


@pytest.fixture
def root(tmp_path):
  for folder in ("rgb", "figure_ground"):
    (tmp_path / folder).mkdir()
  write(tmp_path, "one")
  write(tmp_path, "large_mask", photo=(40, 60), mask=(80, 120))
  write(tmp_path, "gray", mode="L")
  write(tmp_path, "four_inks", mode="CMYK")
  (tmp_path / "train.txt").write_text("one\nlarge_mask\n\n")
  (tmp_path / "val.txt").write_text("gray\nfour_inks\n")
  return tmp_path


@pytest.mark.parametrize("split", ["train", "val"])
def test_weizmann_horse_read_aligns_mask_and_photo(root, split):
  source = WeizmannHorse(str(root), split)
  assert len(source) == 2
  for example in source:
    height, width = example["label"].shape
    assert example["image"].shape == (height, width, 3) and example["image"].dtype == np.uint8
    assert example["label"].dtype == np.int32 and set(np.unique(example["label"])) == {0, 1}
    truth = disk(height, width)
    overlap = (example["label"] == 1) & truth
    assert overlap.sum() / ((example["label"] == 1) | truth).sum() > 0.95
    assert example["image"][truth].mean() > example["image"][~truth].mean() + 100


def test_weizmann_horse_read_smooths_enlarged_contours(root):
  """Thresholding the small mask first and repeating its pixels misses more of the true disk."""
  write(root, "coarse", photo=(240, 360), mask=(24, 36))
  (root / "train.txt").write_text("coarse")
  label = WeizmannHorse(str(root), "train")[0]["label"]
  stairs = np.kron(disk(24, 36), np.ones((10, 10), bool))
  truth = disk(240, 360)
  assert (label != truth).sum() < 0.7 * (stairs != truth).sum()


def test_weizmann_horse_finds_folder_below_root(root, tmp_path_factory):
  above = tmp_path_factory.mktemp("above")
  (above / "weizmann_horse_db").symlink_to(root, target_is_directory=True)
  below, direct = WeizmannHorse(str(above), "train")[1], WeizmannHorse(str(root), "train")[1]
  assert all(np.array_equal(below[key], direct[key]) for key in direct)


def test_weizmann_horse_names_layout_without_list(root):
  (root / "val.txt").unlink()
  with pytest.raises(FileNotFoundError, match=r"val\.txt does not exist.*ROOT/rgb/NAME\.jpg"):
    WeizmannHorse(str(root), "val")


@pytest.mark.parametrize("folder", ["rgb", "figure_ground"])
def test_weizmann_horse_files_include_photo_and_mask(root, folder):
  source = WeizmannHorse(str(root), "train")
  check_files(source)
  (root / folder / "large_mask.jpg").unlink()
  with pytest.raises(FileNotFoundError, match=rf"lacks 1 files: .*{folder}/large_mask\.jpg"):
    check_files(source)


def test_weizmann_horse_reads_published_horses():
  data = real("weizmann_horse_db", "ASMJAX_DATA")
  train, val = (WeizmannHorse(str(data.parent), split) for split in ("train", "val"))
  assert len(train) + len(val) == 328 and not set(train.names) & set(val.names)
  shares = [(val[index]["label"] == 1).mean() for index in range(0, len(val), 6)]
  assert min(shares) > 0.02 and max(shares) < 0.9 and 0.15 < np.mean(shares) < 0.45
