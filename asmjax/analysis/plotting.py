"""Panels, axes and legends of figures."""

import pathlib
import warnings
from collections.abc import Iterable
from typing import IO, Any

from asmjax.utils.printable import printable

# Group of the texts that are formulas; all others are shown as they are.
FORMULA = "formula"


def make_panels(count: int, num_columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
  """Makes a Matplotlib figure with a number of panels in rows.

  Args:
    count: Number of panels.
    num_columns: Number of panels in a row.
    size: Width and height of the figure in inches.

  Returns:
    Figure, and the axes of its panels.
  """
  from matplotlib.figure import Figure

  figure = Figure(figsize=size, layout="constrained")
  panels = figure.subplots(-(-count // num_columns), num_columns, squeeze=False).ravel()
  for axes in panels[count:]:
    axes.axis("off")
  return figure, list(panels[:count])


def trim_axes(axes: Any) -> None:
  """Gives Matplotlib's axes a faint grid and no frame at the top and the right."""
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(length=2)


def add_legend(figure: Any, num_columns: int, handles: Iterable[Any] | None = None) -> None:
  """Adds a legend below all panels of a Matplotlib figure, with one entry for each label.

  Args:
    figure: Figure to draw on.
    num_columns: Number of columns of the legend.
    handles: Entries of the legend; None, the default, for those of all panels.
  """
  if handles is None:
    handles = (handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0])
  by_label = {handle.get_label(): handle for handle in handles}
  figure.legend(
    handles=list(by_label.values()),
    loc="outside lower center",
    ncols=num_columns,
    fontsize=8,
    frameon=False,
  )


def save_figure(figure: Any, path: pathlib.Path | IO[bytes], **options: Any) -> None:
  """Saves a Matplotlib figure whose texts may be from elsewhere, such as names of classes.

  They are no formulas, whatever dollars they hold, unless their group (`gid`) is `FORMULA`;
  characters that the font lacks become boxes.

  Args:
    figure: Figure to save.
    path: Path of the file to write, or an open file.
    **options: Further arguments of `matplotlib.figure.Figure.savefig`.
  """
  from matplotlib.text import Text

  for text in figure.findobj(Text):
    text.set_text(printable(text.get_text()))
    if "$" in text.get_text():
      text.set_parse_math(text.get_gid() == FORMULA)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
    figure.savefig(path, **options)
