"""Results and logs of finished runs."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.config.run_dir import read_log, read_results
from asmjax.metrics.names import MAIN_METRICS, drop_classes, group_by_class
from asmjax.train.loop import VIEWS
from asmjax.train.updates import UpdateSchedule
from asmjax.utils.files import read_json_object


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs that differ in their seeds alone.

  Attributes:
    label: Label of the group in tables and figures.
    workdirs: Folders of the runs.
    split: Split whose results are read, as `asmjax evaluate --split` left them; empty for that
      of the run's own evaluation.
  """

  label: str
  workdirs: tuple[pathlib.Path, ...]
  split: str = ""

  @classmethod
  def parse(cls, text: str) -> "Group":
    """Reads a group from "LABEL=DIR,DIR,...", with the folder of each run.

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

  def read_seeds(self) -> tuple[int, ...]:
    """Reads the seed of each run from its `config.json`.

    Raises:
      ValueError: A run has no `config.json`, or two runs have the same seed.
    """
    seeds = []
    for workdir in self.workdirs:
      if not (workdir / "config.json").exists():
        raise ValueError(f"{workdir / 'config.json'} is missing; expected the seed of a run there")
      seeds.append(_read_setting(workdir, "seed"))
    if len(set(seeds)) < len(seeds):
      raise ValueError(f"runs of {self.label} have the seeds {seeds}; expected different ones")
    return tuple(seeds)

  def read_seconds(self) -> np.ndarray:
    """Reads the wall time of each run in seconds, (runs,); NaN where none was recorded."""
    times = [read_log(workdir, "wall_time") for workdir in self.workdirs]
    return np.array([lines[-1]["seconds"] if lines else np.nan for lines in times])

  def read_final(self, metric: str) -> np.ndarray:
    """Reads the final value of a metric of each run, (runs,); NaN where it has none.

    Raises:
      ValueError: A run does not have the metric.
    """
    values = []
    for workdir, results in zip(self.workdirs, self.read_results(), strict=True):
      metrics = results["metrics"]
      if metric not in metrics:
        known = ", ".join(sorted(metrics))
        raise ValueError(f"unknown metric {metric!r}; known: {known}, of {workdir}")
      values.append(metrics[metric])
    return np.array(values)

  def read_results(self) -> list[dict[str, Any]]:
    """Reads the results of each run on `split`, in the form of `results.json` but for NaNs."""
    results = [read_results(locate_results(workdir, self.split)) for workdir in self.workdirs]
    return [{**content, "metrics": _null_to_nan(content["metrics"])} for content in results]

  def read_logged_metrics(self) -> list[str]:
    """Reads the names of all metrics that the group's first run logged, sorted."""
    return sorted(set().union(*read_log(self.workdirs[0], "metrics")))

  def read_curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the curve of a logged metric, at the steps where all runs logged it.

    Returns:
      Numbers of the predictor's steps, (t,), and values of the metric, (runs, t).
    """
    logs = [read_log(workdir, "metrics") for workdir in self.workdirs]
    curves = [
      {line["step"]: line[metric] for line in log if line.get(metric) is not None} for log in logs
    ]
    steps = sorted(set.intersection(*map(set, curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves])
    schedule = _read_update_schedule(self.workdirs[0])
    return np.asarray(schedule.count_predictor_steps(np.array(steps, int))), values


def select_main_metrics(groups: Sequence[Group]) -> list[str]:
  """Selects the main metrics of the tasks that all runs are evaluated in.

  Raises:
    ValueError: The runs share none of these metrics.
  """
  shared = set.intersection(
    *(set(results["metrics"]) for group in groups for results in group.read_results())
  )
  usual = [metric for metric in MAIN_METRICS if metric in shared]
  if not usual:
    raise ValueError(
      "no task is evaluated in all runs; metrics in all: "
      f"{', '.join(sorted(drop_classes(dict.fromkeys(shared)))) or 'none'}; runs: "
      f"{', '.join(str(workdir) for group in groups for workdir in group.workdirs)}"
    )
  return usual


def locate_results(workdir: pathlib.Path, split: str = "", which: str = "last") -> pathlib.Path:
  """Returns the path of a run's results.

  Args:
    workdir: Folder of the run.
    split: Split that was evaluated; empty, the default, for that of the run's own evaluation.
    which: Checkpoint that was evaluated, "last", the default, or "best".
  """
  is_default = not split or split == _read_setting(workdir, "eval", "split")
  parts = ["results", *([] if is_default else [split]), *(["best"] if which == "best" else [])]
  return workdir / f"{'.'.join(parts)}.json"


def describe_best(results: Mapping[str, Any]) -> str:
  """Describes the best checkpoint of a run, as `results.json` has it after the training."""
  best = results["best"]
  if not best:
    return "no checkpoint was evaluated; predict, evaluate and export take the last"
  return (
    f"best checkpoint: step {best['step']}, {best['metric']} {best['value']:.4f}; "
    "predict, evaluate and export take it unless told to take the last"
  )


def format_results(results: Mapping[str, Any]) -> str:
  """Formats the content of `results.json`: a line for each mean, and tables of metrics by class."""
  metrics = _null_to_nan(results["metrics"])
  lines = [
    f"{results['data_set']} {results['split']}, {results['examples']} examples, "
    f"step {results['step']}, {_describe_views(results)}",
    *(f"{name:48s} {value:9.4f}" for name, value in drop_classes(metrics).items()),
  ]
  kinds: dict[str, dict[str, dict[str, float]]] = {}
  for metric, values in group_by_class(metrics).items():
    kind, _, name = metric.rpartition("/")
    kinds.setdefault(kind, {})[name] = values
  for kind, columns in kinds.items():
    widths = [max(9, len(name)) for name in columns]
    titles = "".join(f"  {name:>{width}s}" for name, width in zip(columns, widths, strict=True))
    lines += ["", f"{kind:24s}{titles}"]
    for class_name in next(iter(columns.values())):
      values = (column[class_name] for column in columns.values())
      cells = "".join(f"  {x:{width}.4f}" for x, width in zip(values, widths, strict=True))
      lines.append(f"{class_name:24s}{cells}")
  return "\n".join(lines)


def check_comparable(groups: Sequence[Group]) -> None:
  """Checks that all runs were evaluated on the same examples, with the same kind of inference.

  Raises:
    ValueError: Data set, split, number of examples or inference (scales, flips, tiles) differ.
  """
  evaluations: dict[str, pathlib.Path] = {}
  for group in groups:
    for workdir, results in zip(group.workdirs, group.read_results(), strict=True):
      evaluation = (
        f"{results['data_set']} {results['split']}, {results['examples']} examples, "
        f"{_describe_views(results)}"
      )
      evaluations.setdefault(evaluation, workdir)
  if len(evaluations) > 1:
    listing = "; ".join(f"{workdir} on {text}" for text, workdir in evaluations.items())
    raise ValueError(f"runs were evaluated on different examples, or in other ways: {listing}")


def _describe_views(results: Mapping[str, Any]) -> str:
  """Describes the multi-scale or tiled inference of an evaluation."""
  return results.get("protocol", {}).get(VIEWS, "each image once")


def make_file_name(label: str) -> str:
  """Converts a label to a part of a file's name: runs of special characters become "_"."""
  return re.sub(r"[^\w.+-]+", "_", label)


def _read_setting(workdir: pathlib.Path, *keys: str) -> Any:
  """Reads one setting of a run, which may have left no more of its config."""
  path = workdir / "config.json"
  value: Any = read_json_object(path)
  for key in keys:
    if not isinstance(value, dict) or key not in value:
      raise ValueError(f"{path} has no {'.'.join(keys)}; expected the config of a run")
    value = value[key]
  return value


def _read_update_schedule(workdir: pathlib.Path) -> UpdateSchedule:
  """Reads a run's order of updates; without critics the predictor is updated every step."""
  path = workdir / "config.json"
  config = read_json_object(path) if path.exists() else {}
  terms, training = config.get("terms", {}), config.get("train", {})
  if not any("critic" in term or term.get("adaptive") for term in terms.values()):
    return UpdateSchedule()
  return UpdateSchedule.parse(training["updates"], training["critic_warmup_steps"])


def _null_to_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
  """Converts null, by which JSON represents NaN, to NaN."""
  return {name: math.nan if value is None else value for name, value in metrics.items()}
