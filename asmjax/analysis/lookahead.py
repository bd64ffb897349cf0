"""Histories of LoAd runs: cycles, peaks and steps back (Jamali-Rad and Szabo 2022)."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asmjax.analysis.formatting import markdown_table
from asmjax.analysis.runs import Group
from asmjax.config.run_dir import read_log
from asmjax.lookahead.state import End

# Smallest gain in mIoU, 0.1 %, of a run that counts as successful (Sec. 6).
_MIN_GAIN = 0.001

END_TEXTS = {
  End.OPEN: "not ended",
  End.DROP: "mIoU fell",
  End.PATIENCE: "patience ran out",
  End.BUDGET: "budget ran out",
}


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
    lines = [line for line in read_log(workdir, "metrics") if "lookahead/propagation" in line]
    if not lines:
      raise ValueError(f"{path} holds no lookahead/propagation; expected the log of a LoAd run")
    numbers = [line["lookahead/propagation"] for line in lines]
    if numbers != list(range(len(lines))):
      wrong = next(i for i, number in enumerate(numbers) if i != number)
      raise ValueError(f"{path}: found propagation {numbers[wrong]}; expected {wrong}")
    try:
      return cls._from_log(lines)
    except (LookupError, TypeError, ValueError, OverflowError, StopIteration) as error:
      raise ValueError(
        f"{path} is no log of a LoAd run: a propagation lacks an entry, or has another than a "
        f"number ({type(error).__name__}: {error})"
      ) from error

  @classmethod
  def _from_log(cls, lines: Sequence[Mapping[str, Any]]) -> "History":
    models = [
      ModelRecord(int(line["lookahead/model"]), number, float(line["lookahead/miou"]))
      for number, line in enumerate(lines)
    ]
    return cls(models[0], tuple(_split_cycles(models, lines)))

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
    return self.best.miou >= self.start.miou + _MIN_GAIN

  def count_divergences(self) -> tuple[int, int, int]:
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

  def name_models(self) -> dict[str, ModelRecord]:
    """Returns endings by "gI,J", then the start and peaks by "gI"; a model may have both names."""
    endings = {cycle.name: cycle.ending for cycle in self.cycles if cycle.end is not End.OPEN}
    return endings | {f"g{i}": model for i, model in enumerate((self.start, *self.peaks))}


def is_lookahead(group: Group) -> bool:
  """Returns whether the first run of a group is a LoAd run."""
  return "lookahead/propagation" in group.read_logged_metrics()


def format_cycle_rows(history: History) -> list[list[str]]:
  """Formats a head and a row for each cycle, with mIoUs on the decision split in per cent."""
  names = {model.number: name for name, model in history.name_models().items()}
  format_model = lambda model: f"{names[model.number]} ({100 * model.miou:.2f})"
  rows = [
    [
      cycle.name,
      format_model(cycle.origin),
      str(len(cycle.models)),
      format_model(cycle.best) if cycle.best == cycle.peak else f"{100 * cycle.best.miou:.2f}",
      f"{100 * cycle.ending.miou:.2f}",
      END_TEXTS[cycle.end],
      names[cycle.back_to.number] if cycle.back_to else "",
    ]
    for cycle in history.cycles
  ]
  return [["cycle", "from", "propagations", "best", "ending", "ended because", "back to"], *rows]


def format_cycle_table(history: History) -> str:
  """Formats a Markdown table of a run's cycles, with mIoUs on the decision split in per cent."""
  head, *rows = format_cycle_rows(history)
  return markdown_table(head, rows)


def format_stability_table(groups: Sequence[Group]) -> str:
  """Formats cycles that stepped back and the part of successful runs (Table 9) in Markdown.

  Numbers are means and sample standard deviations over a group's runs. "Fell" counts the cycles in
  which the mIoU fell too far, "before the last peak" those that led to the best model.

  Args:
    groups: Groups of LoAd runs; with several, a last row is for all runs together.
  """
  histories = {group.label: [*map(History.read, group.workdirs)] for group in groups}
  if len(groups) > 1:
    histories["all"] = [history for runs in histories.values() for history in runs]
  rows = [
    [
      label,
      str(len(runs)),
      *map(_format_mean, zip(*(history.count_divergences() for history in runs), strict=True)),
      f"{100 * np.mean([history.succeeded for history in runs]):.1f} %",
    ]
    for label, runs in histories.items()
  ]
  head = ["runs", "number", "stepped back", "fell", "before the last peak", "succeeded"]
  return markdown_table(head, rows)


def _split_cycles(
  models: Sequence[ModelRecord], lines: Sequence[Mapping[str, Any]]
) -> Iterator[CycleRecord]:
  """Splits the models after the start, which are logged by a line each, into cycles."""
  by_number = {model.number: model for model in models}
  origin, num_peaks, attempt, first = models[0], 0, 0, 1
  for last in range(1, len(lines)):
    end = End(int(lines[last]["lookahead/cycle_end"]))
    if end is End.OPEN and last + 1 < len(lines):
      continue
    kept = [i for i in range(first, last + 1) if lines[i]["lookahead/kept_best"]]
    peak = models[kept[-1]] if kept else None
    back_to = lines[last].get("lookahead/back_to")
    back_to = None if back_to is None else by_number[int(back_to)]
    cycle_models = tuple(models[first : last + 1])
    yield CycleRecord(f"g{num_peaks},{attempt}", origin, cycle_models, peak, end, back_to)
    num_peaks, attempt = (num_peaks + 1, 0) if peak else (num_peaks, attempt + 1)
    origin, first = back_to or origin, last + 1


def _format_mean(values: Sequence[int]) -> str:
  mean = f"{np.mean(values):.1f}"
  return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean
