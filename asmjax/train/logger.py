"""Loggers of metrics, warnings and pictures: to files, to TensorBoard and to the terminal."""

import importlib.util
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from asmjax.utils.files import append_jsonl, read_jsonl, write_jsonl

if TYPE_CHECKING:
  from rich.progress import Progress


class Logger:
  """Interface of loggers of the training loop; the methods that a subclass leaves out do nothing.

  The first process calls them, and so `asmjax.train(..., loggers=[...])` logs to other places too.
  """

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
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


class Loggers(Logger):
  """Logger to several places; to none if there are none, as on all processes but the first."""

  def __init__(self, loggers: Iterable[Logger] = ()):
    """Logs to each of `loggers`, in order."""
    self._loggers = tuple(loggers)

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the metrics of a step to all places."""
    for logger in self._loggers:
      logger.log_metrics(step, means, scores)

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings of a step to all places."""
    warnings = list(warnings)
    for logger in self._loggers:
      logger.log_warnings(step, warnings)

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures to all places that have use for them."""
    for logger in self._loggers:
      logger.log_images(step, draw)

  def close(self) -> None:
    """Closes all loggers."""
    for logger in self._loggers:
      logger.close()


def open_run_loggers(workdir: pathlib.Path, *, start: int | None, steps: int | None) -> Loggers:
  """Opens the loggers of a run: to files, to the terminal and, with tensorboardX, to TensorBoard.

  Args:
    workdir: Folder of the run.
    start: Step of the checkpoint that the run goes on from; None for a new run.
    steps: Number of steps of the complete run; None if it is not known in advance.
  """
  last = -1 if start is None else start
  loggers: list[Logger] = [FileLogger(workdir, last), TerminalLogger(max(last, 0), steps)]
  if importlib.util.find_spec("tensorboardX"):
    loggers.append(TensorBoardLogger(workdir / "tensorboard", last))
  return Loggers(loggers)


class FileLogger(Logger):
  """Logger to `metrics.jsonl`, `wall_time.jsonl` and `warnings.jsonl` in the folder of a run.

  Times have a file of their own, as all else is the same for a run that was killed and resumed:
  seconds of all processes that have worked on the run, compiling and evaluating included, without
  steps that a resumed run repeats.
  """

  def __init__(self, workdir: pathlib.Path, last: int = -1):
    """Opens the files, and drops entries of steps after `last`, which a resumed run repeats."""
    self._metrics, self._warnings, self._times = (
      workdir / f"{name}.jsonl" for name in ("metrics", "warnings", "wall_time")
    )
    for path in (self._metrics, self._warnings, self._times):
      if path.exists():
        write_jsonl(path, (line for line in read_jsonl(path) if line["step"] <= last))
    times = read_jsonl(self._times)
    self._start_time = _now() - (times[-1]["seconds"] if times else 0.0)

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Appends the metrics of a step, and the time."""
    append_jsonl(self._metrics, {"step": step, **means, **scores})
    append_jsonl(self._times, {"step": step, "seconds": round(_now() - self._start_time, 3)})

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Appends warnings of a step."""
    for warning in warnings:
      append_jsonl(self._warnings, {"step": step, "warning": warning})


class TensorBoardLogger(Logger):
  """Logger to TensorBoard's event files."""

  def __init__(self, folder: pathlib.Path, last: int = -1):
    """Opens a file of events in `folder`; those of steps after `last` are hidden."""
    from tensorboardX import SummaryWriter

    self._writer = SummaryWriter(str(folder), purge_step=last + 1)
    self._throughput = Throughput()

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the finite metrics of a step as scalars, and the steps per second."""
    speed = self._throughput.measure(step)
    speeds = {} if speed is None else {"steps_per_second": speed}
    for name, value in _finite({**means, **scores, **speeds}).items():
      self._writer.add_scalar(name, value, step)

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings of a step as texts."""
    for warning in warnings:
      self._writer.add_text("warnings", warning, step)

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures, those of one name side by side."""
    for name, images in draw().items():
      self._writer.add_images(name, images, step, dataformats="NHWC")

  def close(self) -> None:
    """Writes the last events."""
    self._writer.close()


class TerminalLogger(Logger):
  """Progress in a terminal as a bar above the latest metrics, elsewhere a line a logged step."""

  def __init__(self, start: int, steps: int | None):
    """Shows a run from step `start` on; `steps` is None if their number is not known."""
    self._throughput, self._steps = Throughput(), steps
    self._bar = _make_bar(start, steps) if sys.stdout.isatty() else None

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Shows the finite metrics of a step, scores and the loss first."""
    means = {name: means[name] for name in sorted(means, key=lambda name: name != "loss")}
    # The IoUs of the classes, of which there may be hundreds, would fill the screen.
    values = {k: v for k, v in _finite({**scores, **means}).items() if "/iou/" not in k}
    text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    pace = self._describe_pace(step)
    if self._bar is None:
      print(f"{pace}  {text}", flush=True)
    else:
      self._bar.update(self._bar.task_ids[0], completed=step, pace=pace, text=text)

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Prints warnings of a step to standard error."""
    for warning in warnings:
      print(f"step {step}: {warning}", file=sys.stderr, flush=True)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.stop()

  def _describe_pace(self, step: int) -> str:
    """Formats the step and, where they are known, the steps per second and the time left."""
    text = f"step {step}" if self._steps is None else f"step {step}/{self._steps}"
    speed = self._throughput.measure(step)
    if speed is None:
      return text
    text += f"  {speed:.2f} steps/s"
    if self._steps is None:
      return text
    minutes, seconds = divmod(round((self._steps - step) / speed), 60)
    return f"{text}  {minutes}:{seconds:02d} left"


def _make_bar(start: int, steps: int | None) -> "Progress":
  """Starts a bar on a line of its own, with the latest metrics below."""
  from rich.progress import BarColumn, Progress, TextColumn
  from rich.text import Text

  class Bar(Progress):
    def get_renderables(self):
      yield self.make_tasks_table(self.tasks)
      yield from (Text(task.fields["text"]) for task in self.tasks)  # None when it is made.

  bar = Bar(BarColumn(30), TextColumn("{task.fields[pace]}"))
  bar.add_task("train", total=steps, completed=start, pace="compiling", text="")
  bar.start()
  return bar


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


class Throughput:
  """Measure of the steps per second between logged steps.

  The first call of `measure` starts the clock, since the steps before it compile.
  """

  def __init__(self):
    self._last: tuple[int, float] | None = None

  def measure(self, step: int) -> float | None:
    """Returns the steps per second since the last call; None in the first call."""
    last, self._last = self._last, (step, _now())
    if last is None or step == last[0]:
      return None
    return (step - last[0]) / max(self._last[1] - last[1], 1e-9)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
  return {name: value for name, value in values.items() if math.isfinite(value)}


def _now() -> float:
  """Returns seconds of a clock that never goes back; tests replace it."""
  return time.perf_counter()
