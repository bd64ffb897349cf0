"""Metrics by class against a baseline, in tables and bars."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.curves import COLORS
from asmjax.analysis.formatting import display_scale, format_number, metric_direction
from asmjax.analysis.runs import Group
from asmjax.metrics.moments import nanmean
from asmjax.metrics.names import group_by_class

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

  def changes(self, baseline: str) -> dict[str, np.ndarray]:
    """Computes the differences of all other groups from a baseline.

    Args:
      baseline: Label of the group to subtract.

    Returns:
      Differences by class and, last, of the means, (c + 1,), by the group's label.
    """
    rows = {label: self.with_mean(label) for label in self.values}
    return {label: row - rows[baseline] for label, row in rows.items() if label != baseline}

  def with_mean(self, label: str) -> np.ndarray:
    """Returns a group's values by class and, last, their mean, (c + 1,)."""
    return np.append(self.values[label], self.means[label])


def usual_classes(groups: Sequence[Group]) -> list[str]:
  """Selects the usual metrics by class, in the order of the papers, that all groups have."""
  shared = set.intersection(*(set(metrics_by_class(group)) for group in groups))
  return [metric for metric in _USUAL if metric in shared]


def metrics_by_class(group: Group) -> list[str]:
  """Reads the names of all metrics that a group's first run has by class."""
  return list(group_by_class(group.results()[0]["metrics"]))


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


def class_table(baseline: Group, group: Group, metric: str = "segmentation/iou") -> str:
  """Formats a Markdown table of a metric by class, means over runs, by descending gain.

  Metrics that are parts of a total, such as IoUs, are in per cent. A class without a value in any
  run of a group comes last.

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
  names = [*scores.classes, "**mean**"]
  lines = [
    [names[i], _format(metric, before[i]), _format(metric, after[i]), _format(metric, gain[i], "+")]
    for i in (*order, len(order))
  ]
  head = [metric, baseline.label, group.label, "difference"]
  return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * 4, *lines))


def save_changes(scores: Sequence[ClassScores], baseline: str, path: pathlib.Path) -> None:
  """Draws the changes of each class against a baseline, a panel for each metric.

  As Hwang et al. 2019, Fig. 6 and 7.

  Args:
    scores: Values by class of each metric; at least one.
    baseline: Label of the group that the others are compared with.
    path: Path of the PNG file to write.
  """
  from matplotlib.figure import Figure

  width = max(4.5, 0.12 * max(map(_count_bars, scores)) + 1.5)
  figure = Figure(figsize=(width, 3.2 * len(scores)), layout="constrained")
  for axes, metric in zip(figure.subplots(len(scores), squeeze=False).flat, scores, strict=True):
    draw_changes(axes, metric, baseline)
    axes.set_title(metric.metric, fontsize=10)
    axes.legend(frameon=False, fontsize=8, ncols=3)
  figure.savefig(path, dpi=120)


def draw_changes(axes: Any, scores: ClassScores, baseline: str) -> None:
  """Draws bars of the changes of each class and of the mean, by descending gain of the first group.

  Args:
    axes: Matplotlib axes to draw on.
    scores: Values of a metric by class.
    baseline: Label of the group that the others are compared with.
  """
  changes = scores.changes(baseline)
  first = metric_direction(scores.metric) * next(iter(changes.values()))[:-1]
  order = [*np.argsort(np.where(np.isnan(first), np.inf, -first), kind="stable"), len(first)]
  names = [*scores.classes, "mean"]
  width = 0.8 / len(changes)
  for place, (label, change) in enumerate(changes.items()):
    style = list(scores.values).index(label)
    axes.bar(
      np.arange(len(order)) + (place - (len(changes) - 1) / 2) * width,
      display_scale(scores.metric) * change[order],
      width,
      label=label,
      color=COLORS[style % len(COLORS)],
      hatch=_HATCHES[place % len(_HATCHES)],
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


def _count_bars(scores: ClassScores) -> int:
  return (len(scores.classes) + 1) * len(scores.values)


def _read_runs(group: Group, metric: str) -> list[dict[str, float]]:
  """Reads values by class of each run; NaN where a class of the first run has none."""
  runs = [group_by_class(results["metrics"]).get(metric, {}) for results in group.results()]
  to_number = lambda value: float("nan") if value is None else value  # JSON has no NaN.
  return [{name: to_number(run.get(name)) for name in runs[0]} for run in runs]


def _format(metric: str, value: float, sign: str = "") -> str:
  if np.isnan(value):
    return "–"
  value *= display_scale(metric)
  text = f"{abs(value):.2f}" if display_scale(metric) > 1 else format_number(abs(value))
  return ("-" if value < 0 else sign) + text
