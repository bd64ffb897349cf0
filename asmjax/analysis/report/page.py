"""A report as one HTML page, made from the template `page.html.jinja`."""

import importlib.resources
import json
from typing import NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from asmjax.analysis import curves
from asmjax.analysis.classes import ClassScores
from asmjax.analysis.formatting import display_scale, format_change, format_metric, format_value
from asmjax.analysis.lookahead import format_cycle_rows
from asmjax.analysis.report import charts, reproduce
from asmjax.analysis.report.contents import RunReport, TaskScores
from asmjax.analysis.report.pictures import Gallery
from asmjax.analysis.report.summary import summarize_report
from asmjax.metrics.moments import nanmean
from asmjax.metrics.names import metric_direction
from asmjax.utils.printable import printable

_ARROWS = {1: "\N{NO-BREAK SPACE}↑", -1: "\N{NO-BREAK SPACE}↓", 0: ""}

# The parts of a LoAd run's evaluation.
_LOOKAHEAD_PARTS = {
  "decision": "by which everything was decided",
  "rest": "that nothing was decided by",
}


class ScoreCell(NamedTuple):
  """A cell of a table of scores.

  Attributes:
    mean: Mean over the runs.
    is_best: Whether it is the best of its metric.
    change: Difference to the baseline; empty for none.
    trend: "better" or "worse" than the baseline; empty if neither.
    runs: Value of each run; empty for a single one.
  """

  mean: str
  is_best: bool = False
  change: str = ""
  trend: str = ""
  runs: str = ""


def render_page(report: RunReport) -> str:
  """Renders the whole page."""
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_read_file),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
  )
  # The drawings are SVG, whose texts Matplotlib and ElementTree have escaped.
  svg = lambda draw: lambda *args: Markup(draw(*args))
  page = environment.get_template("page.html.jinja").render(
    report=report,
    summary=summarize_report(report),
    style=Markup(_read_file("style.css")),
    script=Markup(_read_file("script.js")),
    score_tables=[_make_score_table(scores, report.baseline) for scores in report.scores],
    class_tables=[_make_class_table(scores, report.baseline) for scores in report.classes],
    compared_pictures=_choose_pictures(report.gallery, report.baseline),
    settings=_split_settings(report),
    lookahead_parts=_LOOKAHEAD_PARTS,
    reproduce=reproduce,
    environments=reproduce.collect_environments(report.runs),
    max_points=curves.MAX_POINTS,
    collect_styles=curves.collect_styles,
    chart_numbers=_list_chart_numbers,
    format_cycle_rows=format_cycle_rows,
    to_json=lambda value: json.dumps(value, indent=2),
    draw_chart_svg=svg(charts.draw_chart_svg),
    draw_legend_swatch=svg(charts.draw_legend_swatch),
    draw_convergence_svg=svg(charts.draw_convergence_svg),
    draw_class_changes_svg=svg(charts.draw_class_changes_svg),
  )
  return printable(page)  # A folder may have bytes in its name that are no UTF-8.


def format_score_cell(
  metric: str, values: np.ndarray, means: np.ndarray, index: int, base: int
) -> ScoreCell:
  """Formats the score of one group.

  Args:
    metric: Name of the metric.
    values: Value of each run of the group.
    means: Mean of each group; NaN for none.
    index: Index of the group in `means`.
    base: Index of the baseline in `means`.
  """
  mean = means[index]
  if np.isnan(mean):
    return ScoreCell("–")
  direction = metric_direction(metric)
  is_contest = direction != 0 and np.isfinite(means).sum() > 1
  change = trend = ""
  if index != base and not np.isnan(means[base]):
    change = format_change(metric, mean - means[base])
    trend = {1: "better", -1: "worse", 0: ""}[int(np.sign((mean - means[base]) * direction))]
  return ScoreCell(
    format_value(metric, mean),
    bool(is_contest and mean == direction * np.nanmax(direction * means)),
    change,
    trend,
    ", ".join(format_value(metric, value) for value in values) if len(values) > 1 else "",
  )


class _PaperRow(NamedTuple):
  """A published row below a group: its source, what differs in its protocol, and its cells."""

  source: str
  differences: str
  cells: list[str]


class _ScoreTable(NamedTuple):
  """Scores of a task: titles by metric, and for each group its cells and its papers' rows."""

  titles: dict[str, str]
  rows: dict[str, tuple[list[ScoreCell], list[_PaperRow]]]
  caption: str


def _make_score_table(scores: TaskScores, baseline: str) -> _ScoreTable:
  base = list(scores.values).index(baseline)
  means = {
    metric: np.array([nanmean(values[metric]) for values in scores.values.values()])
    for metric in scores.metrics
  }
  rows = {}
  for index, (label, values) in enumerate(scores.values.items()):
    cells = [
      format_score_cell(metric, values[metric], means[metric], index, base)
      for metric in scores.metrics
    ]
    papers = [
      _PaperRow(
        match.row.source,
        "; ".join(match.differences),
        [
          format_value(metric, match.row.values[metric]) if metric in match.row.values else ""
          for metric in scores.metrics
        ],
      )
      for match in scores.published.get(label, ())
    ]
    rows[label] = cells, papers
  return _ScoreTable(
    {
      metric: format_metric(metric) + _ARROWS[metric_direction(metric)] for metric in scores.metrics
    },
    rows,
    f"{scores.task}: {_describe_cells(len(rows), baseline)}fractions in per cent",
  )


def _describe_cells(num_rows: int, baseline: str) -> str:
  if num_rows == 1:
    return ""
  return f"means over runs, the change against {baseline}, the value of each run; best means bold; "


class _ClassTable(NamedTuple):
  """A metric by class: a row of cells for each class and one for their mean."""

  scores: ClassScores
  title: str
  caption: str
  rows: list[tuple[str, list[ScoreCell]]]


def _make_class_table(scores: ClassScores, baseline: str) -> _ClassTable:
  base = list(scores.values).index(baseline)
  columns = [scores.with_mean(label) for label in scores.values]
  rows = []
  for name, means in zip((*scores.classes, "mean of classes"), np.stack(columns, 1), strict=True):
    cells = [
      format_score_cell(scores.metric, means[index : index + 1], means, index, base)
      for index in range(len(means))
    ]
    rows.append((name, cells))
  task = scores.metric.partition("/")[0]
  title = f"{format_metric(scores.metric)} of each class"
  title += f" ({task})" if task != "segmentation" else ""
  unit = " in per cent" if display_scale(scores.metric) > 1 else ""
  cells = f", means over runs, and the change against {baseline}" if len(columns) > 1 else ""
  caption = f"{title}{unit}{cells}"
  return _ClassTable(scores, title, caption, rows)


def _choose_pictures(gallery: Gallery, baseline: str) -> tuple[str, str]:
  """Returns the titles of the pictures that sliders compare at first."""
  labels = [label for label, titles in gallery.predictions.items() if titles]
  if not labels:
    return "input", "truth"
  label = baseline if baseline in labels else labels[0]
  left = gallery.predictions[label][0]
  task = left.removesuffix(label)  # "depth: " of several tasks, else nothing.
  of_task = {other: task + other for other in labels if task + other in gallery.predictions[other]}
  of_task.pop(label)
  return left, (f"{task}truth", *of_task.values())[-1]


def _list_chart_numbers(chart: curves.Chart) -> list[tuple[int, list[str]]]:
  """Returns the means of each curve at each step, empty where a curve has none."""
  steps = sorted({step for curve in chart.curves for step in curve.steps.tolist()})
  columns = [
    dict(zip(curve.steps.tolist(), curve.values.mean(0), strict=True)) for curve in chart.curves
  ]
  return [
    (step, [f"{column[step]:.4g}" if step in column else "" for column in columns])
    for step in steps
  ]


def _split_settings(report: RunReport) -> list[dict[str, dict[str, tuple[str, ...]]]]:
  """Splits the differing settings into those of all runs and those that only some runs have."""
  in_all = {
    key: by_label
    for key, by_label in report.differences.items()
    if all(value for values in by_label.values() for value in values)
  }
  in_some = {key: value for key, value in report.differences.items() if key not in in_all}
  return [in_all, in_some]


def _read_file(name: str) -> str:
  folder = importlib.resources.files("asmjax.analysis.report")
  return folder.joinpath(name).read_text(encoding="utf-8")
