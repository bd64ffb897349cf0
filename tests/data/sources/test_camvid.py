"""CamVid: the published colors in SegNet's classes, and SegNet's own copy."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.camvid import CamVid
from tests.helpers.tiny_files import assert_whole, save, save_photo

# Lines of the published label_colors.txt, by the class that SegNet joins them to.
PUBLISHED = """
64 128 64 Animal pedestrian
192 0 128 Archway building
0 128 192 Bicyclist bicyclist
0 128 64 Bridge building
128 0 0 Building building
64 0 128 Car car
64 0 192 CartLuggagePram pedestrian
192 128 64 Child pedestrian
192 192 128 Column_Pole pole
64 64 128 Fence fence
128 0 192 LaneMkgsDriv road
192 0 64 LaneMkgsNonDriv road
128 128 64 Misc_Text sign_symbol
192 0 192 MotorcycleScooter bicyclist
128 64 64 OtherMoving car
64 192 128 ParkingBlock pavement
64 64 0 Pedestrian pedestrian
128 64 128 Road road
128 128 192 RoadShoulder pavement
0 0 192 Sidewalk pavement
192 128 128 SignSymbol sign_symbol
128 128 128 Sky sky
64 128 192 SUVPickupTruck car
0 0 64 TrafficCone pole
0 64 64 TrafficLight sign_symbol
192 64 128 Train car
128 128 0 Tree tree
192 128 192 Truck_Bus car
64 0 64 Tunnel building
192 192 0 VegetationMisc tree
0 0 0 Void -
64 192 0 Wall building
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
COLORS = np.array([[int(cell) for cell in row[:3]] for row in ROWS], np.uint8).reshape(4, 8, 3)


@pytest.fixture
def published(tmp_path):
  names = ("0001TP_006690", "Seq05VD_f00000")
  for seed, name in enumerate(names):
    save_photo(tmp_path / "701_StillsRaw_full" / f"{name}.png", (4, 8), seed=seed)
    save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", COLORS)
  (tmp_path / "train.txt").write_text(f"{names[1]}\n{names[0]}.png\n")
  (tmp_path / "val.txt").write_text(f"/SegNet/CamVid/val/{names[0]}.png /SegNet/x/{names[0]}.png\n")
  return tmp_path


@pytest.fixture
def copy(tmp_path):
  save_photo(tmp_path / "CamVid" / "test" / "a.png", (3, 4))
  save(tmp_path / "CamVid" / "testannot" / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
  return tmp_path


def test_camvid_joins_published_colors(published):
  source = CamVid(str(published), "train")
  assert_whole(source)
  classes = source.descriptor.classes
  expected = [255 if row[4] == "-" else classes.index(row[4].replace("_", " ")) for row in ROWS]
  assert source[0]["label"].ravel().tolist() == expected
  assert len(classes) == 11 == len(set(expected)) - 1


def test_camvid_names_keep_order_of_list(published):
  assert CamVid(str(published), "train").names == ("Seq05VD_f00000", "0001TP_006690")
  assert CamVid(str(published), "val").names == ("0001TP_006690",)


def test_camvid_reads_ids_of_segnets_copy(copy):
  source = CamVid(str(copy), "test")
  assert_whole(source)
  assert source[0]["label"].ravel().tolist() == [*range(11), 255]


def test_camvid_reads_colors_that_are_stored_as_a_palette(published):
  """Positions in a palette are no ids."""
  expected = CamVid(str(published), "val")[0]["label"]
  picture = Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8))
  picture.putpalette(COLORS.ravel().tolist())
  picture.save(published / "LabeledApproved_full" / "0001TP_006690_L.png")
  np.testing.assert_array_equal(CamVid(str(published), "val")[0]["label"], expected)


def test_camvid_refuses_colors_in_another_order(published):
  """Written with OpenCV from an RGB array, a mask has blue first."""
  save(published / "LabeledApproved_full" / "0001TP_006690_L.png", COLORS[..., ::-1])
  with pytest.raises(ValueError, match=r"0001TP_006690_L\.png holds the colors \("):
    CamVid(str(published), "val")[0]


def test_camvid_names_missing_mask(published):
  (published / "LabeledApproved_full" / "0001TP_006690_L.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*0001TP_006690_L\.png"):
    check_files(CamVid(str(published), "val"))


def test_camvid_names_missing_list(published):
  with pytest.raises(
    FileNotFoundError, match=r"test\.txt does not exist; expected ROOT/701_Stills"
  ):
    CamVid(str(published), "test")


def test_camvid_names_layouts(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"trainannot does not exist; .*or SegNet's ROOT"):
    CamVid(str(tmp_path), "train")
