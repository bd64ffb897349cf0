"""COCO's panoptic format: ids in colors, things, stuff and crowds."""

import json

import numpy as np
import pytest

from asmjax.data.sources.coco_panoptic import CocoPanoptic
from tests.helpers.tiny_files import assert_whole, save, save_photo

# Red counts least: read as BGR, or with red first, 70000 would be another number.
IDS = np.array([[0, 5, 300], [70000, 70001, 5]]).repeat(4, 0).repeat(5, 1)
CATEGORIES = [
  {"id": 199, "name": "wall", "isthing": 0, "color": [1, 2, 3]},
  {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]},
]
SEGMENTS = [
  {"id": 5, "category_id": 199, "iscrowd": 0},
  {"id": 300, "category_id": 1, "iscrowd": 0},
  {"id": 70000, "category_id": 1, "iscrowd": 1},
  {"id": 70001, "category_id": 1, "iscrowd": 0},
]


def write(root, *, segments=SEGMENTS, annotations=None):
  save_photo(root / "val2017" / "1.jpg", IDS.shape)
  colors = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], -1).astype(np.uint8)
  save(root / "annotations" / "panoptic_val2017" / "1.png", colors)
  content = {
    "categories": CATEGORIES,
    "images": [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 15}],
    "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
  }
  if annotations is not None:
    content["annotations"] = annotations
  (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
  return root


def test_coco_panoptic_reads_labels_and_instances(tmp_path):
  source = CocoPanoptic(str(write(tmp_path)), "val2017")
  assert_whole(source)
  assert source.descriptor.class_colors == {"person": (220, 20, 60), "wall": (1, 2, 3)}
  labels = {0: 255, 5: 1, 300: 0, 70000: 0, 70001: 0}
  instances = {0: 0, 5: 0, 300: 300, 70000: 0, 70001: 70001}
  for key, table in (("label", labels), ("instance", instances)):
    np.testing.assert_array_equal(source[0][key], np.vectorize(table.get)(IDS))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"segments": SEGMENTS[:3]}, r"1\.png holds the segment 70001; expected 0 or one .* \[5, 300"),
    ({"segments": [*SEGMENTS, SEGMENTS[0]]}, "annotation 1, segment 5 has the id 5; .*once"),
    ({"annotations": []}, r"panoptic_val2017\.json has 0 annotations of 1\.jpg; expected one"),
  ],
)
def test_coco_panoptic_refuses_incomplete_segments(tmp_path, changes, message):
  write(tmp_path, **changes)
  with pytest.raises(ValueError, match=message):
    CocoPanoptic(str(tmp_path), "val2017")[0]
