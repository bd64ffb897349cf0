"""Charts as inline SVG for a page.

All ids of a chart begin with its `prefix`, which is different in each chart of a page.
"""

import io
import re
from typing import Any
from xml.etree import ElementTree

from asmjax.analysis.classes import ClassScores, draw_changes
from asmjax.analysis.curves import Chart, draw_chart, make_line_style
from asmjax.analysis.lookahead import History
from asmjax.analysis.lookahead_figures import draw_convergence
from asmjax.analysis.plotting import add_legend, save_figure, trim_axes

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def draw_chart_svg(chart: Chart, prefix: str) -> str:
  """Draws a chart as SVG, without a legend."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(4.6, 2.9), layout="constrained")
  draw_chart(figure.subplots(), chart)
  last = ", ".join(f"{curve.label} {curve.values.mean(0)[-1]:.4g}" for curve in chart.curves)
  return _to_svg(figure, prefix, f"{chart.title} over the steps. At the end: {last}.")


def draw_legend_swatch(style: int, prefix: str) -> str:
  """Draws a piece of a curve of a line style as SVG, for a legend."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(0.6, 0.2))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.plot((0, 1, 2), (0, 0, 0), markevery=(1, 2), **make_line_style(style))
  axes.set_axis_off()
  return _to_svg(figure, prefix)


def draw_convergence_svg(history: History, prefix: str, name: str) -> str:
  """Draws a LoAd run's mIoU on the decision split over the propagations as SVG."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.4, 3.3), layout="constrained")
  axes = figure.subplots()
  draw_convergence(axes, history)
  axes.locator_params("x", integer=True)
  add_legend(figure, 3)
  num_propagations = sum(len(cycle.models) for cycle in history.cycles)
  description = (
    f"Mean IoU of {name} on the decision split over {num_propagations} propagations in "
    f"{len(history.cycles)} cycles, from {100 * history.start.miou:.2f} % to "
    f"{100 * history.best.miou:.2f} % at its best."
  )
  return _to_svg(figure, prefix, description)


def draw_class_changes_svg(scores: ClassScores, baseline: str, prefix: str, title: str) -> str:
  """Draws bars of each class's change against the group with the label `baseline` as SVG."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.2, 3.1), layout="constrained")
  axes = figure.subplots()
  draw_changes(axes, scores, baseline)
  trim_axes(axes)
  add_legend(figure, 4)
  return _to_svg(figure, prefix, f"{title}. The table has the numbers.")


def _to_svg(figure: Any, prefix: str, description: str = "") -> str:
  """Returns a figure as an element of a page; without a description it is an ornament."""
  from matplotlib import rc_context

  buffer = io.BytesIO()
  with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
    save_figure(figure, buffer, format="svg", transparent=True)
  root = ElementTree.fromstring(buffer.getvalue())
  view_box = root.attrib["viewBox"]
  _, _, width, height = view_box.split()
  _clean(root, prefix)
  label = {"role": "img", "aria-label": description} if description else {"aria-hidden": "true"}
  root.attrib = {"viewBox": view_box, "width": width, "height": height, **label}
  return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(root: ElementTree.Element, prefix: str) -> None:
  """Leaves what HTML needs: no namespaces, no ids but those referred to, and the page's colors."""
  references = " ".join(
    value
    for element in root.iter()
    for key, value in element.items()
    if key in (_LINK, "clip-path", "style")
  )
  referred = set(re.findall(r"#([\w.-]+)", references))
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
      element.set("style", _use_page_colors(style))
    if path := element.get("d"):
      element.set("d", _round_path(path))


def _use_page_colors(style: str) -> str:
  style = re.sub(r"font-family:[^;]*;?\s*|stroke-linejoin: round;?\s*", "", style)
  style = re.sub(r"(font: [\d.]+px)[^;]*", r"\1 sans-serif", style)
  return style.replace("#000000", "currentColor").replace("#ffffff", "var(--paper)")


def _round_path(path: str) -> str:
  """Rounds the coordinates of a path to hundredths of a point."""
  return re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.2f}", " ".join(path.split()))
