"""GTA5: its numbering, and masks with a palette or colors."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.cityscapes import LABELS, Cityscapes
from asmjax.data.sources.gta5 import Gta5

# All ids of a published mask; 34 are license plates.
IDS = np.arange(35, dtype=np.uint8).reshape(5, 7).repeat(4, 0)
BY_ID = {row.id: row for row in LABELS}
EXPECTED = np.array([BY_ID[value].label if value < 34 else 255 for value in range(35)])[IDS]
# The published palette: Cityscapes' but for "static", which is dark gray.
COLORS = np.array([BY_ID[value if value < 34 else -1].color for value in range(35)], np.uint8)
COLORS[4] = 20


def save_palette(path, ids):
  image = Image.fromarray(ids)
  image.putpalette(COLORS.ravel().tolist())
  image.save(path)


@pytest.fixture
def root(tmp_path):
  for folder in ("images", "labels"):
    (tmp_path / folder).mkdir()
  for number in (1, 2, 24966):
    name = f"{number:05d}.png"
    Image.fromarray(np.full((*IDS.shape, 3), 99, np.uint8)).save(tmp_path / "images" / name)
    save_palette(tmp_path / "labels" / name, IDS)
  return tmp_path


def test_gta5_parts_divide_all_images(root):
  names = Gta5(str(root), "all").names
  assert len(names) == 24966 and names[0] == "00001" and names[-1] == "24966"
  parts = [Gta5(str(root), f"part{number}").names for number in range(1, 11)]
  assert sum(parts, ()) == names
  assert [len(part) for part in parts] == [2500] * 9 + [2466]


def test_gta5_descriptor_has_classes_of_cityscapes():
  assert Gta5.descriptor.classes == Cityscapes.descriptor.classes
  assert Gta5.descriptor.palette == Cityscapes.descriptor.palette
  assert Gta5.descriptor.ignored == Cityscapes.descriptor.ignored - {-1} | {34}


def test_gta5_read_takes_palette_indices_for_ids(root):
  label = Gta5(str(root), "part1")[0]["label"]
  assert label.dtype == np.int32 and np.array_equal(label, EXPECTED)


def test_gta5_reads_last_image(root):
  part = Gta5(str(root), "part10")
  assert np.array_equal(part[len(part) - 1]["label"], EXPECTED)


def test_gta5_read_agrees_for_colors_except_shared_ones(root):
  Image.fromarray(COLORS[IDS]).save(root / "labels" / "00002.png")
  label = Gta5(str(root), "part1")[1]["label"]
  shared = (IDS == 18) | (IDS == 34)
  assert np.array_equal(label[~shared], EXPECTED[~shared])
  classes = Gta5.descriptor.classes
  assert (label[IDS == 18] == classes.index("pole")).all()
  assert (label[IDS == 34] == classes.index("car")).all()


def test_gta5_read_takes_gray_colors_for_colors(root):
  """(70, 70, 70) is a building, not the id 70."""
  Image.fromarray(np.full((*IDS.shape, 3), 70, np.uint8)).save(root / "labels" / "00002.png")
  label = Gta5(str(root), "part1")[1]["label"]
  assert (label == Gta5.descriptor.classes.index("building")).all()


def test_gta5_read_names_unknown_color_and_id(root):
  Image.fromarray(np.full((*IDS.shape, 3), 1, np.uint8)).save(root / "labels" / "00002.png")
  with pytest.raises(ValueError, match=r"labels/00002\.png holds the colors \(1, 1, 1\)"):
    Gta5(str(root), "part1")[1]
  save_palette(root / "labels" / "00002.png", IDS * 0 + 35)
  with pytest.raises(ValueError, match=r"labels/00002\.png holds the ids 35"):
    Gta5(str(root), "part1")[1]


def test_gta5_read_names_both_files_of_different_sizes(root):
  save_palette(root / "labels" / "00001.png", IDS[:-1])
  with pytest.raises(ValueError, match=r"labels/00001\.png is 19x7.*20x7 as .*images/00001\.png"):
    Gta5(str(root), "part1")[0]


def test_gta5_files_of_incomplete_part_are_missing(root):
  with pytest.raises(FileNotFoundError, match=r"'part1' of gta5 lacks 4996 files: .*00003\.png"):
    check_files(Gta5(str(root), "part1"))


def test_gta5_names_parts_for_unknown_split(root):
  with pytest.raises(ValueError, match="'test'; known: part1, .*part10, all"):
    Gta5(str(root), "test")
