"""Contents of a report: numbers, curves, pictures and settings of finished runs, compared."""

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from asmjax.analysis.classes import ClassScores, read_class_scores
from asmjax.analysis.curves import Chart, number_styles, read_critic_health, read_learning_curves
from asmjax.analysis.formatting import format_metric
from asmjax.analysis.lookahead import History, is_lookahead
from asmjax.analysis.report.pictures import Gallery, make_gallery
from asmjax.analysis.report.published import PublishedMatch, find_published
from asmjax.analysis.runs import Group, check_comparable
from asmjax.config.run_dir import read_config, read_log
from asmjax.metrics.names import drop_classes, group_by_class
from asmjax.utils.files import read_json_object


class TaskScores(NamedTuple):
  """The final metrics of a task.

  Attributes:
    task: Name of the task.
    metrics: Full names of its metrics, in the order of `results.json`.
    values: Value of each run (runs,) by the group's label and the metric; NaN where a run has none.
    published: Rows of papers by the group's label.
  """

  task: str
  metrics: tuple[str, ...]
  values: dict[str, dict[str, np.ndarray]]
  published: dict[str, tuple[PublishedMatch, ...]]


class TrainingWarning(NamedTuple):
  """A kind of warning of a run.

  Attributes:
    run: Label of the group and name of the run.
    step: Step of the first one.
    text: Text of the first one.
    count: Number of warnings of this kind.
  """

  run: str
  step: int
  text: str
  count: int


class LookaheadCourse(NamedTuple):
  """Course of a LoAd run.

  Attributes:
    run: Label of the group and name of the run.
    history: Cycles of the run.
    results: Section `lookahead` of its `results.json`.
  """

  run: str
  history: History
  results: Mapping[str, Any]


class RunRecord(NamedTuple):
  """A run as it can be reproduced.

  Attributes:
    label: Label of its group.
    workdir: Folder of the run.
    steps: Steps of the predictor that its results are of.
    config: Config of the run; None if it left none.
    environment: Versions and devices that it recorded; empty if none.
    command: Command that it was started with; empty if it recorded none.
  """

  label: str
  workdir: pathlib.Path
  steps: int
  config: dict[str, Any] | None
  environment: dict[str, Any]
  command: str

  @property
  def name(self) -> str:
    """Label of its group and name of its folder."""
    return f"{self.label}, {self.workdir.name}"


@dataclasses.dataclass(frozen=True)
class RunReport:
  """Content of a page.

  Attributes:
    title: Title of the page.
    metric: Metric by which runs are compared in a sentence.
    baseline: Label of the group that others are compared with.
    groups: Groups of runs.
    examples: Data set, split and number of examples of the evaluation.
    protocols: How each metric is computed.
    scores: Final metrics of each task.
    curves: Learning curves.
    health: Curves of the critics.
    warnings: Warnings of all runs.
    classes: Metrics by class, of the groups that have them of the baseline's classes.
    gallery: Pictures of validation examples.
    cycles: Courses of LoAd runs.
    runs: All runs, in the order of the groups.
    differences: Settings that are not the same in all runs; see `find_differences`.
    notes: What is missing, and why.
    command: Command that made the report.
  """

  title: str
  metric: str
  baseline: str
  groups: tuple[Group, ...]
  examples: tuple[str, str, int]
  protocols: dict[str, str]
  scores: tuple[TaskScores, ...]
  curves: tuple[Chart, ...]
  health: tuple[Chart, ...]
  warnings: tuple[TrainingWarning, ...]
  classes: tuple[ClassScores, ...]
  gallery: Gallery
  cycles: tuple[LookaheadCourse, ...]
  runs: tuple[RunRecord, ...]
  differences: dict[str, dict[str, tuple[str, ...]]]
  notes: tuple[str, ...]
  command: str


def read_report(
  groups: Sequence[Group],
  *,
  baseline: str | None = None,
  count: int = 6,
  data_root: str | None = None,
  command: Sequence[str] = (),
) -> RunReport:
  """Reads the files of finished runs; each missing one becomes a note.

  Args:
    groups: Groups of runs that differ in seed.
    baseline: Label of the group that others are compared with; the first one by default.
    count: Largest number of validation examples in pictures; 6 by default.
    data_root: Folder of the data set; None, the default, for the one in each run's config.
    command: Command that makes the report; none by default.

  Raises:
    ValueError: The runs were not evaluated on the same examples, labels are not distinct, or the
      baseline is none of them.
  """
  labels = [group.label for group in groups]
  _check_labels(labels, baseline)
  check_comparable(groups)
  baseline = baseline or labels[0]
  runs, run_notes = _read_runs(groups)
  results = groups[0].read_results()[0]
  metric = _choose_metric(runs[0].config, results["metrics"])
  published = {
    run.label: find_published(run.config, results["data_set"], results["split"])
    for run in reversed(runs)  # The first run of a group that has left its config counts.
    if run.config is not None
  }
  logged, log_notes = _split_logged(groups)
  gallery = make_gallery(groups, count=count, data_root=data_root)
  classes, class_notes = _read_classes(groups, baseline)
  styles = number_styles(groups)
  # What a LoAd run logs jumps back with every cycle: its course is drawn instead.
  steady = [group for group in logged if not is_lookahead(group)]
  names = {name for group in steady for name in group.read_logged_metrics()}
  pixel_losses = sorted(name for name in names if name.startswith("pixel/"))
  return RunReport(
    title=f"{' · '.join(labels)} on {results['data_set']}",
    metric=metric,
    baseline=baseline,
    groups=tuple(groups),
    examples=(results["data_set"], results["split"], results["examples"]),
    protocols=results.get("protocol", {}),
    scores=_read_scores(groups, published),
    curves=read_learning_curves(steady, [metric, *pixel_losses], styles),
    health=read_critic_health(logged, styles),
    warnings=_read_warnings(runs),
    classes=classes,
    gallery=gallery,
    cycles=_read_cycles(logged),
    runs=tuple(runs),
    differences=find_differences(runs),
    notes=(*run_notes, *log_notes, *class_notes, *gallery.notes),
    command=shlex.join(command),
  )


def _check_labels(labels: Sequence[str], baseline: str | None) -> None:
  if len({*labels, "input", "truth"}) < len(labels) + 2:
    raise ValueError(
      f"the groups' labels are {', '.join(labels)}; expected different ones, none of them 'input' "
      "or 'truth', as other pictures are called"
    )
  if baseline not in (None, *labels):
    raise ValueError(f"the baseline {baseline!r} is none of the groups: {', '.join(labels)}")


def find_differences(runs: Sequence[RunRecord]) -> dict[str, dict[str, tuple[str, ...]]]:
  """Finds the settings that are not the same in all runs.

  Returns:
    Distinct values in JSON by dotted key and the group's label; empty where there is none.
  """
  configs = [(run.label, _flatten(run.config)) for run in runs if run.config is not None]
  differences = {}
  for key in sorted({key for _, config in configs for key in config}):
    by_label: dict[str, dict[str, None]] = {}
    for label, config in configs:
      by_label.setdefault(label, {})[config.get(key, "")] = None
    if len({value for values in by_label.values() for value in values}) > 1:
      differences[key] = {label: tuple(values) for label, values in by_label.items()}
  return differences


def _read_runs(groups: Sequence[Group]) -> tuple[list[RunRecord], list[str]]:
  """Reads configs, environments and commands, and notes which runs have left no config."""
  runs, notes = [], []
  for group in groups:
    for workdir, results in zip(group.workdirs, group.read_results(), strict=True):
      config, path = None, workdir / "config.json"
      if path.exists():
        config = read_config(workdir)
      else:
        notes.append(f"{group.label}: {path} is missing, so its settings are unknown")
      path = workdir / "environment.json"
      environment = read_json_object(path) if path.exists() else {}
      words = environment.pop("command", [])
      texts = [*words, *environment.values()] if isinstance(words, list) else [words]
      if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} holds something else than texts; expected versions and a command")
      command = shlex.join(words)
      runs.append(RunRecord(group.label, workdir, results["step"], config, environment, command))
  return runs, notes


def _split_logged(groups: Sequence[Group]) -> tuple[list[Group], list[str]]:
  """Returns the groups whose runs have all left a log, and notes on the others."""
  logged, notes = [], []
  for group in groups:
    if all((workdir / "metrics.jsonl").exists() for workdir in group.workdirs):
      logged.append(group)
    else:
      notes.append(
        f"{group.label}: a run left no metrics.jsonl, so there are no curves of this group"
      )
  return logged, notes


def _read_scores(
  groups: Sequence[Group], published: Mapping[str, Sequence[PublishedMatch]]
) -> tuple[TaskScores, ...]:
  runs = {group.label: [run["metrics"] for run in group.read_results()] for group in groups}
  names = dict.fromkeys(name for of_group in runs.values() for run in of_group for name in run)
  by_task: dict[str, list[str]] = {}
  for name in drop_classes(names):
    by_task.setdefault(name.partition("/")[0], []).append(name)
  scores = []
  for task, metrics in by_task.items():
    values = {
      label: {name: np.array([run.get(name, np.nan) for run in of_group]) for name in metrics}
      for label, of_group in runs.items()
    }
    rows = {
      label: tuple(match for match in matches if match.row.values.keys() & set(metrics))
      for label, matches in published.items()
    }
    scores.append(TaskScores(task, tuple(metrics), values, rows))
  return tuple(scores)


def _read_classes(
  groups: Sequence[Group], baseline: str
) -> tuple[tuple[ClassScores, ...], list[str]]:
  """Reads the baseline's metrics by class, and notes which groups have none or other classes."""
  by_label = {group.label: group_by_class(group.read_results()[0]["metrics"]) for group in groups}
  scores, notes = [], []
  for metric, expected in by_label[baseline].items():
    classes = {label: metrics.get(metric, {}).keys() for label, metrics in by_label.items()}
    same = [group for group in groups if classes[group.label] == expected.keys()]
    scores.append(read_class_scores(same, metric))
    notes += [
      f"{label} has other classes than {baseline}, and is left out of their tables"
      if names
      else f"{label} has no {format_metric(metric)} of classes"
      for label, names in classes.items()
      if names != expected.keys()
    ]
  return tuple(scores), list(dict.fromkeys(notes))


def _read_warnings(runs: Sequence[RunRecord]) -> tuple[TrainingWarning, ...]:
  """Reads warnings; those of a run that differ in numbers alone are of one kind."""
  warnings = []
  for run in runs:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in read_log(run.workdir, "warnings"):
      kinds.setdefault(re.sub(r"[\d.]+(e[+-]?\d+)?", "", entry["warning"]), []).append(entry)
    warnings += [
      TrainingWarning(run.name, kind[0]["step"], kind[0]["warning"], len(kind))
      for kind in kinds.values()
    ]
  return tuple(warnings)


def _read_cycles(groups: Sequence[Group]) -> tuple[LookaheadCourse, ...]:
  return tuple(
    LookaheadCourse(
      f"{group.label}, {workdir.name}", History.read(workdir), results.get("lookahead", {})
    )
    for group in groups
    if is_lookahead(group)
    for workdir, results in zip(group.workdirs, group.read_results(), strict=True)
  )


def _choose_metric(config: Mapping[str, Any] | None, metrics: Mapping[str, float]) -> str:
  """Returns the metric that the best checkpoint is chosen by, or else the first of all classes."""
  best, known = config["checkpoint"]["metric"] if config else "", drop_classes(metrics)
  return best if best in known else next(iter(known))


def _flatten(config: Mapping[str, Any]) -> dict[str, str]:
  flat = flatten_dict(config, sep=".", keep_empty_nodes=True)
  return {key: json.dumps(value, default=lambda _: {}) for key, value in flat.items()}
