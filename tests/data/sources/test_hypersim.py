"""Hypersim: distances that become depths, normals whose y is turned, and the owners' splits."""

import math

import numpy as np
import pytest

from asmjax.data.files import check_files
from asmjax.data.sources.hypersim import Hypersim
from tests.data.test_transforms import normals_of, plane
from tests.helpers import tiny_hdf5
from tests.helpers.tiny_files import assert_whole, save_photo

SIZE = (24, 32)
FOCAL = 16 / math.tan(math.radians(30))
HEADER = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,"
HEADER += "split_partition_name"


@pytest.fixture
def root(tmp_path):
  return write(tmp_path)


def distances_and_normals():
  """A slanted plane as Hypersim stores it: distances from the center, normals with y up."""
  depth, normals = plane(*SIZE, focal=FOCAL, slope=(0.4, -0.3))
  u = (np.arange(SIZE[1]) + 0.5 - SIZE[1] / 2)[None] * depth / FOCAL
  v = (np.arange(SIZE[0]) + 0.5 - SIZE[0] / 2)[:, None] * depth / FOCAL
  return np.sqrt(u**2 + v**2 + depth**2), normals * (1, -1, 1)


def write(root, **changes):
  rows = [
    "ai_001_001,cam_00,7,True,,train",
    "ai_001_001,cam_00,8,False,logo,",
    "ai_001_001,cam_01,9,True,,val",
    "ai_099_001,cam_00,0,True,,train",
  ]
  (root / "metadata_images_split_scene_v1.csv").write_text("\n".join([HEADER, *rows]) + "\n")
  images = root / "ai_001_001" / "images"
  save_photo(images / "scene_cam_00_final_preview" / "frame.0007.tonemap.jpg", SIZE)
  distance, normals = distances_and_normals()
  distance, normals = distance.copy(), normals.astype(np.float16)
  distance[0, 0], normals[0, 0] = np.nan, np.nan
  normals[5, 5] *= -1  # A surface that is seen from behind.
  ids = np.arange(-1, 41, dtype=np.int16)[np.arange(SIZE[0] * SIZE[1]) % 42].reshape(SIZE)
  maps = {"semantic": ids, "semantic_instance": ids, "depth_meters": distance}
  maps |= {"normal_cam": normals} | changes
  for name, array in maps.items():
    path = images / "scene_cam_00_geometry_hdf5" / f"frame.0007.{name}.hdf5"
    tiny_hdf5.save(path, {"dataset": array})
  return root


def test_hypersim_reads_depth_along_the_axis_and_normals_that_agree(root):
  source = Hypersim(str(root), "train")
  assert_whole(source)
  example = source[0]
  depth, normals = plane(*SIZE, focal=FOCAL, slope=(0.4, -0.3))
  assert example["depth"][0, 0] == 0 and not example["normals"][0, 0].any()
  np.testing.assert_allclose(example["depth"].ravel()[1:], depth.ravel()[1:], rtol=1e-5)
  np.testing.assert_allclose(example["normals"][1:], normals[1:], atol=2e-3)
  computed = normals_of(example["depth"].astype(float), FOCAL)
  np.testing.assert_allclose(example["normals"][1:-1, 1:-1], computed[1:, 1:], atol=5e-3)


def test_hypersim_shifts_ids(root):
  example = Hypersim(str(root), "train")[0]
  assert example["label"].ravel()[:42].tolist() == [255, 255, *range(40)]
  assert example["instance"].ravel()[:42].tolist() == [0, *range(1, 42)]


def test_hypersim_focal_length_is_the_published_one():
  """886.81 pixels at the published width of 1024."""
  assert math.isclose(512 / math.tan(math.radians(30)), 886.81, abs_tol=0.005)


def test_hypersim_reads_released_images_of_scenes_that_are_there(root):
  assert Hypersim(str(root), "train").names == ("ai_001_001/cam_00/0007",)
  with pytest.raises(FileNotFoundError, match=r"lacks 5 files: .*cam_01.*frame\.0009"):
    check_files(Hypersim(str(root), "val"))
  with pytest.raises(ValueError, match="split 'test' of hypersim .*is empty"):
    Hypersim(str(root), "test")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"semantic": np.full(SIZE, 41)}, r"frame\.0007\.semantic\.hdf5 holds the ids 41; expected 1"),
    ({"normal_cam": np.zeros(SIZE)}, r"normal_cam\.hdf5 is float64\(24, 32\); expected a map"),
    ({"depth_meters": np.zeros((3, 4))}, r"depth_meters\.hdf5 is \(3, 4\); expected \(24, 32\)"),
  ],
)
def test_hypersim_refuses_malformed_maps(root, changes, message):
  write(root, **changes)
  with pytest.raises(ValueError, match=message):
    Hypersim(str(root), "train")[0]


def test_hypersim_refuses_another_list(root):
  path = root / "metadata_images_split_scene_v1.csv"
  path.write_text("scene,camera\n")
  with pytest.raises(ValueError, match=r"split_scene_v1\.csv has no column scene_name"):
    Hypersim(str(root), "train")
  path.write_text(f"{HEADER}\nai_001_001,cam_00,x,True,,train\n")
  with pytest.raises(ValueError, match=r"split_scene_v1\.csv has the frame_id 'x'"):
    Hypersim(str(root), "train")
