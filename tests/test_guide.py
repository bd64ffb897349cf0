"""The commands of the guide, run one after the other as a reader would, with small settings."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
from PIL import Image

from asmjax.config.load import load_config
from asmjax.config.schema import check_path
from tests.helpers import small_configs as small
from tests.helpers.xla_flags import xla_flags

CLASSES = ("background", "wheel")
SMALL = {
  **small.SMALL,
  **small.AHEAD,
  "tasks.segmentation.extra_metrics": ("boundary",),
  "train.steps": 4,
  "eval.every": 0,
}


def write_folder(root: pathlib.Path) -> None:
  """Photos and masks, paired by name, as the guide asks for."""
  rng = np.random.default_rng(0)
  for split, length in (("train", 8), ("val", 3)):
    for kind, size in (("images", (20, 30, 3)), ("masks", (20, 30))):
      folder = root / kind / split
      folder.mkdir(parents=True)
      for index in range(length):
        pixels = rng.integers(0, 2 if kind == "masks" else 256, size, np.uint8)
        Image.fromarray(pixels).save(folder / f"{split}{index}.png")
  (root / "classes.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n")


def shrink(config: str) -> list[str]:
  """Flags that make a training small, of what a config has."""
  loaded = load_config(config)
  flags = []
  for key, value in SMALL.items():
    try:
      check_path(loaded, key)
    except ValueError:
      continue
    if not isinstance(value, dict):
      flags.append(f"--config.{key}={value}")
  return flags


def run_page(page: str, folder: pathlib.Path, **placeholders: object) -> list[str]:
  """Runs the commands of a page in a folder, each of which must succeed; their names."""
  text = (small.ROOT / "docs" / page).read_text().replace("\\\n", " ")
  environment = os.environ | {
    "PYTHONPATH": str(small.ROOT),
    "XLA_FLAGS": xla_flags(devices=1),
    "JAX_COMPILATION_CACHE_DIR": small.CACHE.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  commands = re.findall(r"^ {4}asmjax (.*)$", text, re.M)
  for command in commands:
    for name, path in placeholders.items():
      command = re.sub(rf"\b{name}\b", str(path), command)
    words = shlex.split(command)
    if words[0] == "train":
      config = next(word for word in words if word.startswith("--config="))
      words += shrink(config.partition("=")[2])
    process = subprocess.run(
      [sys.executable, "-m", "asmjax.cli", *words],
      env=environment,
      cwd=folder,
      capture_output=True,
      text=True,
    )
    assert process.returncode == 0, (command, process.stdout, process.stderr)
  return [command.split()[0] for command in commands]


def test_get_started_works_as_it_says(tmp_path):
  names = run_page("get_started.md", tmp_path)
  assert names == ["train", "evaluate", "train", "analyze", "report"]
  run = tmp_path / "runs" / "scenes_aaf"
  kept = {path.name for path in run.iterdir()}
  assert {"config.json", "metrics.jsonl", "results.json", "results.test.best.json"} <= kept
  assert (tmp_path / "report.html").exists()
  tables = (tmp_path / "figures" / "tables.md").read_text()
  assert tables.startswith("| runs | mean IoU | against IID |")
  assert "| segmentation/boundary/f | IID | AAF |" in tables and "| kernel size |" in tables
  figures = {path.stem: path for path in (tmp_path / "figures").glob("*.png")}
  predictions = {"predictions", "prediction_errors", "prediction_overlays"}
  assert set(figures) == {"curves", "health", "classes", "confusions_AAF", "sizes", *predictions}
  for name, path in figures.items():
    assert len(np.unique(np.asarray(Image.open(path)))) > 20, name


def test_own_images_and_predicting_work_as_they_say(tmp_path):
  write_folder(tmp_path / "mine")
  photos = tmp_path / "mine" / "images" / "val"
  names = run_page("own_images.md", tmp_path, ROOT=tmp_path / "mine", PHOTOS=photos)
  assert names == ["inspect", "train", "train", "report", "predict"]
  masks = sorted((tmp_path / "predictions" / "segmentation").iterdir())
  assert [path.name for path in masks] == ["val0.png", "val1.png", "val2.png"]
  assert all(np.asarray(Image.open(path)).max() < len(CLASSES) for path in masks)
  (tmp_path / "runs" / "mine").symlink_to(tmp_path / "runs" / "aaf")
  assert run_page("predicting.md", tmp_path, PHOTOS=photos) == ["predict", "export"]
  assert (tmp_path / "mine.stablehlo").exists()


def test_lookahead_works_as_it_says(tmp_path):
  assert run_page("lookahead.md", tmp_path) == ["train", "train", "analyze"]
  figures = {path.name for path in (tmp_path / "report").iterdir()}
  assert {"convergence.png", "album.png", "tables.md"} <= figures
