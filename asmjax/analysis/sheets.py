"""Sheets of pictures and maps of losses: columns of the same examples, in blocks with titles."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

# Percentile at which colors end, as with the maximum a few pixels would leave all others dark.
_BRIGHTEST = 99
# Widths of a picture, and of an entry of the legend, in inches.
_WIDTH, _LEGEND_WIDTH = 1.5, 1.1
# Position of the names of rows, which read upward.
_BESIDE = {"rotation": "vertical", "ha": "right", "va": "center"}


class Scale(NamedTuple):
  """Color scale of losses.

  Attributes:
    low: Loss that is drawn in black.
    high: Loss from which on the color is the brightest.
    label: Text below the color bar.
    mark: Loss to mark in the color bar; 0 for none.
  """

  low: float
  high: float
  label: str = ""
  mark: float = 0.0

  @classmethod
  def of(cls, *maps: np.ndarray, label: str = "", mark: float = 0.0) -> "Scale":
    """Makes the scale from 0, or the minimum if that is negative, to the 99th percentile.

    Args:
      *maps: Losses that share the scale; NaN where there is none.
      label: Text below the color bar; empty for none.
      mark: Loss to mark in the color bar; 0 for none.
    """
    losses = np.concatenate([values[np.isfinite(values)] for values in maps])
    low, high = (min(losses.min(), 0), np.percentile(losses, _BRIGHTEST)) if losses.size else (0, 1)
    return cls(float(low), max(float(high), float(low) + 1e-6), label, mark)


class Column(NamedTuple):
  """Column of a block.

  Attributes:
    title: Title above the column.
    rows: Pictures uint8 (n, h, w, 3), or losses (n, h2, w2), NaN where there is none.
    scale: Colors of losses; None for pictures.
  """

  title: str
  rows: np.ndarray
  scale: Scale | None = None


class Block(NamedTuple):
  """Columns of the same examples.

  Attributes:
    title: Title above the block; empty for none.
    columns: Columns to draw, all in the shape of the photos in the first one.
    note: Text below the block; empty for none.
    names: Name of each row, beside it; none by default.
  """

  title: str
  columns: Sequence[Column]
  note: str = ""
  names: Sequence[str] = ()

  @property
  def has_losses(self) -> bool:
    """Whether a column needs a color bar."""
    return any(column.scale for column in self.columns)


def draw_sheet(
  blocks: Sequence[Block], legend: Mapping[str, tuple[int, int, int]] = MappingProxyType({})
) -> Any:
  """Draws blocks below each other, with a color bar below each column of losses.

  Args:
    blocks: Blocks from top to bottom.
    legend: Colors (r, g, b) in 0..255 by name, to list below the last block; none by default.

  Returns:
    Matplotlib figure.
  """
  from matplotlib.figure import Figure

  num_columns = max(len(block.columns) for block in blocks)
  heights = [_compute_height(block) for block in blocks]
  width = _WIDTH * num_columns
  figure = Figure(figsize=(width, sum(heights) + legend_height(legend, width)))
  figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
  parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False).ravel()
  for part, block in zip(parts, blocks, strict=True):
    if block.title:
      part.suptitle(block.title, fontsize=10, fontweight="bold")
    if block.note:
      part.supxlabel(block.note, fontsize=9)
    _draw_block(part, block, num_columns)
  draw_legend(figure, legend)
  return figure


def legend_height(legend: Mapping[str, Any], width: float) -> float:
  """Returns the height in inches of a legend in a figure of a width in inches; 0 without one."""
  return 0.25 * math.ceil(len(legend) / _count_legend_columns(width)) if legend else 0.0


def draw_legend(figure: Any, legend: Mapping[str, tuple[int, int, int]]) -> None:
  """Draws colors (r, g, b) in 0..255 by name below all panels of a figure; nothing without any."""
  from matplotlib.patches import Patch

  if not legend:
    return

  patches = [
    Patch(facecolor=(red / 255, green / 255, blue / 255), edgecolor="0.5", lw=0.5, label=name)
    for name, (red, green, blue) in legend.items()
  ]
  options = {"loc": "outside lower center", "fontsize": 8, "frameon": False, "handlelength": 1}
  columns = _count_legend_columns(figure.get_size_inches()[0])
  figure.legend(handles=patches, ncols=columns, **options)


def _count_legend_columns(width: float) -> int:
  return max(int(width / _LEGEND_WIDTH), 1)


def _compute_height(block: Block) -> float:
  count, height, width, _ = block.columns[0].rows.shape
  texts = 0.35 + 0.2 * (bool(block.title) + bool(block.note)) + 0.45 * block.has_losses
  return _WIDTH * count * height / width + texts


def _draw_block(part: Any, block: Block, num_columns: int) -> None:
  """Draws a block in a subfigure, as wide as the others, so that photos are of one size."""
  count, height, width, _ = block.columns[0].rows.shape
  ratios = [height / width] * count + [0.06] * block.has_losses
  grid = part.subplots(len(ratios), num_columns, squeeze=False, height_ratios=ratios)
  for axes in grid.flat:
    axes.axis("off")
  for axes, name in zip(grid[:, 0], block.names, strict=False):
    axes.text(-0.03, 0.5, name, transform=axes.transAxes, fontsize=6, **_BESIDE)
  for panels, column in zip(grid.T, block.columns, strict=False):
    panels[0].set_title(column.title, fontsize=9)
    style = _make_color_style(column.scale) if column.scale else {}
    for axes, row in zip(panels, column.rows, strict=False):
      # All maps are drawn at the size of the photo, whatever their stride.
      image = axes.imshow(row, extent=(0, width, height, 0), interpolation="nearest", **style)
    if column.scale:
      panels[-1].axis("on")
      _draw_bar(part, image, panels[-1], column.scale)


def _make_color_style(scale: Scale) -> dict[str, Any]:
  from matplotlib import colormaps
  from matplotlib.colors import PowerNorm

  # Colors by the square root, so that small losses are visible.
  shade = PowerNorm(0.5, scale.low, scale.high, clip=True)
  return {"cmap": colormaps["inferno"].with_extremes(bad="0.5"), "norm": shade}


def _draw_bar(part: Any, image: Any, axes: Any, scale: Scale) -> None:
  bar = part.colorbar(image, cax=axes, orientation="horizontal", extend="max")
  ticks = scale.low + (scale.high - scale.low) * np.array([0, 0.25, 1])
  thousands = scale.high >= 1000
  labels = [f"{tick / 1000:.3g}k" if thousands and tick else f"{tick:.2g}" for tick in ticks]
  bar.set_ticks(ticks, labels=labels, fontsize=7)
  # Labels stay within the bar, so that those of neighboring bars do not overlap.
  for label, side in zip(bar.ax.get_xticklabels(), ("left", "center", "right"), strict=True):
    label.set_horizontalalignment(side)
  bar.set_label(scale.label, fontsize=8)
  if scale.low < scale.mark < scale.high:
    bar.ax.axvline(scale.mark, color="cyan", linewidth=2)
