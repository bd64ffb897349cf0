"""What LoAd runs went through: cycles, peaks and rollbacks (Jamali-Rad and Szabo 2022)."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.runs import Group
from asmjax.analysis.sheets import Block, Column, draw_sheet
from asmjax.data.inspection import evenly
from asmjax.lookahead.state import End
from asmjax.utils.files import read_jsonl

# A run that does not reach this much above its start failed (Sec. 6): 0.1 % of mIoU.
_SUCCESS = 0.001
# Models in an album, at most.
_MOST = 8


_HOW = {
  End.OPEN: "not ended",
  End.DROP: "mIoU fell",
  End.PATIENCE: "patience ran out",
  End.BUDGET: "budget ran out",
}
# Shapes, so that they are told apart without colors too.
_MARKERS = {End.DROP: "v", End.PATIENCE: "o", End.BUDGET: "D"}


class ModelRecord(NamedTuple):
  """The predictor after a propagation.

  Attributes:
    number: its own, never used again.
    propagation: how many there were before, in all cycles.
    miou: of the hold-out examples, in [0, 1].
  """

  number: int
  propagation: int
  miou: float


@dataclasses.dataclass(frozen=True)
class CycleRecord:
  """From stepping back, or the start, to stepping back.

  Attributes:
    name: "gI,J" for the J-th cycle from the I-th peak, both from 0; that of its ending, too.
    origin: the model that it starts from.
    models: after each of its propagations; the last one is the ending.
    peak: the new peak that it found, if it did.
    end: how it ended.
    back_to: the model that was stepped back to, if there was one.
  """

  name: str
  origin: ModelRecord
  models: tuple[ModelRecord, ...]
  peak: ModelRecord | None
  end: End
  back_to: ModelRecord | None

  @property
  def ending(self) -> ModelRecord:
    """The last model."""
    return self.models[-1]

  @property
  def best(self) -> ModelRecord:
    """The model with the largest mIoU, be it a peak or not."""
    return max(self.models, key=lambda model: model.miou)

  @property
  def stepped_back(self) -> bool:
    """Whether it fell or was given up, rather than cut short with the run."""
    return self.end in (End.DROP, End.PATIENCE)


@dataclasses.dataclass(frozen=True)
class History:
  """All propagations of a LoAd run.

  Attributes:
    start: the model that the run began with.
    cycles: in their order; the last one may not have ended.
  """

  start: ModelRecord
  cycles: tuple[CycleRecord, ...]

  @classmethod
  def read(cls, workdir: pathlib.Path) -> "History":
    """Reads what a run logged, whether it is finished or not.

    Raises:
      ValueError: it is not a LoAd run, or propagations are missing.
    """
    path = workdir / "metrics.jsonl"
    lines = [line for line in read_jsonl(path) if "lookahead/propagation" in line]
    if not lines:
      raise ValueError(f"{path} holds no lookahead/propagation; expected the log of a LoAd run")
    numbers = [int(line["lookahead/propagation"]) for line in lines]
    if numbers != list(range(len(lines))):
      wrong = next(i for i, number in enumerate(numbers) if i != number)
      raise ValueError(f"{path}: found propagation {numbers[wrong]}; expected {wrong}")
    start, *models = map(_model, lines)
    return cls(start, tuple(_cycles(start, models, lines[1:])))

  @property
  def peaks(self) -> tuple[ModelRecord, ...]:
    """The new peaks, each better than all before it."""
    return tuple(cycle.peak for cycle in self.cycles if cycle.peak)

  @property
  def best(self) -> ModelRecord:
    """The last peak, or the start if there is none."""
    return (self.start, *self.peaks)[-1]

  @property
  def succeeded(self) -> bool:
    """Whether the best is at least 0.1 % of mIoU above the start (Sec. 6)."""
    return self.best.miou >= self.start.miou + _SUCCESS

  def divergences(self) -> tuple[int, int, int]:
    """How many cycles stepped back: all, those whose mIoU fell, those before the last peak's."""
    last = max((i for i, cycle in enumerate(self.cycles) if cycle.peak), default=0)
    return (
      sum(cycle.stepped_back for cycle in self.cycles),
      sum(cycle.end is End.DROP for cycle in self.cycles),
      sum(cycle.stepped_back for cycle in self.cycles[:last]),
    )

  def named(self) -> dict[str, ModelRecord]:
    """Endings by "gI,J", then the start and the peaks by "gI"; a model may be both."""
    ended = (cycle for cycle in self.cycles if cycle.end is not End.OPEN)
    best = {f"g{i}": model for i, model in enumerate((self.start, *self.peaks))}
    return {cycle.name: cycle.ending for cycle in ended} | best


def is_lookahead(group: Group) -> bool:
  """Whether the group's first run is a LoAd run."""
  return "lookahead/propagation" in group.logged_metrics()


def cycle_rows(history: History) -> list[list[str]]:
  """Returns the head and a row for each cycle, mIoUs of the hold-out examples in per cent."""
  names = {model.number: name for name, model in history.named().items()}
  format_model = lambda model: f"{names[model.number]} ({100 * model.miou:.2f})"
  rows = [
    [
      cycle.name,
      format_model(cycle.origin),
      str(len(cycle.models)),
      format_model(cycle.best) if cycle.best == cycle.peak else f"{100 * cycle.best.miou:.2f}",
      f"{100 * cycle.ending.miou:.2f}",
      _HOW[cycle.end],
      names[cycle.back_to.number] if cycle.back_to else "",
    ]
    for cycle in history.cycles
  ]
  return [["cycle", "from", "propagations", "best", "ending", "ended because", "back to"], *rows]


def cycle_table(history: History) -> str:
  """Formats a Markdown table of a run's cycles; see `cycle_rows`."""
  return _markdown(cycle_rows(history))


def stability_table(groups: Sequence[Group]) -> str:
  """The paper's Table 9 in Markdown: cycles stepped back and the part of runs that succeeded.

  Numbers are means and standard deviations (of a sample) over a group's runs. "Fell" are the cycles
  in which the mIoU fell too far, "before the last peak" those that were needed for the best model.
  """
  histories = {group.label: [History.read(each) for each in group.workdirs] for group in groups}
  if len(groups) > 1:
    histories["all"] = [each for group in histories.values() for each in group]
  rows = [
    [
      label,
      str(len(each)),
      *map(_spread, zip(*(history.divergences() for history in each), strict=True)),
      f"{100 * np.mean([history.succeeded for history in each]):.1f} %",
    ]
    for label, each in histories.items()
  ]
  head = ["runs", "number", "stepped back", "fell", "before the last peak", "succeeded"]
  return _markdown([head, *rows])


def save_convergence(groups: Sequence[Group], path: pathlib.Path) -> None:
  """Draws the hold-out mIoU over the propagations (Fig. 3), one panel a run."""
  from matplotlib.figure import Figure

  runs = [
    (f"{group.label}, {workdir.name}" if len(group.workdirs) > 1 else group.label, workdir)
    for group in groups
    for workdir in group.workdirs
  ]
  across = 1 if len(runs) < 4 else 2
  down = -(-len(runs) // across)
  figure = Figure(figsize=(5 + 4 * across, 3 * down + 0.4), layout="constrained")
  panels = figure.subplots(down, across, squeeze=False).ravel()
  handles: dict[str, Any] = {}
  for axes, (title, workdir) in zip(panels, runs, strict=False):
    draw_convergence(axes, History.read(workdir))
    axes.set_title(title, fontsize=10)
    handles |= {handle.get_label(): handle for handle in axes.get_legend_handles_labels()[0]}
  for axes in panels[len(runs) :]:
    axes.axis("off")
  figure.legend(
    handles=list(handles.values()), loc="outside lower center", ncols=7, fontsize=8, frameon=False
  )
  figure.savefig(path, dpi=150)


def draw_convergence(axes: Any, history: History) -> None:
  """Draws one run: a line a cycle, its marks with their names, and dashed jumps back.

  Args:
    axes: of Matplotlib; it gets an artist in its legend for all that there is to explain.
    history: of the run.
  """
  for cycle in history.cycles:
    begin = ModelRecord(cycle.origin.number, cycle.models[0].propagation - 1, cycle.origin.miou)
    (line,) = axes.plot(*_points([begin, *cycle.models]), color="0.45", linewidth=1, zorder=1)
    if cycle.back_to:
      landing = ModelRecord(0, cycle.ending.propagation, cycle.back_to.miou)
      (jump,) = axes.plot(
        *_points([cycle.ending, landing]), "--", color="tab:purple", linewidth=0.7, zorder=0
      )
      jump.set_label("step back")
    line.set_label("cycle")
  _marks(axes, [history.start], "s", "start", color="black", markersize=5, zorder=3)
  _marks(axes, history.peaks, "^", "new peak", color="tab:green", markersize=5, zorder=3)
  for end, marker in _MARKERS.items():
    ended = [cycle.ending for cycle in history.cycles if cycle.end is end]
    # Large and hollow, so that a peak that ends its cycle is seen inside.
    _marks(
      axes,
      ended,
      marker,
      f"ending: {_HOW[end]}",
      color="tab:red",
      markersize=7,
      markerfacecolor="white",
      zorder=2,
    )
  axes.set(xlabel="propagations", ylabel="hold-out mIoU, %")
  axes.margins(0.035, 0.14)
  axes.grid(alpha=0.25)
  axes.spines[["top", "right"]].set_visible(False)
  _name_marks(axes, history)


def save_album(groups: Sequence[Group], path: pathlib.Path, *, count: int = 6) -> None:
  """Draws photos, truths and predictions of models on the way to the best (Fig. 6).

  Args:
    groups: of each the first run is drawn.
    path: of the PNG.
    count: of photos, at most.

  Raises:
    ValueError: a run has no pictures of its models.
  """
  blocks = [
    Block(group.label, [Column(title, rows) for title, rows in columns.items()])
    for group, columns in ((group, _album_columns(group.workdirs[0], count)) for group in groups)
  ]
  draw_sheet(blocks).savefig(path, dpi=150)


def album_models(history: History, drawn: Sequence[int]) -> list[int]:
  """Which models an album shows, by number and in that order.

  Those up to the last peak come first, evenly chosen from start to peak if they are too many; what
  room they leave is for those after it.

  Args:
    history: of the run.
    drawn: numbers of models that there are pictures of.
  """
  named = sorted({model.number for model in history.named().values()} & set(drawn))
  reached = [number for number in named if not history.peaks or number <= history.best.number]
  later = named[len(reached) :]
  chosen = [reached[i] for i in evenly(len(reached), _MOST)]
  return chosen + [later[i] for i in evenly(len(later), _MOST - len(chosen))]


def _model(line: Mapping[str, Any]) -> ModelRecord:
  return ModelRecord(
    int(line["lookahead/model"]), int(line["lookahead/propagation"]), line["lookahead/miou"]
  )


def _cycles(
  start: ModelRecord, models: Sequence[ModelRecord], lines: Sequence[Mapping[str, Any]]
) -> Iterator[CycleRecord]:
  """Cuts the propagations after the first evaluation into cycles."""
  known = {model.number: model for model in (start, *models)}
  origin, peaks, attempt, begin = start, 0, 0, 0
  for place, line in enumerate(lines):
    end = End(int(line["lookahead/cycle_end"]))
    if end is End.OPEN and place + 1 < len(lines):
      continue
    own = range(begin, place + 1)
    best = [models[i] for i in own if lines[i]["lookahead/kept_best"]]
    back_to = line.get("lookahead/back_to")
    yield CycleRecord(
      f"g{peaks},{attempt}",
      origin,
      tuple(models[i] for i in own),
      best[-1] if best else None,
      end,
      None if back_to is None else known[int(back_to)],
    )
    begin, peaks, attempt = place + 1, peaks + bool(best), 0 if best else attempt + 1
    origin = origin if back_to is None else known[int(back_to)]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
  head, *body = rows
  return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def _spread(values: Sequence[int]) -> str:
  mean = f"{np.mean(values):.1f}"
  return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def _points(models: Sequence[ModelRecord]) -> tuple[list[int], list[float]]:
  return [model.propagation for model in models], [100 * model.miou for model in models]


def _marks(axes: Any, models: Sequence[ModelRecord], marker: str, label: str, **style: Any) -> None:
  if models:
    axes.plot(*_points(models), marker, label=label, **style)


def _formula(name: str) -> str:
  return f"$g_{{{name[1:]}}}$"


def _name_marks(axes: Any, history: History) -> None:
  """Start beside, peaks above, endings below; of those that are too close only some."""
  from matplotlib.patheffects import withStroke

  named = history.named()
  inch = float(np.ptp(axes.get_xlim())) / (axes.bbox.width / axes.figure.dpi)
  endings = [name for name in named if "," in name]
  peaks = [name for name in named if "," not in name]
  sides = (
    (peaks[:1], 0, (-6, 0), {"ha": "right", "va": "center"}),
    (peaks[1:], 0.16 * inch, (0, 5), {"ha": "center"}),
    (endings, 0.26 * inch, (0, -6), {"ha": "center", "va": "top"}),
  )
  halo = [withStroke(linewidth=2, foreground="white")]
  for names, apart, offset, alignment in sides:
    for name in _legible({name: named[name].propagation for name in names}, apart):
      axes.annotate(
        _formula(name),
        *zip(*_points([named[name]]), strict=True),
        offset,
        fontsize=9,
        textcoords="offset points",
        path_effects=halo,
        **alignment,
      )


def _legible(places: Mapping[str, int], apart: float) -> list[str]:
  """Names that keep their distance, from the last one on: the best model has its name."""
  kept: list[str] = []
  for name in reversed(list(places)):
    if not kept or places[kept[-1]] - places[name] >= apart:
      kept.append(name)
  return kept


def _album_columns(workdir: pathlib.Path, count: int) -> dict[str, np.ndarray]:
  """Pictures (n, h, w, 3) by title."""
  history, folder = History.read(workdir), workdir / "previews"
  titles = {
    model.number: f"{_formula(name)}\n{100 * model.miou:.2f} %"
    for name, model in history.named().items()
  }
  numbers = album_models(history, [int(path.stem) for path in folder.glob("*.npz")])
  if not numbers:
    raise ValueError(f"{folder} holds no pictures; expected MODEL.npz of the models of the run")
  columns = {}
  for number in numbers:
    with np.load(folder / f"{number}.npz") as pictures:
      if not columns:
        columns = {"input": pictures["input"], "truth": pictures["segmentation/truth"]}
      columns[titles[number]] = pictures["segmentation/prediction"]
  return {title: pictures[:count] for title, pictures in columns.items()}
