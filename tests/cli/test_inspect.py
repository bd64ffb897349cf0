"""The launcher on a tiny tree in the layout of the horses."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers import small_configs as small
from tests.helpers.tiny_horses import write_horses


@pytest.fixture
def root(tmp_path):
  return write_horses(tmp_path / "horses", train="ab", val="cd")


def inspect(root, *flags):
  out = root.parent / "report"
  code, output = small.launch(
    "inspect_data.py",
    "--config=configs/horse.py",
    f"--config.data.root={root}",
    f"--out={out}",
    *flags,
    devices=1,
  )
  return code, output, json.loads((out / "report.json").read_text()), out


def test_inspect_command_reports_truncated_files_and_unknown_splits(root):
  path = root / "rgb" / "b.jpg"
  path.write_bytes(path.read_bytes()[:300])
  code, output, report, out = inspect(root, "--splits=train,val,test")
  assert code == 1 and f"{path} cannot be decoded" in output
  problems = [
    (problem["kind"], problem["split"], problem["file"]) for problem in report["problems"]
  ]
  assert problems == [("split", "test", ""), ("unreadable", "train", str(path))]
  assert [report["splits"][split]["whole"] for split in ("train", "val")] == [1, 2]
  assert report["splits"]["val"]["label"]["classes"]["horse"]["share"] == 0.5
  for split in ("train", "val"):
    with Image.open(out / f"{split}.png") as sheet:
      colors = np.array(sheet.convert("RGB")).reshape(-1, 3)
    # The horse's color in the legend.
    assert (colors == (224, 160, 64)).all(-1).sum() > 20


def test_inspect_command_passes_clean_splits(root):
  code, output, report, out = inspect(root, "--examples=1")
  assert code == 0 and "problems: none" in output
  assert {name: split["whole"] for name, split in report["splits"].items()} == {
    "train": 1,
    "val": 1,
  }
  assert sorted(path.name for path in out.iterdir()) == ["report.json", "train.png", "val.png"]


def test_inspect_command_checks_parts_of_a_split(root):
  code, output, report, out = inspect(root, "--splits=train[:50%],train[50%:]")
  assert code == 0 and "problems: none" in output
  assert {name: split["whole"] for name, split in report["splits"].items()} == {
    "train[:50%]": 1,
    "train[50%:]": 1,
  }
  assert (out / "train[:50%].png").exists()
