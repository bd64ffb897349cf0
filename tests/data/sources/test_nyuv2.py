"""NYU Depth V2: MATLAB's order of axes, numbers from 1, and 894 names in 40 or 13 classes."""

import sys

import numpy as np
import pytest
import scipy.io

from asmjax.data.sources.nyuv2 import CLASSES_40, Nyuv2
from asmjax.utils.extras import MissingExtraError
from tests.helpers import tiny_hdf5
from tests.helpers.tiny_files import assert_whole

SIZE = (6, 8)
# Object 1 is a book, 2 a wall, 3 a person, 4 a bathtub.
OBJECTS = [CLASSES_40.index(name) + 1 for name in ("books", "wall", "person", "bathtub")]


@pytest.fixture
def root(tmp_path):
  return write(tmp_path)


def truth(photo):
  rng = np.random.default_rng(photo)
  return {
    "images": rng.integers(0, 256, (*SIZE, 3), np.uint8),
    "labels": rng.integers(0, 5, SIZE, np.uint16),
    "instances": rng.integers(0, 3, SIZE, np.uint8),
    "depths": rng.uniform(1, 9, SIZE).astype(np.float32),
  }


def write(root, photos=4):
  """MATLAB's (h, w, ..., photos) in the order of HDF5: (photos, ..., w, h)."""
  arrays = [truth(photo) for photo in range(photos)]
  stacked = {key: np.stack([each[key] for each in arrays], -1).T for key in arrays[0]}
  tiny_hdf5.save(root / "nyu_depth_v2_labeled.mat", stacked)
  scipy.io.savemat(root / "classMapping40.mat", {"mapClass": [OBJECTS]})
  numbers = {"trainNdxs": [[1], [4]], "testNdxs": [[2], [3]]}
  scipy.io.savemat(root / "splits.mat", numbers)
  return root


def test_nyuv2_reads_photo_and_truth_upright(root):
  source = Nyuv2(str(root), "train")
  assert_whole(source)
  assert source.names == ("0001", "0004")
  example, expected = source[1], truth(3)
  np.testing.assert_array_equal(example["image"], expected["images"])
  np.testing.assert_array_equal(example["depth"], expected["depths"])
  table = np.array([255, *(id - 1 for id in OBJECTS)])
  np.testing.assert_array_equal(example["label"], table[expected["labels"]])


def test_nyuv2_instances_differ_between_objects_of_all_names(root):
  instance, expected = Nyuv2(str(root), "test")[0]["instance"], truth(1)
  arrays = (instance, expected["labels"], expected["instances"])
  pairs = {*zip(*(array.ravel().tolist() for array in arrays), strict=True)}
  assert {number for number, _, each in pairs if not each} == {0}
  things = [(number, *pair) for number, *pair in pairs if pair[1]]
  assert len({number for number, *_ in things}) == len(things) and min(things)[0] > 0


def test_nyuv2_joins_40_classes_to_13(root):
  source = Nyuv2(str(root), "train", classes=13)
  names = [source.descriptor.classes[label] for label in source.table[1:]]
  assert names == ["books", "wall", "objects", "objects"] and source.table[0] == 255
  assert len(source.descriptor.classes) == 13
  with pytest.raises(ValueError, match="classes=12; expected 40 or 13"):
    Nyuv2(str(root), "train", classes=12)


def test_nyuv2_joins_every_class_where_it_belongs(root):
  """All 40, by what their names say."""
  scipy.io.savemat(root / "classMapping40.mat", {"mapClass": [range(1, 41)]})
  source = Nyuv2(str(root), "train", classes=13)
  groups = [source.descriptor.classes[label] for label in source.table[1:]]
  joined = dict(zip(CLASSES_40, groups, strict=True))
  for name in ("bed", "books", "ceiling", "chair", "floor", "picture", "sofa", "table", "wall"):
    assert joined[name] == name
  furniture = {name for name, group in joined.items() if group == "furniture"}
  assert furniture == {
    *("cabinet", "bookshelf", "counter", "shelves", "dresser", "refrigerator", "night stand"),
    "other furniture",
  }
  assert joined["door"] == "wall" and joined["desk"] == "table" and joined["floor mat"] == "floor"
  assert {name for name, group in joined.items() if group == "window"} == {
    *("window", "blinds", "curtain")
  }


@pytest.mark.parametrize("name", ["splits.mat", "classMapping40.mat", "nyu_depth_v2_labeled.mat"])
def test_nyuv2_names_missing_file(root, name):
  (root / name).unlink()
  with pytest.raises(FileNotFoundError, match=rf"{name} does not exist; expected ROOT/nyu"):
    Nyuv2(str(root), "train")


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("splits.mat", {"other": 1}, r"splits\.mat has no list trainNdxs"),
    ("splits.mat", {"trainNdxs": [0, 1]}, "trainNdxs holds .* in 1..1449"),
    ("classMapping40.mat", {"mapClass": [41]}, "mapClass holds .* in 1..40"),
    ("classMapping40.mat", {"mapClass": [3]}, r"photo 1 holds the label 4; expected 0\.\.1"),
  ],
)
def test_nyuv2_refuses_malformed_lists(root, name, content, message):
  scipy.io.savemat(root / name, content)
  with pytest.raises(ValueError, match=message):
    Nyuv2(str(root), "train")[0]


def test_nyuv2_refuses_what_is_no_hdf5_file(root):
  (root / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 5.0 MAT-file")
  with pytest.raises(ValueError, match=r"labeled\.mat cannot be read \(.*; expected a whole HDF5"):
    Nyuv2(str(root), "train")[0]


def test_nyuv2_names_photo_beyond_the_file(root):
  scipy.io.savemat(root / "splits.mat", {"trainNdxs": [5]})
  with pytest.raises(ValueError, match=r"labeled\.mat cannot be read"):
    Nyuv2(str(root), "train")[0]


def test_nyuv2_names_missing_arrays(root):
  tiny_hdf5.save(
    root / "nyu_depth_v2_labeled.mat", {"images": np.zeros(3), "labels": {"a": np.ones(1)}}
  )
  with pytest.raises(ValueError, match="has no array 'labels'; known: images, labels"):
    Nyuv2(str(root), "train")[0]


def test_nyuv2_names_extra(root, monkeypatch):
  monkeypatch.setitem(sys.modules, "h5py", None)
  with pytest.raises(MissingExtraError, match=r"needs h5py: pip install 'asmjax\[hdf5\]'"):
    Nyuv2(str(root), "train")[0]
