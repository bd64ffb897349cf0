"""Every command of the docs is run, page by page, as a reader would, with small settings."""

import re
import shlex

import jax
import numpy as np
import pytest
from PIL import Image

from asmjax.cli.config_flag import split_overrides
from asmjax.config.load import load_config
from tests.helpers import documented_commands as documented
from tests.helpers import small_configs as small
from tests.helpers.compilation_cache import cache_programs
from tests.helpers.tiny_trees import CLASSES

PAGES = {
  str(page.relative_to(small.ROOT)): documented.read_commands(page)
  for page in [small.ROOT / "README.md", *sorted((small.ROOT / "docs").rglob("*.md"))]
}


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
  """The commands compile once what several of them need."""
  with cache_programs(small.CACHE.name):
    yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """Folder of all runs so far: pages train the same short runs."""
  return tmp_path_factory.mktemp("finished")


@pytest.fixture
def read(tmp_path, monkeypatch, finished, injections):
  """Runs the commands of pages one after the other in an empty folder; returns their names."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("MPLBACKEND", "agg")
  (tmp_path / "configs").symlink_to(small.ROOT / "configs")  # Some commands are of a checkout.
  reader = documented.Reader(monkeypatch, finished)

  def run(page, steps=2):
    reader.steps = steps
    commands = [line for line in PAGES[page] if not documented.why_not_run(line)]
    if not injections(0):
      commands = [line for line in commands if not re.match(documented.REPEATED, line)]
    return [reader.run(command) for command in commands]

  yield run
  jax.clear_caches()  # Of programs that no other page runs.


GUIDE = ("docs/get_started.md", "docs/own_images.md", "docs/predicting.md", "docs/lookahead.md")


@pytest.mark.parametrize("page", [page for page in PAGES if PAGES[page] and page not in GUIDE])
def test_commands_of_page_run(read, page, injections):
  """Those of results, which repeat a few with other settings, and benchmarks: in the long form.

  Only the README and the guide train: other pages name other settings of the same, which are built.
  """
  if page.startswith(("docs/results/", "docs/performance.md")) and not injections(0):
    check_configs(PAGES[page])
  else:
    read(page, steps=2 if page == "README.md" or injections(0) else 0)


@pytest.mark.parametrize("pattern", documented.NOT_RUN)
def test_commands_that_are_not_run_have_configs_that_exist(pattern):
  commands = [line for lines in PAGES.values() for line in lines if re.search(pattern, line)]
  assert commands
  check_configs(commands)


def check_configs(commands):
  """Every config and every key that commands name exists."""
  for words in map(shlex.split, commands):
    overrides, others = split_overrides(words)
    config = next((word for word in others if word.startswith("--config=")), None)
    if config:
      config = re.sub(r"VARIANT|TASK", lambda name: documented.PLACEHOLDERS[name[0]], config)
      values = dict(text.split("=", 1) for text in overrides)
      values = {key: documented.PLACEHOLDERS.get(value, value) for key, value in values.items()}
      load_config(config.partition("=")[2], values)


def test_get_started_works_as_it_says(tmp_path, read):
  names = read("docs/get_started.md")
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


def test_own_images_and_predicting_work_as_they_say(tmp_path, read):
  assert read("docs/own_images.md") == ["inspect", "train", "train", "report", "predict"]
  masks = list((tmp_path / "predictions" / "segmentation").iterdir())
  assert [path.name for path in masks] == ["photo.png"]
  assert np.asarray(Image.open(masks[0])).max() < len(CLASSES)
  assert read("docs/predicting.md") == ["predict", "export"]
  assert (tmp_path / "mine.stablehlo").exists()


def test_lookahead_works_as_it_says(tmp_path, read):
  assert read("docs/lookahead.md") == ["train", "train", "analyze"]
  figures = {path.name for path in (tmp_path / "report").iterdir()}
  assert {"convergence.png", "album.png", "tables.md"} <= figures
