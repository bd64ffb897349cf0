"""PASCAL-Context: 59 of 459 classes, by the owners' list and .mat files."""

import numpy as np
import pytest
import scipy.io

from asmjax.data.files import check_files
from asmjax.data.sources.pascal_context import PascalContext
from tests.helpers.tiny_files import assert_whole, save_photo

CLASSES = PascalContext.descriptor.classes
# As in the list of all classes: spaces, and classes that are not among the 59.
NAMES = ["accordion", *reversed(CLASSES), "air conditioner"]
IDS = np.array([[0, 1, 2], [60, 61, 30]], np.uint16).repeat(4, 0)


@pytest.fixture
def root(tmp_path):
  lines = [f"{number}: {name}" for number, name in enumerate(NAMES, 1)]
  (tmp_path / "labels.txt").write_text("\n".join(lines))
  (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
  (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("2008_000002\n")
  save_photo(tmp_path / "JPEGImages" / "2008_000002.jpg", IDS.shape)
  (tmp_path / "trainval").mkdir()
  scipy.io.savemat(tmp_path / "trainval" / "2008_000002.mat", {"LabelMap": IDS})
  return tmp_path


def test_pascal_context_descriptor_has_official_classes():
  assert len(CLASSES) == 59 and list(CLASSES) == sorted(CLASSES)
  assert {"table", "bedclothes", "cloth", "tvmonitor", "wood"} <= set(CLASSES)


def test_pascal_context_keeps_59_classes(root):
  source = PascalContext(str(root), "train")
  assert_whole(source)
  table = {0: 255, 1: 255, 61: 255} | {id: CLASSES.index(NAMES[id - 1]) for id in range(2, 61)}
  np.testing.assert_array_equal(source[0]["label"], np.vectorize(table.get)(IDS))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"other": IDS}, r"2008_000002\.mat has no LabelMap"),
    ({"LabelMap": IDS[..., None].repeat(3, -1)}, r"LabelMap is uint16\(8, 3, 3\); expected whole"),
    ({"LabelMap": IDS + 0.5}, "LabelMap is float64"),
    ({"LabelMap": IDS + 9}, "holds the ids .*; expected 2..60 or, unlabeled, 0..1, 61"),
  ],
)
def test_pascal_context_refuses_malformed_maps(root, content, message):
  scipy.io.savemat(root / "trainval" / "2008_000002.mat", content)
  with pytest.raises(ValueError, match=message):
    PascalContext(str(root), "train")[0]


def test_pascal_context_refuses_another_list(root):
  (root / "labels.txt").write_text("1: aeroplane\n2: diningtable\n")
  with pytest.raises(ValueError, match=r"labels\.txt lacks bag, .*table"):
    PascalContext(str(root), "train")
  (root / "labels.txt").write_text("aeroplane\n")
  with pytest.raises(ValueError, match=r"labels\.txt has the line 'aeroplane'; expected a number"):
    PascalContext(str(root), "train")


def test_pascal_context_names_missing_map(root):
  (root / "trainval" / "2008_000002.mat").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*trainval/2008_000002\.mat"):
    check_files(PascalContext(str(root), "train"))
