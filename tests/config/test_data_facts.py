"""A run knows its data, and notices others."""

import json

import numpy as np
import pytest
from PIL import Image

from asmjax.config.build import build_experiment
from asmjax.config.data_facts import DATA_SET, check_same_data, read_facts, write_facts
from asmjax.config.run_dir import write_run_files
from tests.helpers import small_configs as small

CLASSES = ("sky", "road", "tree")


@pytest.fixture
def root(tmp_path):
  """A folder of photos and masks."""
  root = tmp_path / "data"
  for split in ("train", "val"):
    for kind, shape in (("images", (16, 16, 3)), ("masks", (16, 16))):
      (root / kind / split).mkdir(parents=True)
      for index in range(2):
        picture = Image.fromarray(np.full(shape, index, np.uint8))
        picture.save(root / kind / split / f"{index}.png")
  list_classes(root, CLASSES)
  return root


def list_classes(root, names):
  ids = {name: index for index, name in enumerate((*CLASSES, "pole"))}
  lines = [f"  - {{name: {name}, id: {ids[name]}}}\n" for name in names]
  (root / "classes.yaml").write_text("classes:\n" + "".join(lines))


def config(root):
  return small.config("folder,iid", "any", **{"data.root": str(root), "data.options": {}})


def experiment(root):
  return build_experiment(config(root))


def test_facts_of_the_same_data_agree_wherever_they_lie(root, tmp_path):
  run = experiment(root)
  write_facts(tmp_path, run)
  assert read_facts(tmp_path) == run.descriptor
  check_same_data(tmp_path, run)
  check_same_data(tmp_path, experiment(root.rename(tmp_path / "moved")))
  (tmp_path / DATA_SET).unlink()
  check_same_data(tmp_path, run)  # Nothing is known.
  assert read_facts(tmp_path) is None


def reorder(root):
  list_classes(root, ("tree", "sky", "road"))


def add_class(root):
  list_classes(root, (*CLASSES, "pole"))


def rename(root):
  for kind in ("images", "masks"):
    (root / kind / "train" / "1.png").rename(root / kind / "train" / "2.png")


def remove(root):
  for kind in ("images", "masks"):
    (root / kind / "val" / "1.png").unlink()


CHANGES = {
  reorder: r"classes: \['sky', 'road', 'tree'\] -> \['tree', 'sky', 'road'\]",
  add_class: r"classes: .* -> \['sky', 'road', 'tree', 'pole'\]",
  rename: "train: other files, or in another order",
  remove: "val: 2 -> 1 examples",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_check_same_data_names_what_differs(root, tmp_path, change):
  write_facts(tmp_path, experiment(root))
  before = (tmp_path / DATA_SET).read_text()
  change(root)
  with pytest.raises(ValueError, match=rf"{CHANGES[change]}.*or delete {tmp_path / DATA_SET} if"):
    check_same_data(tmp_path, experiment(root))
  (tmp_path / "checkpoints" / "1").mkdir(parents=True)
  (tmp_path / "config.json").write_text(json.dumps(config(root).to_dict()))
  with pytest.raises(ValueError, match=CHANGES[change]):
    write_run_files(tmp_path, config(root).to_dict(), experiment(root), [])
  assert (tmp_path / DATA_SET).read_text() == before
