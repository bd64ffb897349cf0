"""The launcher that packs data sets."""

import numpy as np
import pytest

from asmjax.data.sources.weizmann_horse import WeizmannHorse
from asmjax.data.tfds import Tfds
from tests.helpers.small_configs import launch
from tests.helpers.tiny_horses import write_horses


@pytest.fixture
def horses(tmp_path):
  return write_horses(tmp_path / "horses", train="ca", val="b", size=(20, 30))


def prepare(root, out, *more):
  return launch(
    "prepare.py", "--config=configs/horse.py", f"--config.data.root={root}", f"--out={out}", *more
  )


def test_prepare_command_packs_the_published_horses(horses, tmp_path):
  out = tmp_path / "packed"
  parts = ("--config.data.split=train[:50%]", "--config.eval.split=val[:1]")  # Packed whole.
  status, output = prepare(horses, out, "--examples_per_shard=1", *parts)
  assert status == 0, output
  assert "train: 2 examples, 2 shards" in output and "val: 1 examples, 1 shards" in output
  assert f"--config.data.root={out}" in output
  published, packed = WeizmannHorse(str(horses), "train"), Tfds(str(out), "train")
  assert packed.descriptor.splits == ("train", "val") and len(packed) == 2
  for index in range(2):
    for key, value in published[index].items():
      np.testing.assert_array_equal(packed[index][key], value)


def test_prepare_command_names_unreadable_files_and_skips_them_if_asked(horses, tmp_path):
  path = horses / "rgb" / "a.jpg"
  path.write_bytes(path.read_bytes()[:200])
  status, output = prepare(horses, tmp_path / "packed", "--splits=train")
  assert status != 0 and f"FATAL {path} cannot be decoded" in output and "Traceback" not in output
  skip = "--config.data.loader.on_error=skip"
  status, output = prepare(horses, tmp_path / "whole", "--splits=train", skip)
  assert status == 0 and f"skipped: {path}" in output and "train: 1 examples" in output, output
