"""Names that hurt: bytes that are no text, escapes of terminals, line feeds, markup, formulas."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from asmjax.analysis.dataset import format_report, save_contact_sheet
from asmjax.analysis.plotting import save_figure
from asmjax.data.inspection import inspect
from asmjax.data.packing import pack
from asmjax.data.sources.folder import Folder
from asmjax.data.tfds import Tfds
from asmjax.inference.predict import PredictionJob
from asmjax.utils.files import write_json
from asmjax.utils.printable import one_line, printable
from asmjax.utils.terminal import PrintableStream, make_console
from tests.helpers import inference_runs

NAMES = [
  os.fsdecode(b"caf\xe9"),
  "a\nFATAL all is lost",
  "b\x1b[31mred\x1b]0;title\x07",
  "$x_{",
  "日本",
  "<script>alert(1)<",
  "x..e\u202egnp",
  "cafe\u0301",
]
CLASSES = ["$\\frac{", "<b>", "日本", "100% & more"]


@pytest.fixture
def root(tmp_path):
  root = tmp_path / "data"
  for split in ("train", "val"):
    for kind in ("images", "masks"):
      (root / kind / split).mkdir(parents=True)
    for number, name in enumerate(NAMES):
      image = inference_runs.image(12, 20, seed=number)
      Image.fromarray(image).save(root / "images" / split / f"{name}.png")
      Image.fromarray(image[..., 0] % 4).save(root / "masks" / split / f"{name}.png")
  (root / "classes.yaml").write_text(json.dumps({"classes": CLASSES}), "utf-8")
  return root


def test_inspect_reports_whatever_files_and_classes_are_called(root, tmp_path):
  for name in NAMES[:3]:
    (root / "masks" / "val" / f"{name}.png").write_bytes(b"")
  sources = {split: Folder(str(root), split) for split in ("train", "val")}
  report = inspect(sources)
  assert sorted(
    map(str, (each.file for each in report.problems if each.kind == "unreadable"))
  ) == sorted(str(root / "masks" / "val" / f"{name}.png") for name in NAMES[:3])
  text = format_report(report)
  assert not [line for line in text.splitlines() if line.startswith("FATAL")]
  write_json(tmp_path / "report.json", report.to_dict())
  written = json.loads((tmp_path / "report.json").read_text())["problems"]
  assert len(written) == len(report.problems)
  save_contact_sheet(sources["train"], report.splits["train"], tmp_path / "train.png")
  with Image.open(tmp_path / "train.png") as sheet:
    assert min(sheet.size) > 100


def test_pack_keeps_examples_whatever_their_files_are_called(root, tmp_path):
  source = Folder(str(root), "train", images="images/train", masks="masks/train")
  pack({"train": source}, tmp_path / "packed")
  packed = Tfds(str(tmp_path / "packed"), "train")
  assert packed.descriptor.classes == tuple(CLASSES) and len(packed) == len(source)
  for index in range(len(source)):
    np.testing.assert_array_equal(packed[index]["label"], source[index]["label"])


def test_prediction_job_writes_whatever_photos_are_called(root, tmp_path):
  trained = inference_runs.trained(inference_runs.Strided)
  summary = PredictionJob(trained, root / "images" / "val", tmp_path / "out").run()
  assert summary.num_images == len(NAMES) and not summary.faults
  written = {path.stem for path in (tmp_path / "out" / "depth").iterdir()}
  assert written == set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, *CLASSES])
def test_printable_leaves_nothing_that_moves_a_terminal(name):
  shown = one_line(name)
  assert shown.encode("utf-8") and shown.isprintable()
  assert printable(shown) == shown
  if name.isprintable():
    assert shown == name


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_printable_stream_prints_any_name(encoding, monkeypatch):
  raw = io.TextIOWrapper(io.BytesIO(), encoding)
  monkeypatch.setattr(sys, "stderr", PrintableStream(raw))
  print(*NAMES, file=sys.stderr, flush=True)
  text = raw.buffer.getvalue().decode(encoding)
  assert "\x1b" not in text and "\\x1b[31mred" in text and "caf\\xe9" in text
  console = make_console(stderr=True, force_terminal=True)
  console.print("[bold]ours[/]")
  assert "\x1b[1mours" in raw.buffer.getvalue().decode(encoding)


def test_save_figure_draws_texts_that_are_no_formulas():
  from matplotlib.figure import Figure

  figure = Figure(layout="constrained")
  axes = figure.subplots()
  axes.set_title(NAMES[2] + NAMES[0])
  axes.set_xticks(range(len(CLASSES)), CLASSES)
  axes.plot([1, 2], [3, 1000], label=NAMES[3])
  axes.set_yscale("log")
  axes.legend()
  buffer = io.BytesIO()
  save_figure(figure, buffer, format="svg")
  assert len(buffer.getvalue()) > 1000
