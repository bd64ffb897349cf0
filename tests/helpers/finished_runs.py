"""Runs that look finished, and what reports on them hold."""

import base64
import html.parser
import io
import json

import numpy as np
from PIL import Image

from asmjax.config.build import build_experiment
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small

METRICS = ("mean_iou", "pixel_accuracy", "calibration_error", "iou/wall", "iou/floor")
VOID = {"br", "img", "input", "link", "meta"}


def results(*values, **more):
  """A `results.json`; the metrics in the order of `METRICS`."""
  metrics = {f"segmentation/{name}": value for name, value in zip(METRICS, values, strict=True)}
  return {
    "step": 4,
    "data_set": "scenes",
    "split": "val",
    "examples": 5,
    "protocol": {"segmentation": "a < b"},
    "metrics": metrics,
    **more,
  }


def write_run(folder, scores, *, variant="iid", steps=(2, 4), log=None, **changes):
  """A finished run that has left no checkpoint."""
  folder.mkdir(exist_ok=True)
  config = small.config(variant, **{"data.options.length": 5, "eval.batch_size": 8, **changes})
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  (folder / "results.json").write_text(json.dumps(results(*scores)))
  lines = [
    {
      "step": step,
      "segmentation/mean_iou": scores[0] * step / 4,
      "pixel/segmentation": 1 / step,
      **(log or {}),
    }
    for step in steps
  ]
  (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
  return config


def save_untrained(workdir, variant, *, critics=None, **changes):
  """Saves the config and the checkpoint of a run that has made no step.

  Args:
    workdir: Folder of the run.
    variant: Method and tasks of the config.
    critics: Parameters of critics by term, in place of the initial ones.
    **changes: Other settings, by their path.

  Returns:
    Experiment and state of the run.
  """
  config = small.config(variant, **changes)
  (workdir / "config.json").write_text(json.dumps(config.to_dict()))
  run = build_experiment(config)
  state = run.init_state()
  players = {name: state.players[name].replace(params=x) for name, x in (critics or {}).items()}
  state = state.replace(players=state.players | players)
  with open_checkpoints(run, workdir) as checkpoints:
    checkpoints.save(state)
  return run, state


class Parsed(html.parser.HTMLParser):
  """The elements of a page; fails where they are not nested."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self.tables, self.open = [], [], {}, []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attributes):
    names = [name for name, _ in attributes]
    assert len(set(names)) == len(names), attributes
    self.elements.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append(tag)
    if tag == "div" and dict(attributes).get("class") == "scroll":
      self.table = self.tables.setdefault(dict(attributes)["aria-label"], [])
    elif tag == "tr":
      self.table.append([])
    elif tag in ("th", "td") and "tr" in self.open:
      self.table[-1].append("")
    elif tag == "br":
      self.table[-1][-1] += "|"

  def handle_startendtag(self, tag, attributes):
    assert "svg" in self.open, tag
    self.elements.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append((self.open[-1] if self.open else "", data))
    if "td" in self.open or "th" in self.open:
      self.table[-1][-1] += data

  def all(self, tag):
    return [attributes for name, attributes in self.elements if name == tag]


def table(parsed, start):
  (rows,) = [rows for caption, rows in parsed.tables.items() if caption.startswith(start)]
  return rows


def decoded(uri):
  data = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
  return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
