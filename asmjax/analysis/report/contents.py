"""What a report says: numbers, curves, pictures and settings of finished runs, compared."""

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from asmjax.analysis.classes import ByClass, metrics_by_class, read
from asmjax.analysis.lookahead import History, is_lookahead
from asmjax.analysis.report.charts import Chart, Curve
from asmjax.analysis.report.pictures import Gallery, gallery
from asmjax.analysis.report.published import Compared, compared
from asmjax.analysis.report.words import curve_title, spelled
from asmjax.analysis.runs import Group, check_comparable, scale
from asmjax.config.run_dir import read_config
from asmjax.game import PREDICTOR
from asmjax.metrics.names import drop_classes, group_by_class
from asmjax.utils.files import read_json, read_jsonl

# Longer curves are smoothed.
MOST_POINTS = 60
# How a critic fares: title, metric of a term, and whether its scale is logarithmic.
_HEALTH = (
  ("the discriminator's accuracy on truth, %", "{}/accuracy_real", False),
  ("the discriminator's accuracy on predictions, %", "{}/accuracy_fake", False),
  ("the discriminator's loss on truth", "{}/judge_real", True),
  ("the discriminator's loss on predictions", "{}/judge_fake", True),
  ("norm of the critic's gradient", "gradient/{}", True),
  ("norm of what the term sends to the predictor", "sent/{}", True),
)


class Scores(NamedTuple):
  """The final metrics of a task.

  Attributes:
    task: its name.
    metrics: their full names, in the order of `results.json`.
    values: (runs,) by the group's label and the metric; NaN where a run has none.
    published: rows of papers by the group's label.
  """

  task: str
  metrics: tuple[str, ...]
  values: dict[str, dict[str, np.ndarray]]
  published: dict[str, tuple[Compared, ...]]


class Warned(NamedTuple):
  """A kind of warning of a run: the first of them, its step, and how many there were."""

  run: str
  step: int
  warning: str
  count: int


class Cycles(NamedTuple):
  """What a LoAd run went through, and the section `lookahead` of its `results.json`."""

  run: str
  history: History
  results: Mapping[str, Any]


class Run(NamedTuple):
  """A run as it can be repeated.

  Attributes:
    label: of its group.
    workdir: its folder.
    config: None if it left none.
    environment: what it recorded of the machine; empty if nothing.
    command: that it was started with; empty if it recorded none.
  """

  label: str
  workdir: pathlib.Path
  config: dict[str, Any] | None
  environment: dict[str, Any]
  command: str


@dataclasses.dataclass(frozen=True)
class Report:
  """All that a page shows.

  Attributes:
    title: of the page.
    metric: the one by which runs are compared in a sentence.
    baseline: label of the group that others are held against.
    groups: of runs.
    examples: data set, split and number of examples of the evaluation.
    protocols: how metrics were computed.
    scores: by task.
    curves: learning curves.
    health: curves of the critics.
    warnings: of all runs.
    classes: metrics by class, of the groups that have them of the baseline's classes.
    gallery: pictures of held-out examples.
    cycles: of LoAd runs.
    runs: all, in the order of the groups.
    differences: see `differences`.
    notes: what is missing, and why.
    command: that made the report.
  """

  title: str
  metric: str
  baseline: str
  groups: tuple[Group, ...]
  examples: tuple[str, str, int]
  protocols: dict[str, str]
  scores: tuple[Scores, ...]
  curves: tuple[Chart, ...]
  health: tuple[Chart, ...]
  warnings: tuple[Warned, ...]
  classes: tuple[ByClass, ...]
  gallery: Gallery
  cycles: tuple[Cycles, ...]
  runs: tuple[Run, ...]
  differences: dict[str, dict[str, tuple[str, ...]]]
  notes: tuple[str, ...]
  command: str


def collect(
  groups: Sequence[Group],
  *,
  baseline: str | None = None,
  count: int = 6,
  data_root: str | None = None,
  command: Sequence[str] = (),
) -> Report:
  """Reads all that finished runs left; what is missing is a note.

  Args:
    groups: runs that differ in seed.
    baseline: label of the group that others are held against; the first one by default.
    count: of held-out examples in pictures, at most.
    data_root: folder of the data set; the run's own by default.
    command: that makes the report.

  Raises:
    ValueError: the runs were not evaluated on the same examples, labels are not distinct, or the
      baseline is none of them.
  """
  labels = [group.label for group in groups]
  if len({*labels, "input", "truth"}) < len(labels) + 2:
    raise ValueError(
      f"the groups' labels are {', '.join(labels)}; expected different ones, none of them 'input' "
      "or 'truth', as other pictures are called"
    )
  if baseline not in (None, *labels):
    raise ValueError(f"the baseline {baseline!r} is none of the groups: {', '.join(labels)}")
  check_comparable(groups)
  runs, notes = _runs(groups)
  results = groups[0].results()[0]
  examples = tuple(results[key] for key in ("data_set", "split", "examples"))
  metric = _main_metric(runs[0].config, results["metrics"])
  logging = [group for group in groups if _has_log(group)]
  notes += [
    f"{group.label}: a run left no metrics.jsonl, so there are no curves of this group"
    for group in groups
    if group not in logging
  ]
  pictures = gallery(groups, count=count, data_root=data_root)
  shown, strange = _classes(groups, baseline or labels[0])
  return Report(
    title=f"{' · '.join(labels)} on {examples[0]}",
    metric=metric,
    baseline=baseline or labels[0],
    groups=tuple(groups),
    examples=examples,
    protocols=results.get("protocol", {}),
    scores=_scores(groups, runs),
    curves=learning_curves(groups, logging, metric),
    health=health(groups, logging),
    warnings=_warnings(runs),
    classes=shown,
    gallery=pictures,
    cycles=_cycles(logging),
    runs=tuple(runs),
    differences=differences(runs),
    notes=(*notes, *strange, *pictures.notes),
    command=shlex.join(command),
  )


def differences(runs: Sequence[Run]) -> dict[str, dict[str, tuple[str, ...]]]:
  """Settings that are not the same in all runs.

  Returns:
    By dotted key and the group's label the different values in JSON; empty where there is none.
  """
  flat = [(run.label, _flat(run.config)) for run in runs if run.config is not None]
  found = {}
  for key in sorted({key for _, config in flat for key in config}):
    values = [(label, config.get(key, "")) for label, config in flat]
    if len({value for _, value in values}) > 1:
      found[key] = {
        label: tuple(dict.fromkeys(value for other, value in values if other == label))
        for label, _ in values
      }
  return found


def learning_curves(
  groups: Sequence[Group], logging: Sequence[Group], metric: str
) -> tuple[Chart, ...]:
  """The metric and the pixel losses over the steps, of groups that do not look ahead.

  Args:
    groups: all, since a style is a group's place among them.
    logging: those that left a log.
    metric: of the evaluation.
  """
  chosen = [group for group in logging if not is_lookahead(group)]
  names = {name for group in chosen for name in group.logged()}
  metrics = [metric, *sorted(name for name in names if name.startswith("pixel/"))]
  charts = [
    Chart(
      curve_title(name),
      _all_curves({group.label: (groups.index(group), group, name) for group in chosen}),
    )
    for name in metrics
  ]
  return tuple(chart for chart in charts if chart.curves)


def health(groups: Sequence[Group], logging: Sequence[Group]) -> tuple[Chart, ...]:
  """How the critics fare over the steps; see `learning_curves`."""
  players = {}
  for group in logging:
    names = [
      name.removeprefix("gradient/")
      for name in group.logged()
      if name.startswith("gradient/") and name != f"gradient/{PREDICTOR}"
    ]
    for index, name in enumerate(names):
      label = group.label if len(names) == 1 else f"{group.label}: {name}"
      players[label] = groups.index(group) + index * len(groups), group, name
  charts = [
    Chart(
      title,
      _all_curves(
        {
          label: (style, group, form.format(critic))
          for label, (style, group, critic) in players.items()
        }
      ),
      log,
    )
    for title, form, log in _HEALTH
  ]
  return tuple(chart for chart in charts if chart.curves)


def _all_curves(wanted: Mapping[str, tuple[int, Group, str]]) -> tuple[Curve, ...]:
  return tuple(
    curve
    for label, (style, group, metric) in wanted.items()
    for curve in _curves(style, label, group, metric)
  )


def _curves(style: int, label: str, group: Group, metric: str) -> list[Curve]:
  """Of a group one curve; of each run one if they share less than nine tenths of their steps."""
  together = group.curve(metric)
  apart = [Group(label, (workdir,)).curve(metric) for workdir in group.workdirs]
  shared = 10 * len(together[0]) >= 9 * max(len(steps) for steps, _ in apart)
  return [
    Curve(style, label, *_smooth(steps, scale(metric) * values))
    for steps, values in ([together] if shared else apart)
    if len(steps)
  ]


def _smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Means over neighboring steps, where there are too many points to be told apart."""
  parts = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
  means = np.stack([values[:, part].mean(1) for part in parts], 1)
  return np.array([steps[part[-1]] for part in parts]), means


def _runs(groups: Sequence[Group]) -> tuple[list[Run], list[str]]:
  runs, notes = [], []
  for group in groups:
    for workdir in group.workdirs:
      config = None
      if (workdir / "config.json").exists():
        config = read_config(workdir)
      else:
        notes.append(
          f"{group.label}: {workdir / 'config.json'} is missing, so its settings are unknown"
        )
      path = workdir / "environment.json"
      facts = read_json(path) if path.exists() else {}
      command = shlex.join(facts.pop("command", ()))
      runs.append(Run(group.label, workdir, config, facts, command))
  return runs, notes


def _scores(groups: Sequence[Group], runs: Sequence[Run]) -> tuple[Scores, ...]:
  results = {group.label: group.results() for group in groups}
  found = {group: [each["metrics"] for each in of_runs] for group, of_runs in results.items()}
  names = dict.fromkeys(name for metrics in found.values() for each in metrics for name in each)
  by_task: dict[str, list[str]] = {}
  for name in drop_classes(names):
    by_task.setdefault(name.partition("/")[0], []).append(name)
  known = lambda value: float("nan") if value is None else value
  beside = {}
  for run in runs:
    if run.config is not None and run.label not in beside:
      beside[run.label] = compared(run.config, results[run.label][0]["data_set"])
  return tuple(
    Scores(
      task,
      tuple(metrics),
      {
        label: {name: np.array([known(each.get(name)) for each in own]) for name in metrics}
        for label, own in found.items()
      },
      {
        label: tuple(each for each in rows if each.row.values.keys() & set(metrics))
        for label, rows in beside.items()
      },
    )
    for task, metrics in by_task.items()
  )


def _classes(groups: Sequence[Group], baseline: str) -> tuple[tuple[ByClass, ...], list[str]]:
  """The baseline's metrics by class, and notes on groups that have none or of other classes."""
  own = next(group for group in groups if group.label == baseline)
  names = lambda group, metric: set(group_by_class(group.results()[0]["metrics"]).get(metric, ()))
  found, notes = [], []
  for metric in metrics_by_class(own):
    same = [group for group in groups if names(group, metric) == names(own, metric)]
    found.append(read(same, metric))
    notes += [
      f"{group.label} has other classes than {baseline}, and is left out of their tables"
      if names(group, metric)
      else f"{group.label} has no {spelled(metric)} of classes"
      for group in groups
      if group not in same
    ]
  return tuple(found), list(dict.fromkeys(notes))


def _warnings(runs: Sequence[Run]) -> tuple[Warned, ...]:
  """Warnings that differ in numbers alone are of one kind."""
  found = []
  for run in runs:
    path = run.workdir / "warnings.jsonl"
    kinds: dict[str, list[dict]] = {}
    for each in read_jsonl(path):
      kinds.setdefault(re.sub(r"[\d.]+(e[+-]?\d+)?", "", each["warning"]), []).append(each)
    found += [
      Warned(_named(run), kind[0]["step"], kind[0]["warning"], len(kind)) for kind in kinds.values()
    ]
  return tuple(found)


def _cycles(logging: Sequence[Group]) -> tuple[Cycles, ...]:
  return tuple(
    Cycles(f"{group.label}, {workdir.name}", History.read(workdir), results.get("lookahead", {}))
    for group in logging
    if is_lookahead(group)
    for workdir, results in zip(group.workdirs, group.results(), strict=True)
  )


def _main_metric(config: Mapping[str, Any] | None, metrics: Mapping[str, float]) -> str:
  best = config["checkpoint"]["metric"] if config else ""
  return best if best in metrics else next(iter(metrics))


def _has_log(group: Group) -> bool:
  return all((workdir / "metrics.jsonl").exists() for workdir in group.workdirs)


def _named(run: Run) -> str:
  return f"{run.label}, {run.workdir.name}"


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
  flat = flatten_dict(config, sep=".", keep_empty_nodes=True)
  return {key: json.dumps(value, default=lambda _: {}) for key, value in flat.items()}
