"""Loggers of a training run: metrics, warnings and pictures, to files and the terminal."""

import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from asmjax.utils.files import append_jsonl, read_jsonl, write_jsonl


class NullLogger:
  """Logger of the processes that log nothing: all but the first.

  Its methods are the interface of loggers; the training loop calls them alike on all processes.
  """

  def read_metrics(self) -> list[dict[str, float]]:
    """Returns the metrics logged so far, one dict with its "step" for every logged step."""
    return []

  def log_metrics(
    self, step: int, means: Mapping[str, float], scores: Mapping[str, float] = MappingProxyType({})
  ) -> None:
    """Logs the metrics of a step.

    Args:
      step: Number of steps done, of all players.
      means: Means of the training metrics since the last logged step, by name.
      scores: Metrics of an evaluation at this step, by name; empty if there was none.
    """

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings of a step, a sentence for each problem."""

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs the pictures that `draw` returns, uint8 (n, h, w, 3) by name, if it has use for them."""

  def close(self) -> None:
    """Writes buffered events and ends the display of progress."""


class RunLogger(NullLogger):
  """Logger of the first process: JSON Lines files, TensorBoard events and the terminal."""

  def __init__(self, workdir: pathlib.Path, *, start: int | None, steps: int | None):
    """Opens the files of a run, and drops entries later than the checkpoint it resumes from.

    Args:
      workdir: Folder of the run.
      start: Step of the checkpoint that the run goes on from; None for a new run.
      steps: Number of steps of the complete run; None if it is not known in advance.
    """
    from tensorboardX import SummaryWriter

    last = -1 if start is None else start
    self._metrics, self._warnings, self._times = (
      workdir / f"{name}.jsonl" for name in ("metrics", "warnings", "wall_time")
    )
    for path in (self._metrics, self._warnings, self._times):
      if path.exists():
        write_jsonl(path, (line for line in read_jsonl(path) if line["step"] <= last))
    times = read_jsonl(self._times)
    self._start_time = _now() - (times[-1]["seconds"] if times else 0.0)
    self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=last + 1)
    self._progress = (_ProgressBar if sys.stdout.isatty() else _ProgressLines)(max(last, 0), steps)

  def read_metrics(self) -> list[dict[str, float]]:
    """Returns the lines of `metrics.jsonl`."""
    return read_jsonl(self._metrics)

  def log_metrics(
    self, step: int, means: Mapping[str, float], scores: Mapping[str, float] = MappingProxyType({})
  ) -> None:
    """Logs the metrics of a step to all files and the terminal.

    The time goes into a file of its own, `wall_time.jsonl`: the seconds of all processes that have
    worked on the run, compiling and evaluating included, without steps that a resumed run repeats.
    """
    values = {**means, **scores}
    append_jsonl(self._metrics, {"step": step, **values})
    append_jsonl(self._times, {"step": step, "seconds": round(_now() - self._start_time, 3)})
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    for name, value in finite.items():
      self._board.add_scalar(name, value, step)
    # The IoUs of the classes, of which there may be hundreds, would fill the screen.
    self._progress.show(step, {k: v for k, v in finite.items() if "/iou/" not in k})

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings to `warnings.jsonl`, TensorBoard and standard error."""
    for warning in warnings:
      append_jsonl(self._warnings, {"step": step, "warning": warning})
      self._board.add_text("warnings", warning, step)
      print(f"step {step}: {warning}", file=sys.stderr, flush=True)

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures to TensorBoard, those of one name side by side."""
    for name, images in draw().items():
      self._board.add_images(name, images, step, dataformats="NHWC")

  def close(self) -> None:
    """Writes the last events and ends the progress bar."""
    self._progress.close()
    self._board.close()


class SkippedExamples:
  """List of the examples that a process could not read and skipped, each with the reason."""

  def __init__(self, path: pathlib.Path):
    """Opens a JSON Lines file, which need not exist, with the entries of the run so far."""
    self._path = path
    self._known = set(read_jsonl(path))

  def add(self, fault: str) -> None:
    """Appends and prints a description of an unreadable example, unless the list has it."""
    if fault not in self._known:
      self._known.add(fault)
      append_jsonl(self._path, fault)
      print(f"skipped: {fault}", file=sys.stderr, flush=True)


def check_finite(step: int, values: Mapping[str, float]) -> None:
  """Raises FloatingPointError if metrics are not finite: the run has diverged."""
  diverged = {name: value for name, value in values.items() if not math.isfinite(value)}
  if diverged:
    raise FloatingPointError(
      f"the run diverged before step {step}: {diverged}. The last checkpoint is from before. Lower "
      "the learning rates, cap the critic's gradient (optimizer.critic.clip_norm) or its weight"
    )


class _ProgressLines:
  """Progress as one line of text for every logged step, for output that is no terminal."""

  def __init__(self, start: int, steps: int | None):
    self._throughput = Throughput(start, steps)

  def show(self, step: int, values: Mapping[str, float]) -> None:
    print(f"{self._throughput.describe(step)}  {_format_values(values)}", flush=True)

  def close(self) -> None:
    pass


class _ProgressBar:
  """Progress as a bar above the latest metrics, for terminals."""

  def __init__(self, start: int, steps: int | None):
    from rich.progress import BarColumn, Progress, TextColumn

    self._throughput = Throughput(start, steps)
    self._bar = Progress(BarColumn(30), TextColumn("{task.fields[text]}"))
    self._task = self._bar.add_task("train", total=steps, completed=start, text="compiling")
    self._bar.start()

  def show(self, step: int, values: Mapping[str, float]) -> None:
    text = f"{self._throughput.describe(step)}\n{_format_values(values)}"
    self._bar.update(self._task, completed=step, text=text)

  def close(self) -> None:
    self._bar.stop()


class Throughput:
  """Measure of the steps per second, and of the time that the remaining steps will take."""

  def __init__(self, start: int, steps: int | None):
    """Starts the clock after `start` of `steps` steps; None if their number is not known."""
    self._steps = steps
    self._last_step, self._last_time = start, time.perf_counter()

  def describe(self, step: int) -> str:
    """Formats the step, the steps per second since the last call, and the time left."""
    now = time.perf_counter()
    speed = max(step - self._last_step, 1) / max(now - self._last_time, 1e-9)
    self._last_step, self._last_time = step, now
    if self._steps is None:
      return f"step {step}  {speed:.2f} steps/s"
    minutes, seconds = divmod(round((self._steps - step) / speed), 60)
    return f"step {step}/{self._steps}  {speed:.2f} steps/s  {minutes}:{seconds:02d} left"


def _format_values(values: Mapping[str, float]) -> str:
  return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _now() -> float:
  """Returns seconds of a clock that never goes back; tests replace it."""
  return time.perf_counter()
