"""The launcher that packs data sets."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data.sources.weizmann_horse import WeizmannHorse
from asmjax.data.tfds import Tfds
from tests.small import launch


@pytest.fixture
def horses(tmp_path):
  """Three tiny photos, two to train on, and no list of the others."""
  root = tmp_path / "horses"
  rng = np.random.default_rng(0)
  for folder in ("rgb", "figure_ground"):
    (root / folder).mkdir(parents=True)
    for name in "abc":
      grey = rng.integers(0, 256, (20, 30), np.uint8)
      Image.fromarray(grey).save(root / folder / f"{name}.jpg")
  (root / "train.txt").write_text("c\na\n")
  return root


def prepare(root, out, *more):
  return launch(
    "prepare.py", "--config=configs/horse.py", f"--config.data.root={root}", f"--out={out}", *more
  )


def test_packed_horses_are_the_published_ones(horses, tmp_path):
  out = tmp_path / "packed"
  status, output = prepare(horses, out, "--examples_per_shard=1")
  assert status == 0, output
  assert "skipped split val" in output and "val.txt does not exist" in output
  assert "train: 2 examples, 2 shards" in output and f"--config.data.root={out}" in output
  published, packed = WeizmannHorse(str(horses), "train"), Tfds(str(out), "train")
  assert packed.descriptor.splits == ("train",) and len(packed) == 2
  for index in range(2):
    for key, value in published[index].items():
      np.testing.assert_array_equal(packed[index][key], value)


def test_a_split_that_was_named_must_be_there(horses, tmp_path):
  status, output = prepare(horses, tmp_path / "packed", "--splits=train,val")
  assert status != 0 and "val.txt does not exist" in output
  assert not (tmp_path / "packed").exists()
