"""Mapillary Vistas: classes by the release's config, and instances that count from 0."""

import json

import numpy as np
import pytest

from asmjax.data.sources.mapillary import Mapillary
from tests.helpers.tiny_files import assert_whole, save, save_photo

LABELS = [
  {"name": "animal--bird", "color": [165, 42, 42], "evaluate": True, "instances": True},
  {"name": "void--dynamic", "color": [111, 74, 0], "evaluate": False, "instances": False},
  {"name": "nature--sky", "color": [70, 130, 180], "evaluate": True, "instances": False},
  {"name": "void--unlabeled", "color": [0, 0, 0], "evaluate": False, "instances": True},
]
IDS = np.array([[0, 0, 0], [1, 2, 3]], np.uint8).repeat(3, 0).repeat(4, 1)
NUMBERS = np.array([[0, 1, 255], [0, 0, 1]]).repeat(3, 0).repeat(4, 1)


def write(root, version="v1.2", labels=LABELS):
  name = f"config_{version}.json" if version else "config.json"
  (root / name).write_text(json.dumps({"version": "1", "labels": labels}))
  save_photo(root / "training" / "images" / "a.jpg", IDS.shape)
  masks = root / "training" / version
  save(masks / "labels" / "a.png", IDS)
  save(masks / "instances" / "a.png", (IDS * 256.0 + NUMBERS).astype(np.uint16))
  return root


@pytest.mark.parametrize("version", ["v1.2", "v2.0", ""])
def test_mapillary_reads_classes_of_the_release(tmp_path, version):
  source = Mapillary(str(write(tmp_path, version)), "train", version=version)
  assert_whole(source)
  assert source.descriptor.class_colors == {
    "animal--bird": (165, 42, 42),
    "nature--sky": (70, 130, 180),
  }
  assert source.descriptor.ignored == {1, 3}
  labels = np.array([0, 255, 1, 255])
  np.testing.assert_array_equal(source[0]["label"], labels[IDS])


def test_mapillary_counts_the_first_instance_but_no_stuff(tmp_path):
  instance = Mapillary(str(write(tmp_path)), "train")[0]["instance"]
  assert (instance[3:] == 0).all()
  first, second, last = (set(instance[:3, k : k + 4].ravel().tolist()) for k in (0, 4, 8))
  assert len(first | second | last) == 3 and 0 not in first


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (None, "labels is None; expected a list"),
    ([{"name": "a", "color": [1, 2]}], r"label 0: color is \[1, 2\]; expected three"),
    ([{"color": [1, 2, 3]}], "label 0: name is None; expected text"),
    (LABELS[1:2], "has 0 classes to evaluate"),
    (LABELS[:3], r"a\.png holds the ids 3; expected 0, 2 or, unlabeled, 1"),
  ],
)
def test_mapillary_refuses_malformed_configs(tmp_path, labels, message):
  write(tmp_path, labels=labels)
  with pytest.raises(ValueError, match=message):
    Mapillary(str(tmp_path), "train")[0]


def test_mapillary_names_missing_config(tmp_path):
  write(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"config_v2\.0\.json does not exist; expected ROOT"):
    Mapillary(str(tmp_path), "train", version="v2.0")
