"""Texts and contact sheets of data sets."""

import numpy as np
import pytest
from PIL import Image

from asmjax.analysis.dataset import draw_panels, format_report, save_contact_sheet
from asmjax.data.descriptor import Descriptor
from asmjax.data.inspection import Problem, Report, inspect

CLASSES = tuple(f"class{index}" for index in range(5))
PALETTE = ((0, 0, 0), (250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20))


class Rooms:
  """Examples of different sizes with everything that a data set can provide."""

  descriptor = Descriptor(
    "rooms", CLASSES, PALETTE, ("train",), frozenset({"label", "depth", "normals", "instance"})
  )
  split = "train"

  def __len__(self):
    return 5

  def __getitem__(self, index):
    if index == 2:
      raise ValueError("unreadable")
    size = 20 + index, 30
    depth = np.full(size, 1 + index, np.float32)
    depth[:5] = 0
    return {
      "image": np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8),
      "label": np.full(size, index, np.int32),
      "depth": depth,
      "normals": np.where(depth[..., None] > 0, np.array([0, 0, 1], np.float32), 0),
      "instance": np.full(size, 3, np.int32),
    }

  def files(self, index):
    return {}


def test_draw_panels_has_missing_truth_in_black_and_one_range_of_depths():
  rows = draw_panels([Rooms()[index] for index in (0, 4)], Rooms.descriptor)
  (title,) = (title for title in rows[0] if title.startswith("depth"))
  assert list(rows[0]) == ["image", "label", title, "normals", "instances"]
  assert title == "depth, 1 to 5 m"
  for key in (title, "normals"):
    assert not rows[0][key][:5].any() and rows[0][key][5:].any(-1).all()
  # Were each picture to have its own range, both would be drawn alike.
  assert rows[0][title][9, 9, 2] > rows[0][title][9, 9, 0]
  assert rows[1][title][9, 9, 2] < rows[1][title][9, 9, 0]


def test_draw_panels_without_any_depth_is_black():
  example = Rooms()[0]
  example["depth"][:] = 0
  (row,) = draw_panels([example], Rooms.descriptor)
  assert not row["depth, 0 to 1 m"].any()


def test_save_contact_sheet_draws_valid_examples_and_a_legend(tmp_path):
  source = Rooms()
  report = inspect({"train": source})
  save_contact_sheet(source, report.splits["train"], tmp_path / "train.png", count=3)
  with Image.open(tmp_path / "train.png") as sheet:
    colors = np.array(sheet.convert("RGB")).reshape(-1, 3)
  for color in PALETTE:
    assert (colors == color).all(-1).sum() > 20, color
  report.splits["train"].counts.clear()
  with pytest.raises(ValueError, match="'train' of rooms has no valid example"):
    save_contact_sheet(source, report.splits["train"], tmp_path / "none.png")


def test_format_report_has_counts_and_problems():
  report = inspect({"train": Rooms()})
  lines = format_report(report).splitlines()
  assert lines[0] == "rooms train" and "5, of which 4 were read" in lines[1]
  (row,) = (line for line in lines if line.split()[:1] == ["class3"])
  pixels = {index: (20 + index) * 30 for index in (0, 1, 3, 4)}
  assert row.split()[1:] == [f"{pixels[3] / sum(pixels.values()):.2%}", "1"]
  assert any(line.endswith("never seen: class2") for line in lines)
  assert lines[-3:] == ["problems: 1", "  unreadable: 1", "    train: train[2]: unreadable"]


def test_format_report_lists_the_first_problems_of_every_kind():
  kinds = ["blank"] * 5 + ["contract"]
  problems = tuple(Problem(kind, "val", "", f"{kind} {i}") for i, kind in enumerate(kinds))
  assert format_report(Report({}, problems), max_problems=2).splitlines() == [
    "problems: 6",
    "  blank: 5",
    "    val: blank 0",
    "    val: blank 1",
    "    and 3 more",
    "  contract: 1",
    "    val: contract 5",
  ]
