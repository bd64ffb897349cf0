"""Metrics by class against a baseline, in tables and bars."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.comparison import MetricColumn
from asmjax.analysis.curves import COLORS
from asmjax.analysis.formatting import display_scale, markdown_table
from asmjax.analysis.plotting import save_figure
from asmjax.analysis.runs import Group
from asmjax.metrics.moments import nanmean
from asmjax.metrics.names import group_by_class, metric_direction

# Metrics that papers list by class: IoUs and boundaries (Ke et al. 2018, Tables 2 to 9; Hwang et
# al. 2019, Fig. 6), and depths and normals of instances (Hwang et al. 2019, Fig. 7).
_USUAL = (
  "segmentation/iou",
  "segmentation/instance/iou",
  "segmentation/boundary/precision",
  "segmentation/boundary/recall",
  "segmentation/boundary/f",
  "depth/instance/delta_1.25",
  "normals/instance/within_11.25",
)
# Hatches, so that bars can be distinguished without colors, too.
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")


class ClassScores(NamedTuple):
  """Values of a metric by class, for several groups of runs.

  Attributes:
    metric: Name of the metric without the class, as in "segmentation/boundary/precision".
    classes: Names of the c classes.
    values: Mean over the runs in which a class has a value, (c,), by the group's label; NaN for a
      class without values.
    means: Mean over the classes of a run that have a value, then over runs, by the group's label.
  """

  metric: str
  classes: tuple[str, ...]
  values: dict[str, np.ndarray]
  means: dict[str, float]

  def with_mean(self, label: str) -> np.ndarray:
    """Returns a group's values by class and, last, their mean, (c + 1,)."""
    return np.append(self.values[label], self.means[label])


def select_class_metrics(groups: Sequence[Group]) -> list[str]:
  """Selects the metrics by class that papers list and the first runs of all groups have."""
  metrics = [group_by_class(group.read_results()[0]["metrics"]) for group in groups]
  return [metric for metric in _USUAL if all(metric in by_class for by_class in metrics)]


def read_class_scores(groups: Sequence[Group], metric: str) -> ClassScores:
  """Reads the final values of a metric by class.

  Args:
    groups: Groups of finished runs.
    metric: Name of the metric without the class, as in "segmentation/iou".

  Raises:
    ValueError: The groups have different classes, or none with this metric.
  """
  by_run = {group.label: _read_runs(group, metric) for group in groups}
  classes = {label: tuple(runs[0]) for label, runs in by_run.items()}
  if len({frozenset(names) for names in classes.values()}) > 1 or not all(classes.values()):
    listing = ", ".join(f"{label} of {sorted(names)}" for label, names in classes.items())
    raise ValueError(f"{metric} by class: {listing}; expected the same classes, at least one")
  names = next(iter(classes.values()))
  values = {
    label: np.array([[run[name] for name in names] for run in runs])
    for label, runs in by_run.items()
  }
  return ClassScores(
    metric,
    names,
    {label: np.array([nanmean(column) for column in runs.T]) for label, runs in values.items()},
    {label: float(np.mean([nanmean(run) for run in runs])) for label, runs in values.items()},
  )


def format_class_table(baseline: Group, group: Group, metric: str = "segmentation/iou") -> str:
  """Formats a Markdown table of a metric by class, means over runs, by descending gain.

  Fractions are in per cent. A class without a value in any run of a group comes last.

  Args:
    baseline: Group of runs to compare with.
    group: Group of runs whose gains are listed.
    metric: Name of the metric without the class; "segmentation/iou" by default.

  Raises:
    ValueError: The groups have different classes, or none with this metric.
  """
  scores = read_class_scores([baseline, group], metric)
  before, after = scores.with_mean(baseline.label), scores.with_mean(group.label)
  gain, direction = after - before, metric_direction(metric) or 1
  order = sorted(
    range(len(scores.classes)), key=lambda i: (np.isnan(gain[i]), -direction * gain[i])
  )
  names, column = [*scores.classes, "**mean**"], MetricColumn.parse(metric)
  rows = [
    [names[i], column.format(before[i]), column.format(after[i]), column.format(gain[i], "+")]
    for i in (*order, len(order))
  ]
  return markdown_table([metric, baseline.label, group.label, "difference"], rows)


def save_changes(scores: Sequence[ClassScores], baseline: str, path: pathlib.Path) -> None:
  """Draws the changes of each class against a baseline, a panel for each metric.

  As Hwang et al. 2019, Fig. 6 and 7.

  Args:
    scores: Values by class of each metric; at least one.
    baseline: Label of the group that the others are compared with.
    path: Path of the PNG file to write.
  """
  from matplotlib.figure import Figure

  num_bars = max((len(metric.classes) + 1) * len(metric.values) for metric in scores)
  width = max(4.5, 0.12 * num_bars + 1.5)
  figure = Figure(figsize=(width, 3.2 * len(scores)), layout="constrained")
  for axes, metric in zip(figure.subplots(len(scores), squeeze=False).flat, scores, strict=True):
    draw_changes(axes, metric, baseline)
    axes.set_title(metric.metric, fontsize=10)
    axes.legend(frameon=False, fontsize=8, ncols=3)
  save_figure(figure, path, dpi=120)


def draw_changes(axes: Any, scores: ClassScores, baseline: str) -> None:
  """Draws bars of the changes against the group with the label `baseline`, class by class.

  Classes are in the order of the first group's gains, descending, with the mean as the last one.
  """
  changes = {
    label: scores.with_mean(label) - scores.with_mean(baseline)
    for label in scores.values
    if label != baseline
  }
  first = metric_direction(scores.metric) * next(iter(changes.values()))[:-1]
  order = [*np.argsort(np.where(np.isnan(first), np.inf, -first), kind="stable"), len(first)]
  names = [*scores.classes, "mean"]
  width = 0.8 / len(changes)
  labels = list(scores.values)
  for index, (label, change) in enumerate(changes.items()):
    axes.bar(
      np.arange(len(order)) + (index - (len(changes) - 1) / 2) * width,
      display_scale(scores.metric) * change[order],
      width,
      label=label,
      color=COLORS[labels.index(label) % len(COLORS)],
      hatch=_HATCHES[index % len(_HATCHES)],
      edgecolor="white",
      linewidth=0,
    )
  axes.axhline(0, color="black", linewidth=0.8)
  axes.set_xticks(range(len(order)), [names[i] for i in order], rotation=90, fontsize=8)
  unit = "points of per cent" if display_scale(scores.metric) > 1 else "difference"
  axes.set_ylabel(f"{unit}{', less is better' * (metric_direction(scores.metric) < 0)}", fontsize=8)
  axes.tick_params(length=0)
  axes.grid(axis="y", alpha=0.3)
  axes.set_axisbelow(True)


def _read_runs(group: Group, metric: str) -> list[dict[str, float]]:
  """Reads values by class of each run; NaN where a class of the first run has none."""
  runs = [group_by_class(results["metrics"]).get(metric, {}) for results in group.read_results()]
  return [{name: run.get(name, math.nan) for name in runs[0]} for run in runs]
