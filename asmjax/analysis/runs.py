"""Results and logs of finished runs."""

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

# Main metrics of each task in the papers, in the order of the table's columns.
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
    """Reads a group from its text on the command line.

    Args:
      text: Text of the form "LABEL=DIR,DIR,...", with the folder of each run.

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
    """Reads the seed of each run from its `config.json`.

    Raises:
      ValueError: A run has no `config.json`, or two runs have the same seed.
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
    """Reads the wall time of each run in seconds, (runs,); NaN where none was recorded."""
    times = [read_jsonl(workdir / "wall_time.jsonl") for workdir in self.workdirs]
    return np.array([lines[-1]["seconds"] if lines else np.nan for lines in times])

  def final(self, metric: str) -> np.ndarray:
    """Reads the final value of a metric of each run, (runs,); NaN where it has none.

    Args:
      metric: Name of the metric in `results.json`.

    Raises:
      ValueError: A run does not have the metric.
    """
    return np.array([_value(results["metrics"], metric) for results in self.results()])

  def results(self) -> list[dict[str, Any]]:
    """Reads the results of each run on `split`, in the form of `results.json`."""
    paths = [results_path(workdir, self.split) for workdir in self.workdirs]
    return [read_json(path) for path in paths]

  def logged_metrics(self) -> list[str]:
    """Reads the names of all metrics that the group's first run logged, sorted."""
    return sorted(set().union(*read_jsonl(self.workdirs[0] / "metrics.jsonl")))

  def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the curve of a logged metric, at the steps where all runs logged it.

    Args:
      metric: Name of the metric in `metrics.jsonl`.

    Returns:
      Numbers of the predictor's steps, (t,), and values of the metric, (runs, t).
    """
    curves = [_logged(workdir / "metrics.jsonl", metric) for workdir in self.workdirs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves])
    schedule = _update_schedule(self.workdirs[0])
    return np.asarray(schedule.count_predictor_steps(np.array(steps, int))), values


def usual_metrics(groups: Sequence[Group]) -> list[str]:
  """Selects the main metrics of the tasks that all runs are evaluated in.

  Args:
    groups: Groups of finished runs.

  Raises:
    ValueError: The runs share none of these metrics.
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
  """Returns the path of a run's results on a split.

  Args:
    workdir: Folder of the run.
    split: Name of the split; empty, the default, for the split of the run's own evaluation.
  """
  own = not split or split == read_json(workdir / "config.json")["eval"]["split"]
  return workdir / ("results.json" if own else f"results.{split}.json")


def results_table(results: Mapping[str, Any]) -> str:
  """Formats results as text: a line for each mean, and tables of the metrics by class.

  Args:
    results: Content of `results.json`.
  """
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
  """Checks that all runs were evaluated on the same examples, with the same kind of inference.

  Args:
    groups: Groups of finished runs.

  Raises:
    ValueError: Data set, split, number of examples or inference (scales, flips, tiles) differ.
  """
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
  """Describes the multi-scale or tiled inference of an evaluation."""
  return results.get("protocol", {}).get(VIEWS, "each image once")


def file_name(label: str) -> str:
  """Converts a label to a part of a file's name: runs of special characters become "_"."""
  return re.sub(r"[^\w.+-]+", "_", label)


def _logged(path: pathlib.Path, metric: str) -> dict[int, float]:
  lines = read_jsonl(path)
  return {line["step"]: line[metric] for line in lines if line.get(metric) is not None}


def _update_schedule(workdir: pathlib.Path) -> UpdateSchedule:
  """Reads a run's order of updates; without critics the predictor is updated every step."""
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
  """Converts null, by which JSON represents NaN, to NaN."""
  return float("nan") if value is None else value
