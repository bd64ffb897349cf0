"""Charts as inline SVG, whose curves dashes and markers tell apart as well as colors do."""

import io
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from asmjax.analysis.classes import COLORS, ByClass, panel
from asmjax.analysis.lookahead import History, convergence_panel

# No two of the lengths of these and of the colors have a common divisor, so that all combinations
# come before one comes again.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (6, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "X", "*", "P")

# Markers on a curve, about.
_MARKS = 8
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


class Curve(NamedTuple):
  """A curve of one or several runs.

  Attributes:
    style: curves of one style look the same, in all charts.
    label: of the curve in the legend.
    steps: (t,).
    values: (runs, t); their mean is drawn, and their range as a shade.
  """

  style: int
  label: str
  steps: np.ndarray
  values: np.ndarray


class Chart(NamedTuple):
  """Curves over the steps; `log` asks for a logarithmic scale if values span more than a decade."""

  title: str
  curves: tuple[Curve, ...]
  log: bool = False


def draw(chart: Chart, prefix: str) -> str:
  """The SVG of a chart, without a legend.

  Args:
    chart: to draw.
    prefix: of all ids, different in each SVG of a page.
  """
  from matplotlib.figure import Figure

  figure = Figure(figsize=(4.6, 2.9), layout="constrained")
  axes = figure.subplots()
  for curve in chart.curves:
    mean, every = curve.values.mean(0), max(len(curve.steps) // _MARKS, 1)
    # Marks of curves that lie on each other stand beside each other.
    axes.plot(curve.steps, mean, markevery=(curve.style % every, every), **_style(curve.style))
    if len(curve.values) > 1:
      low, high = curve.values.min(0), curve.values.max(0)
      axes.fill_between(
        curve.steps, low, high, color=_style(curve.style)["color"], alpha=0.15, linewidth=0
      )
  values = np.concatenate([curve.values.ravel() for curve in chart.curves])
  # Within a decade a logarithmic axis has hardly a tick.
  if chart.log and 0 < 10 * values.min() < values.max():
    axes.set_yscale("log")
  _plain(axes)
  axes.set_xlabel("step")
  last = ", ".join(f"{each.label} {each.values.mean(0)[-1]:.4g}" for each in chart.curves)
  return _inlined(figure, prefix, f"{chart.title} over the steps. At the end: {last}.")


def swatch(style: int, prefix: str) -> str:
  """The SVG of a piece of a curve, for a legend; see `draw`."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(0.6, 0.2))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.plot((0, 1, 2), (0, 0, 0), markevery=(1, 2), **_style(style))
  axes.set_axis_off()
  return _inlined(figure, prefix)


def convergence(history: History, prefix: str, name: str) -> str:
  """The SVG of a LoAd run's hold-out mIoU over the propagations; see `draw`.

  Args:
    history: of the run.
    prefix: of all ids.
    name: of the run.
  """
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.4, 3.3), layout="constrained")
  axes = figure.subplots()
  convergence_panel(axes, history)
  _plain(axes)
  axes.locator_params("x", integer=True)
  handles = {each.get_label(): each for each in axes.get_legend_handles_labels()[0]}
  figure.legend(
    handles=list(handles.values()), loc="outside lower center", ncols=3, fontsize=8, frameon=False
  )
  return _inlined(
    figure,
    prefix,
    f"Hold-out mean IoU of {name} over {sum(len(each.models) for each in history.cycles)} "
    f"propagations in {len(history.cycles)} cycles, from {100 * history.start.miou:.2f} % to "
    f"{100 * history.best.miou:.2f} % at its best.",
  )


def class_changes(found: ByClass, baseline: str, prefix: str, title: str) -> str:
  """The SVG of bars of each class's change against a baseline; see `draw`."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.2, 3.1), layout="constrained")
  axes = figure.subplots()
  panel(axes, found, baseline)
  _plain(axes)
  figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
  return _inlined(figure, prefix, f"{title}. The table has the numbers.")


def _style(style: int) -> dict:
  pick = lambda values: values[style % len(values)]
  return {
    "color": pick(COLORS),
    "linestyle": pick(DASHES),
    "marker": pick(MARKERS),
    "linewidth": 1.6,
    "markersize": 5,
  }


def _plain(axes) -> None:
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(length=2)


def _inlined(figure, prefix: str, description: str = "") -> str:
  """A Matplotlib figure as an element of a page; without a description it is an ornament."""
  from matplotlib import rc_context

  buffer = io.BytesIO()
  with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
    figure.savefig(buffer, format="svg", transparent=True)
  root = ElementTree.fromstring(buffer.getvalue())
  size = root.get("viewBox").split()[2:]
  _clean(root, prefix)
  root.attrib = {"viewBox": root.get("viewBox"), "width": size[0], "height": size[1]}
  root.attrib |= (
    {"role": "img", "aria-label": description} if description else {"aria-hidden": "true"}
  )
  return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(root: ElementTree.Element, prefix: str) -> None:
  """Leaves what HTML needs: no namespaces, no ids but those referred to, and the page's colors."""
  referred = set(
    re.findall(
      r"#([\w.-]+)",
      " ".join(
        value
        for each in root.iter()
        for key, value in each.items()
        if key in (_LINK, "clip-path", "style")
      ),
    )
  )
  for parent in list(root.iter()):
    for child in list(parent):
      if child.tag.endswith(("metadata", "style")):
        parent.remove(child)
  for element in root.iter():
    element.tag = element.tag.removeprefix(_SVG)
    name = element.attrib.pop("id", None)
    if name in referred:
      element.set("id", f"{prefix}-{name}")
    if link := element.attrib.pop(_LINK, None):
      element.set("href", f"#{prefix}-{link[1:]}")
    if clip := element.get("clip-path"):
      element.set("clip-path", clip.replace("#", f"#{prefix}-"))
    if style := element.get("style"):
      style = style.replace("url(#", f"url(#{prefix}-")
      element.set("style", _in_colors_of_page(style))
    if path := element.get("d"):
      element.set("d", _short(path))


def _in_colors_of_page(style: str) -> str:
  style = re.sub(r"font-family:[^;]*;?\s*|stroke-linejoin: round;?\s*", "", style)
  style = re.sub(r"(font: [\d.]+px)[^;]*", r"\1 sans-serif", style)
  return style.replace("#000000", "currentColor").replace("#ffffff", "var(--paper)")


def _short(path: str) -> str:
  """A path in hundredths of a point."""
  return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}", " ".join(path.split()))


def legend(curves: Sequence[Curve]) -> dict[str, int]:
  """Styles by label, each once, in the order of the styles."""
  return {curve.label: curve.style for curve in sorted(curves, key=lambda curve: curve.style)}
