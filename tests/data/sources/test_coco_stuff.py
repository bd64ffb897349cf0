"""COCO-Stuff: ids with gaps in the maps of pixels."""

import numpy as np
import pytest

from asmjax.data.files import check_files
from asmjax.data.sources.coco_stuff import CocoStuff
from tests.helpers.tiny_files import assert_whole, save, save_photo

IDS = np.array([[0, 10, 12], [89, 91, 255], [181, 90 - 1, 64]], np.uint8).repeat(3, 0)


@pytest.fixture
def root(tmp_path):
  for seed, name in enumerate(("000000000009", "000000000025")):
    save_photo(tmp_path / "images" / "train2017" / f"{name}.jpg", IDS.shape, seed=seed)
    save(tmp_path / "annotations" / "train2017" / f"{name}.png", IDS)
  return tmp_path


def test_coco_stuff_descriptor_has_official_classes():
  classes = CocoStuff.descriptor.classes
  assert len(classes) == 171 and classes[79:81] == ("toothbrush", "banner")
  stuff = classes[80:]
  assert len(stuff) == 91 and list(stuff) == sorted(stuff) and stuff[-1] == "wood"
  absent = {"blender", "desk", "door", "eye glasses", "hair brush", "hat", "mirror", "plate"}
  assert not set(classes) & (absent | {"shoe", "street sign", "window"})


def test_coco_stuff_closes_gaps_of_ids(root):
  source = CocoStuff(str(root), "train2017")
  assert_whole(source)
  names = source.descriptor.classes
  expected = ["person", "fire hydrant", "stop sign", "toothbrush", "banner", None]
  expected += ["wood", "toothbrush", "bed"]
  labels = [255 if name is None else names.index(name) for name in expected]
  np.testing.assert_array_equal(source[0]["label"], np.reshape(labels, (3, 3)).repeat(3, 0))


@pytest.mark.parametrize("bad", [11, 90, 182])
def test_coco_stuff_refuses_ids_that_never_occur(root, bad):
  """Of things without outlines, and those of maps whose ids count from 1."""
  save(root / "annotations" / "train2017" / "000000000009.png", np.full_like(IDS, bad))
  with pytest.raises(ValueError, match=rf"000000000009\.png holds the ids {bad}; expected 0\.\.10"):
    CocoStuff(str(root), "train2017")[0]


def test_coco_stuff_names_missing_mask(root):
  (root / "annotations" / "train2017" / "000000000009.png").unlink()
  with pytest.raises(FileNotFoundError, match="lacks 1 files: .*train2017/000000000009.png"):
    check_files(CocoStuff(str(root), "train2017"))
