"""Histories of LoAd runs: cycles, peaks and steps back (Jamali-Rad and Szabo 2022)."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.runs import Group
from asmjax.analysis.sheets import Block, Column, draw_sheet
from asmjax.data.inspection import spread_indices
from asmjax.lookahead.state import End
from asmjax.utils.files import read_jsonl

# Smallest gain in mIoU, 0.1 %, of a run that counts as successful (Sec. 6).
_SUCCESS = 0.001
# Largest number of models in an album.
_MOST = 8


_HOW = {
  End.OPEN: "not ended",
  End.DROP: "mIoU fell",
  End.PATIENCE: "patience ran out",
  End.BUDGET: "budget ran out",
}
# Shapes, so that the reasons can be distinguished without colors, too.
_MARKERS = {End.DROP: "v", End.PATIENCE: "o", End.BUDGET: "D"}


class ModelRecord(NamedTuple):
  """Record of the predictor after a propagation.

  Attributes:
    number: Number of the model, unique in the run.
    propagation: Number of propagations so far, in all cycles.
    miou: Mean IoU on the decision split, in [0, 1].
  """

  number: int
  propagation: int
  miou: float


@dataclasses.dataclass(frozen=True)
class CycleRecord:
  """Record of a cycle: the propagations from one step back, or the start, to the next.

  Attributes:
    name: "gI,J" for the J-th cycle from the I-th peak, both counted from 0; also the name of the
      cycle's last model.
    origin: Model that the cycle starts from.
    models: Models after each propagation of the cycle; the last one is its ending.
    peak: Best model of the cycle if it is a new peak of the run; None otherwise.
    end: Reason why the cycle ended.
    back_to: Model that the run stepped back to after the cycle; None if it did not.
  """

  name: str
  origin: ModelRecord
  models: tuple[ModelRecord, ...]
  peak: ModelRecord | None
  end: End
  back_to: ModelRecord | None

  @property
  def ending(self) -> ModelRecord:
    """Last model of the cycle."""
    return self.models[-1]

  @property
  def best(self) -> ModelRecord:
    """Model of the cycle with the largest mIoU, whether it is a new peak or not."""
    return max(self.models, key=lambda model: model.miou)

  @property
  def stepped_back(self) -> bool:
    """Whether the cycle ended because the mIoU fell or patience ran out, not with the run."""
    return self.end in (End.DROP, End.PATIENCE)


@dataclasses.dataclass(frozen=True)
class History:
  """History of a LoAd run.

  Attributes:
    start: Model that the run starts from.
    cycles: Cycles in their order; the last one may not have ended.
  """

  start: ModelRecord
  cycles: tuple[CycleRecord, ...]

  @classmethod
  def read(cls, workdir: pathlib.Path) -> "History":
    """Reads the history from a run's `metrics.jsonl`; the run need not be finished.

    Args:
      workdir: Folder of the run.

    Raises:
      ValueError: It is no LoAd run, or propagations are missing from the log.
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
    """New peaks in their order, each better than all models before it."""
    return tuple(cycle.peak for cycle in self.cycles if cycle.peak)

  @property
  def best(self) -> ModelRecord:
    """Best model of the run: the last peak, or the start if there is none."""
    return (self.start, *self.peaks)[-1]

  @property
  def succeeded(self) -> bool:
    """Whether the best model's mIoU is at least 0.1 % above that of the start (Sec. 6)."""
    return self.best.miou >= self.start.miou + _SUCCESS

  def divergences(self) -> tuple[int, int, int]:
    """Counts the cycles that stepped back.

    Returns:
      Numbers of all of them, of those whose mIoU fell too far, and of those before the cycle with
      the last peak.
    """
    last = max((i for i, cycle in enumerate(self.cycles) if cycle.peak), default=0)
    return (
      sum(cycle.stepped_back for cycle in self.cycles),
      sum(cycle.end is End.DROP for cycle in self.cycles),
      sum(cycle.stepped_back for cycle in self.cycles[:last]),
    )

  def named(self) -> dict[str, ModelRecord]:
    """Returns endings by "gI,J", then the start and peaks by "gI"; a model may have both names."""
    ended = (cycle for cycle in self.cycles if cycle.end is not End.OPEN)
    best = {f"g{i}": model for i, model in enumerate((self.start, *self.peaks))}
    return {cycle.name: cycle.ending for cycle in ended} | best


def is_lookahead(group: Group) -> bool:
  """Returns whether the first run of a group is a LoAd run."""
  return "lookahead/propagation" in group.logged_metrics()


def cycle_rows(history: History) -> list[list[str]]:
  """Formats a head and a row for each cycle, with mIoUs on the decision split in per cent."""
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
  """Formats a Markdown table of a run's cycles, with mIoUs on the decision split in per cent."""
  return _markdown(cycle_rows(history))


def stability_table(groups: Sequence[Group]) -> str:
  """Formats cycles that stepped back and the part of successful runs (Table 9) in Markdown.

  Numbers are means and sample standard deviations over a group's runs. "Fell" counts the cycles in
  which the mIoU fell too far, "before the last peak" those that led to the best model.

  Args:
    groups: Groups of LoAd runs; with several, a last row is for all runs together.
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
  """Draws the mIoU on the decision split over the propagations (Fig. 3), a panel for each run.

  Args:
    groups: Groups of LoAd runs.
    path: Path of the PNG file to write.
  """
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
  """Draws a run: a line for each cycle, named marks of models, and dashed lines of steps back.

  Args:
    axes: Matplotlib axes to draw on; each kind of mark gets an entry for a legend.
    history: History of the run.
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
    # Large and hollow, so that the mark of a peak that ends its cycle is visible inside.
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
  """Draws photos, truths and predictions of the models up to the best and after it (Fig. 6).

  Args:
    groups: Groups of LoAd runs, of which the first run of each is drawn.
    path: Path of the PNG file to write.
    count: Largest number of photos; 6 by default.

  Raises:
    ValueError: A run has no pictures of its models.
  """
  blocks = [
    Block(group.label, [Column(title, rows) for title, rows in columns.items()])
    for group, columns in ((group, _album_columns(group.workdirs[0], count)) for group in groups)
  ]
  draw_sheet(blocks).savefig(path, dpi=150)


def album_models(history: History, drawn: Sequence[int]) -> list[int]:
  """Selects at most 8 models for an album, in ascending order of their numbers.

  Models up to the last peak take precedence, evenly chosen from start to peak if there are more
  than 8; models after it fill the remaining columns.

  Args:
    history: History of the run.
    drawn: Numbers of the models whose pictures exist.

  Returns:
    Numbers of the models.
  """
  named = sorted({model.number for model in history.named().values()} & set(drawn))
  reached = [number for number in named if not history.peaks or number <= history.best.number]
  later = named[len(reached) :]
  chosen = [reached[i] for i in spread_indices(len(reached), _MOST)]
  return chosen + [later[i] for i in spread_indices(len(later), _MOST - len(chosen))]


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
  """Writes names of models: start to the left, peaks above, endings below; some where dense."""
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
  """Selects names that keep a distance, from the last one on, so that the best model has one."""
  kept: list[str] = []
  for name in reversed(list(places)):
    if not kept or places[kept[-1]] - places[name] >= apart:
      kept.append(name)
  return kept


def _album_columns(workdir: pathlib.Path, count: int) -> dict[str, np.ndarray]:
  """Reads the pictures of an album's columns, (n, h, w, 3), by title."""
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
