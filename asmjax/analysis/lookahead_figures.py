"""Figures of LoAd runs: convergence, and albums of predictions (Jamali-Rad and Szabo 2022)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.analysis.lookahead import END_TEXTS, History, ModelRecord
from asmjax.analysis.plotting import FORMULA, add_legend, make_panels, save_figure, trim_axes
from asmjax.analysis.runs import Group
from asmjax.analysis.sheets import Block, Column, draw_sheet
from asmjax.config.run_dir import read_descriptor
from asmjax.data.wrappers import spread_indices
from asmjax.lookahead.state import End

# Largest number of models in an album.
_MAX_MODELS = 8
# Shapes, so that the reasons can be distinguished without colors, too.
_END_MARKERS = {End.DROP: "v", End.PATIENCE: "o", End.BUDGET: "D"}


def save_convergence(groups: Sequence[Group], path: pathlib.Path) -> None:
  """Draws the mIoU on the decision split over the propagations (Fig. 3), a panel for each run.

  Args:
    groups: Groups of LoAd runs.
    path: Path of the PNG file to write.
  """
  runs = [(group, workdir) for group in groups for workdir in group.workdirs]
  num_columns = 1 if len(runs) < 4 else 2
  num_rows = -(-len(runs) // num_columns)
  size = 5 + 4 * num_columns, 3 * num_rows + 0.4
  figure, panels = make_panels(len(runs), num_columns, size)
  for axes, (group, workdir) in zip(panels, runs, strict=True):
    draw_convergence(axes, History.read(workdir))
    is_single = len(group.workdirs) == 1
    axes.set_title(group.label if is_single else f"{group.label}, {workdir.name}", fontsize=10)
  add_legend(figure, 7)
  save_figure(figure, path, dpi=150)


def draw_convergence(axes: Any, history: History) -> None:
  """Draws a run: a line for each cycle, named marks of models, and dashed lines of steps back."""
  for cycle in history.cycles:
    origin = cycle.origin._replace(propagation=cycle.models[0].propagation - 1)
    (line,) = axes.plot(*_get_points([origin, *cycle.models]), color="0.45", linewidth=1, zorder=1)
    if cycle.back_to:
      target = cycle.back_to._replace(propagation=cycle.ending.propagation)
      (jump,) = axes.plot(
        *_get_points([cycle.ending, target]), "--", color="tab:purple", linewidth=0.7, zorder=0
      )
      jump.set_label("step back")
    line.set_label("cycle")
  _draw_marks(axes, [history.start], "s", "start", color="black", markersize=5, zorder=3)
  _draw_marks(axes, history.peaks, "^", "new peak", color="tab:green", markersize=5, zorder=3)
  # Large and hollow, so that the mark of a peak that ends its cycle is visible inside.
  style = {"color": "tab:red", "markersize": 7, "markerfacecolor": "white", "zorder": 2}
  for end, marker in _END_MARKERS.items():
    endings = [cycle.ending for cycle in history.cycles if cycle.end is end]
    _draw_marks(axes, endings, marker, f"ending: {END_TEXTS[end]}", **style)
  axes.set(xlabel="propagations", ylabel="mIoU on the decision split, %")
  axes.margins(0.035, 0.14)
  trim_axes(axes)
  _name_marks(axes, history)


def save_album(groups: Sequence[Group], path: pathlib.Path, *, count: int = 6) -> None:
  """Draws photos, truths and predictions of the models up to the best and after it (Fig. 6).

  Args:
    groups: Groups of LoAd runs, of which the first run of each is drawn.
    path: Path of the PNG file to write.
    count: Largest number of photos; 6 by default.

  Raises:
    ValueError: A run has no pictures of its models.
  """
  blocks = [Block(group.label, _read_album(group.workdirs[0], count)) for group in groups]
  colors = read_descriptor(groups[0].workdirs[0]).class_colors
  save_figure(draw_sheet(blocks, colors), path, dpi=150)


def select_album_models(history: History, drawn: Sequence[int]) -> list[int]:
  """Selects at most 8 models for an album, in ascending order of their numbers.

  Models up to the last peak take precedence, evenly chosen from start to peak if there are more
  than 8; models after it fill the remaining columns.

  Args:
    history: History of the run.
    drawn: Numbers of the models whose pictures exist.
  """
  numbers = sorted({model.number for model in history.name_models().values()} & set(drawn))
  early = [number for number in numbers if not history.peaks or number <= history.best.number]
  late = numbers[len(early) :]
  chosen = [early[i] for i in spread_indices(len(early), _MAX_MODELS)]
  return chosen + [late[i] for i in spread_indices(len(late), _MAX_MODELS - len(chosen))]


def _get_points(models: Sequence[ModelRecord]) -> tuple[list[int], list[float]]:
  return [model.propagation for model in models], [100 * model.miou for model in models]


def _draw_marks(
  axes: Any, models: Sequence[ModelRecord], marker: str, label: str, **style: Any
) -> None:
  if models:
    axes.plot(*_get_points(models), marker, label=label, **style)


def _format_name(name: str) -> str:
  return f"$g_{{{name[1:]}}}$"


def _name_marks(axes: Any, history: History) -> None:
  """Writes names of models: start to the left, peaks above, endings below; some where dense."""
  from matplotlib.patheffects import withStroke

  models = history.name_models()
  inch = float(np.ptp(axes.get_xlim())) / (axes.bbox.width / axes.figure.dpi)
  endings = [name for name in models if "," in name]
  start, *peaks = [name for name in models if "," not in name]
  sides = (
    ([start], 0, (-6, 0), {"ha": "right", "va": "center"}),
    (peaks, 0.16 * inch, (0, 5), {"ha": "center"}),
    (endings, 0.26 * inch, (0, -6), {"ha": "center", "va": "top"}),
  )
  style = {"fontsize": 9, "path_effects": [withStroke(linewidth=2, foreground="white")]}
  for names, distance, offset, alignment in sides:
    for name in _select_apart({name: models[name].propagation for name in names}, distance):
      point = models[name].propagation, 100 * models[name].miou
      axes.annotate(
        _format_name(name),
        point,
        offset,
        textcoords="offset points",
        gid=FORMULA,
        **style,
        **alignment,
      )


def _select_apart(positions: Mapping[str, int], distance: float) -> list[str]:
  """Selects names that keep a distance, from the last one on, so that the best model has one."""
  selected: list[str] = []
  for name in reversed(list(positions)):
    if not selected or positions[selected[-1]] - positions[name] >= distance:
      selected.append(name)
  return selected


def _read_album(workdir: pathlib.Path, count: int) -> list[Column]:
  """Reads the first `count` pictures of each column of an album."""
  history, folder = History.read(workdir), workdir / "previews"
  titles = {
    model.number: f"{name}\n{100 * model.miou:.2f} %"
    for name, model in history.name_models().items()
  }
  numbers = select_album_models(history, [int(path.stem) for path in folder.glob("*.npz")])
  if not numbers:
    raise ValueError(f"{folder} holds no pictures; expected MODEL.npz of the models of the run")
  columns = []
  for number in numbers:
    with np.load(folder / f"{number}.npz") as pictures:
      if not columns:
        columns += [
          Column("input", pictures["input"][:count]),
          Column("truth", pictures["segmentation/truth"][:count]),
        ]
      columns.append(Column(titles[number], pictures["segmentation/prediction"][:count]))
  return columns
