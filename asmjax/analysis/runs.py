"""Results and logs of finished runs, read and compared."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.metrics.names import drop_classes, group_by_class
from asmjax.train.loop import VIEWS
from asmjax.train.updates import UpdateSchedule
from asmjax.utils.files import read_json, read_jsonl

# What runs are judged by first, in this order.
_USUAL = (
  "segmentation/mean_iou",
  "segmentation/pixel_accuracy",
  "depth/delta_1.25",
  "depth/rel",
  "normals/within_11.25",
  "normals/mean",
)


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that differ in their seeds alone.

  Attributes:
    label: Label of the group in tables and figures.
    workdirs: Folders of the runs.
    split: Split whose results are read, as `launch/evaluate.py --split` left them; empty for that
      of the run's own evaluation.
  """

  label: str
  workdirs: tuple[pathlib.Path, ...]
  split: str = ""

  @classmethod
  def parse(cls, text: str) -> "Group":
    """Reads "LABEL=DIR,DIR,...".

    Raises:
      ValueError: The text has another form.
      FileNotFoundError: A folder holds no finished run.
    """
    label, _, folders = text.partition("=")
    if not label or not folders:
      raise ValueError(f"a group of runs is LABEL=DIR,DIR,...; found {text!r}")
    workdirs = tuple(pathlib.Path(folder) for folder in folders.split(","))
    for workdir in workdirs:
      if not (workdir / "results.json").exists():
        raise FileNotFoundError(f"{workdir / 'results.json'} is missing; expected a finished run")
    return cls(label, workdirs)

  def seeds(self) -> tuple[int, ...]:
    """Returns the seed of each run, from its `config.json`.

    Raises:
      ValueError: A run has left no config, or two runs have one seed.
    """
    seeds = []
    for workdir in self.workdirs:
      if not (workdir / "config.json").exists():
        raise ValueError(f"{workdir / 'config.json'} is missing; expected the seed of a run there")
      seeds.append(read_json(workdir / "config.json")["seed"])
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"runs of {self.label} have the seeds {seeds}; expected different ones")
    return tuple(seeds)

  def seconds(self) -> np.ndarray:
    """Returns the wall time of each run in seconds, NaN where it recorded none."""
    times = [read_jsonl(workdir / "wall_time.jsonl") for workdir in self.workdirs]
    return np.array([lines[-1]["seconds"] if lines else np.nan for lines in times])

  def final(self, metric: str) -> np.ndarray:
    """Returns the final value of a metric of each run."""
    return np.array([_value(results["metrics"], metric) for results in self.results()])

  def results(self) -> list[dict[str, Any]]:
    """Returns the content of each run's `results.json`, or of the results on `split`."""
    paths = [results_path(workdir, self.split) for workdir in self.workdirs]
    return [read_json(path) for path in paths]

  def logged_metrics(self) -> list[str]:
    """Returns the names of all metrics that the first run logged."""
    return sorted(set().union(*read_jsonl(self.workdirs[0] / "metrics.jsonl")))

  def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predictor's steps (t,) and values (runs, t) where all runs logged a metric."""
    curves = [_logged(workdir / "metrics.jsonl", metric) for workdir in self.workdirs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves])
    schedule = _update_schedule(self.workdirs[0])
    return np.asarray(schedule.count_predictor_steps(np.array(steps, int))), values


def usual_metrics(groups: Sequence[Group]) -> list[str]:
  """Returns the main metrics of the runs' tasks, of those that all runs have.

  Raises:
    ValueError: There are none.
  """
  shared = set.intersection(
    *(set(results["metrics"]) for group in groups for results in group.results())
  )
  found = [metric for metric in _USUAL if metric in shared]
  if not found:
    raise ValueError(
      "no task is evaluated in all runs; metrics in all: "
      f"{', '.join(sorted(drop_classes(dict.fromkeys(shared)))) or 'none'}"
    )
  return found


def results_path(workdir: pathlib.Path, split: str = "") -> pathlib.Path:
  """Returns the file with a run's results on a split; empty for that of its own evaluation."""
  own = not split or split == read_json(workdir / "config.json")["eval"]["split"]
  return workdir / ("results.json" if own else f"results.{split}.json")


def results_table(results: Mapping[str, Any]) -> str:
  """Formats results: a line for each mean, and a table of the classes for each kind."""
  lines = [
    f"{results['data_set']} {results['split']}, {results['examples']} examples, "
    f"step {results['step']}, {_views(results)}",
    *(
      f"{name:48s} {_known(value):9.4f}" for name, value in drop_classes(results["metrics"]).items()
    ),
  ]
  kinds: dict[str, dict[str, dict[str, float]]] = {}
  for metric, values in group_by_class(results["metrics"]).items():
    kind, _, name = metric.rpartition("/")
    kinds.setdefault(kind, {})[name] = values
  for kind, columns in kinds.items():
    widths = [max(9, len(name)) for name in columns]
    titles = "".join(f"  {name:>{width}s}" for name, width in zip(columns, widths, strict=True))
    lines += ["", f"{kind:24s}{titles}"]
    for each in next(iter(columns.values())):
      cells = (_known(values[each]) for values in columns.values())
      numbers = "".join(f"  {x:{width}.4f}" for x, width in zip(cells, widths, strict=True))
      lines.append(f"{each:24s}{numbers}")
  return "\n".join(lines)


def check_comparable(groups: Sequence[Group]) -> None:
  """Raises ValueError unless all runs were evaluated on the same examples, looked at alike."""
  seen: dict[tuple, pathlib.Path] = {}
  for group in groups:
    for workdir, results in zip(group.workdirs, group.results(), strict=True):
      key = tuple(results[key] for key in ("data_set", "split", "examples"))
      seen.setdefault((*key, _views(results)), workdir)
  if len(seen) > 1:
    found = "; ".join(
      f"{workdir} on {key[0]} {key[1]}, {key[2]} examples, {key[3]}"
      for key, workdir in seen.items()
    )
    raise ValueError(f"runs were evaluated on different examples, or in other ways: {found}")


def _views(results: Mapping[str, Any]) -> str:
  """Returns how images were presented to the predictor."""
  return results.get("protocol", {}).get(VIEWS, "each image once")


def file_name(label: str) -> str:
  """Returns a label as part of a file's name."""
  return re.sub(r"[^\w.+-]+", "_", label)


def _logged(path: pathlib.Path, metric: str) -> dict[int, float]:
  lines = read_jsonl(path)
  return {line["step"]: line[metric] for line in lines if line.get(metric) is not None}


def _update_schedule(workdir: pathlib.Path) -> UpdateSchedule:
  """Returns the order of updates of a run; without a critic the predictor never waits."""
  path = workdir / "config.json"
  config = read_json(path) if path.exists() else {}
  terms, training = config.get("terms", {}), config.get("train", {})
  if not any("critic" in term or term.get("adaptive") for term in terms.values()):
    return UpdateSchedule()
  return UpdateSchedule.parse(training["updates"], training["critic_warmup_steps"])


def _value(metrics: dict, metric: str) -> float:
  if metric not in metrics:
    raise ValueError(f"unknown metric {metric!r}; known: {', '.join(sorted(metrics))}")
  return _known(metrics[metric])


def _known(value: float | None) -> float:
  """Returns NaN, which JSON has not, for null."""
  return float("nan") if value is None else value
