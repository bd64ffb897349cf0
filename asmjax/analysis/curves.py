"""Curves of logged metrics over the steps: collected from runs, and drawn with Matplotlib.

Curves differ in dashes and markers as well as in colors.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.formatting import display_scale, format_key, format_metric
from asmjax.analysis.plotting import add_legend, make_panels, save_figure, trim_axes
from asmjax.analysis.runs import Group
from asmjax.game import PREDICTOR

# The colors of Okabe and Ito 2008 without yellow, which is too light for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The numbers of colors, dashes and markers are coprime, so that all combinations come before one
# comes again.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (6, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "X", "*", "P")
# Approximate number of markers on a curve.
_NUM_MARKERS = 8
# Curves of more points are smoothed: a chart of this size cannot resolve them.
MAX_POINTS = 60
# The health of a critic: title, name of a term's metric, and whether its scale is logarithmic.
_HEALTH = (
  ("the discriminator's accuracy on truth, %", "{}/accuracy_real", False),
  ("the discriminator's accuracy on predictions, %", "{}/accuracy_fake", False),
  ("the discriminator's loss on truth", "{}/discriminator_loss_real", True),
  ("the discriminator's loss on predictions", "{}/discriminator_loss_fake", True),
  ("norm of the critic's gradient", "gradient_norm/{}", True),
  ("norm of the term's gradient for the predictor", "gradient_norm_from/{}", True),
)


class Curve(NamedTuple):
  """A curve of one or several runs.

  Attributes:
    style: Number of a line style; curves of one style look the same, in all charts.
    label: Label in the legend.
    steps: Training steps, (t,).
    values: Values of each run, (runs, t); their mean is drawn, and their range as a shade.
  """

  style: int
  label: str
  steps: np.ndarray
  values: np.ndarray


class Chart(NamedTuple):
  """Curves over the steps in one panel.

  Attributes:
    title: Title of the panel.
    curves: Curves to draw.
    log: Whether the vertical axis is logarithmic where values span more than a decade.
  """

  title: str
  curves: tuple[Curve, ...]
  log: bool = False


def read_learning_curves(
  groups: Sequence[Group], metrics: Sequence[str], styles: Mapping[str, int]
) -> tuple[Chart, ...]:
  """Reads a chart for each logged metric, with a curve for each group.

  Args:
    groups: Groups of runs with a `metrics.jsonl`.
    metrics: Names of logged metrics; one that no run has logged gets no chart.
    styles: Line style of each group, by its label; see `number_styles`.
  """
  charts = [
    Chart(
      _make_title(metric),
      tuple(
        curve
        for group in groups
        for curve in read_curves(styles[group.label], group.label, group, metric)
      ),
    )
    for metric in metrics
  ]
  return tuple(chart for chart in charts if chart.curves)


def read_critic_health(groups: Sequence[Group], styles: Mapping[str, int]) -> tuple[Chart, ...]:
  """Reads charts of the critics' health, with a curve for each critic.

  Args:
    groups: Groups of runs with a `metrics.jsonl`.
    styles: Line style of each group, by its label; further critics of a group get further styles.
  """
  critics = []
  for group in groups:
    names = [
      name.removeprefix("gradient_norm/")
      for name in group.read_logged_metrics()
      if name.startswith("gradient_norm/") and name != f"gradient_norm/{PREDICTOR}"
    ]
    for index, name in enumerate(names):
      label = group.label if len(names) == 1 else f"{group.label}: {name}"
      critics.append((styles[group.label] + index * len(styles), label, group, name))
  charts = [
    Chart(
      title,
      tuple(
        curve
        for style, label, group, name in critics
        for curve in read_curves(style, label, group, metric.format(name))
      ),
      log,
    )
    for title, metric, log in _HEALTH
  ]
  return tuple(chart for chart in charts if chart.curves)


def number_styles(groups: Sequence[Group]) -> dict[str, int]:
  """Returns a line style for each group, by its label."""
  return {group.label: style for style, group in enumerate(groups)}


def read_curves(style: int, label: str, group: Group, metric: str) -> list[Curve]:
  """Reads a metric's curve of a group, or one of each run if they log at different steps.

  Runs make one curve if they share nine tenths of their steps. Fractions are in per cent.
  """
  joint = group.read_curve(metric)
  separate = [Group(label, (workdir,)).read_curve(metric) for workdir in group.workdirs]
  is_shared = 10 * len(joint[0]) >= 9 * max(len(steps) for steps, _ in separate)
  return [
    Curve(style, label, *smooth(steps, display_scale(metric) * values))
    for steps, values in ([joint] if is_shared else separate)
    if len(steps)
  ]


def smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Averages neighboring steps where there are more than `MAX_POINTS`.

  Args:
    steps: Steps, (t,).
    values: Values of each run, (runs, t).

  Returns:
    Last steps and means of at most `MAX_POINTS` parts.
  """
  parts = np.array_split(np.arange(len(steps)), min(len(steps), MAX_POINTS))
  means = np.stack([values[:, part].mean(1) for part in parts], 1)
  return np.array([steps[part[-1]] for part in parts]), means


def collect_styles(charts: Sequence[Chart]) -> dict[str, int]:
  """Returns the styles of all curves by label, in the order of the styles."""
  curves = [curve for chart in charts for curve in chart.curves]
  return {curve.label: curve.style for curve in sorted(curves, key=lambda curve: curve.style)}


def make_line_style(style: int) -> dict[str, Any]:
  """Returns the keywords of Matplotlib's `plot` for the number of a style."""
  kinds = {"color": COLORS, "linestyle": DASHES, "marker": MARKERS}
  style_of_kind = {key: values[style % len(values)] for key, values in kinds.items()}
  return {**style_of_kind, "linewidth": 1.6, "markersize": 5}


def draw_chart(axes: Any, chart: Chart) -> None:
  """Draws the curves of a chart on Matplotlib's axes, without title and legend."""
  for curve in chart.curves:
    mean, spacing = curve.values.mean(0), max(len(curve.steps) // _NUM_MARKERS, 1)
    style = make_line_style(curve.style)
    # Offsets, so that the markers of coinciding curves stand beside each other.
    axes.plot(curve.steps, mean, markevery=(curve.style % spacing, spacing), **style)
    if len(curve.values) > 1:
      low, high = curve.values.min(0), curve.values.max(0)
      axes.fill_between(curve.steps, low, high, color=style["color"], alpha=0.15, linewidth=0)
  values = np.concatenate([curve.values.ravel() for curve in chart.curves])
  # Linear within a decade, where a logarithmic axis has hardly a tick.
  if chart.log and 0 < 10 * values.min() < values.max():
    axes.set_yscale("log")
  trim_axes(axes)
  axes.set_xlabel("step")


def save_charts(charts: Sequence[Chart], path: pathlib.Path) -> None:
  """Draws charts in panels of one figure, with a common legend.

  Args:
    charts: Charts to draw; without any, nothing is written.
    path: Path of the PNG file to write.
  """
  from matplotlib.lines import Line2D

  if not charts:
    return
  num_columns = min(2, len(charts))
  num_rows = -(-len(charts) // num_columns)
  size = (7, 4.2) if len(charts) == 1 else (5.5 * num_columns, 3.2 * num_rows + 0.4)
  figure, panels = make_panels(len(charts), num_columns, size)
  for axes, chart in zip(panels, charts, strict=True):
    draw_chart(axes, chart)
    axes.set_title(chart.title, fontsize=10)
  styles = collect_styles(charts).items()
  handles = [Line2D([], [], label=label, **make_line_style(style)) for label, style in styles]
  add_legend(figure, 4, handles)
  save_figure(figure, path, dpi=110)


def _make_title(metric: str) -> str:
  kind, _, name = metric.partition("/")
  if kind == "pixel":
    return f"pixel loss of {format_key(name)}"
  unit = ", %" if display_scale(metric) > 1 else ""
  return f"{format_metric(metric)} of validation examples{unit}"
