"""Loggers of metrics, warnings and pictures: to files, to TensorBoard and to the terminal."""

import contextlib
import functools
import importlib.util
import math
import os
import pathlib
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asmjax.metrics.names import MAIN_METRICS
from asmjax.utils.files import append_jsonl, read_jsonl, write_jsonl

if TYPE_CHECKING:
  from rich.progress import Progress
  from tensorboardX.record_writer import RecordWriter

# Types of what each entry of a log holds at least, by the name of the log.
LOG_ENTRIES = {
  "metrics": {"step": int},
  "warnings": {"step": int, "warning": str},
  "wall_time": {"step": int, "seconds": float | int},
}

# What the terminal shows beside the main metrics: means, and the course of LoAd.
_MAIN_KINDS = ("loss", "epoch", "learning_rate", "nonfinite_steps", "lookahead")


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
  """Logger to several places; to none if there are none, as on all processes but the first.

  An optional logger that raises is dropped with a warning: no training ends because a tracker does.
  """

  def __init__(self, loggers: Iterable[Logger] = (), optional: Iterable[Logger] = ()):
    """Logs to each of `loggers`, then to each of `optional`, in order."""
    self._loggers, self._optional = tuple(loggers), list(optional)
    self._step = 0

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the metrics of a step to all places."""
    self._step = step
    self._call_all(lambda logger: logger.log_metrics(step, means, scores))

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings of a step to all places."""
    self._step = step
    warnings = list(warnings)
    self._call_all(lambda logger: logger.log_warnings(step, warnings))

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures to all places that have use for them."""
    self._step = step
    self._call_all(lambda logger: logger.log_images(step, draw))

  def close(self) -> None:
    """Closes all loggers, optional ones first, which may have to be warned of."""
    while self._optional:
      logger = self._optional.pop(0)
      try:
        logger.close()
      except Exception as error:
        self._warn_of(logger, error)
    for logger in self._loggers:
      logger.close()

  def _call_all(self, call: Callable[[Logger], None]) -> None:
    for logger in self._loggers:
      call(logger)
    for logger in tuple(self._optional):
      try:
        call(logger)
      except Exception as error:
        self._optional.remove(logger)
        with contextlib.suppress(Exception):
          logger.close()
        self._warn_of(logger, error)

  def _warn_of(self, logger: Logger, error: Exception) -> None:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    self.log_warnings(self._step, [f"{type(logger).__name__} is dropped: {text}"])


def open_run_loggers(
  workdir: pathlib.Path, *, start: int | None, steps: int | None, others: Sequence[Logger] = ()
) -> Loggers:
  """Opens the loggers of a run: to files, to the terminal and, with tensorboardX, to TensorBoard.

  Args:
    workdir: Folder of the run.
    start: Step of the checkpoint that the run goes on from; None for a new run.
    steps: Number of steps of the complete run; None if it is not known in advance.
    others: Further loggers, optional as that to TensorBoard is: see `Loggers`.
  """
  last = -1 if start is None else start
  optional = [*others]
  if importlib.util.find_spec("tensorboardX"):
    optional.insert(0, TensorBoardLogger(workdir / "tensorboard", last))
  return Loggers([FileLogger(workdir, last), TerminalLogger(max(last, 0), steps)], optional)


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
    workdir.mkdir(parents=True, exist_ok=True)
    damage: list[str] = []
    for path in (self._metrics, self._warnings, self._times):
      if path.exists():
        lines = read_jsonl(path, LOG_ENTRIES[path.stem], damage.append)
        write_jsonl(path, (line for line in lines if line["step"] <= last))
    self._metrics.touch()  # Its absence then means that the folder has vanished.
    for fault in damage:
      print(fault, file=sys.stderr, flush=True)
    self.log_warnings(max(last, 0), damage)
    times = read_jsonl(self._times)
    self._start_time = _now() - (times[-1]["seconds"] if times else 0.0)

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Appends the metrics of a step, and the time."""
    append_jsonl(self._metrics, {"step": step, **means, **scores}, create=False)
    append_jsonl(self._times, {"step": step, "seconds": round(_now() - self._start_time, 3)})

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Appends warnings of a step."""
    for warning in warnings:
      append_jsonl(self._warnings, {"step": step, "warning": warning})


class TensorBoardLogger(Logger):
  """Logger to TensorBoard's event files."""

  def __init__(self, folder: pathlib.Path, last: int = -1):
    """Opens a file of events in `folder` when there are any; those after `last` are hidden."""
    self._folder, self._last = folder, last
    self._throughput = Throughput()

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the finite metrics of a step as scalars, and the steps per second."""
    from tensorboardX.summary import scalar

    speed = self._throughput.measure(step)
    speeds = {} if speed is None else {"steps_per_second": speed}
    values = _finite({**means, **scores, **speeds})
    self._write(step, (scalar(name, value) for name, value in values.items()))

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Logs warnings of a step as texts."""
    from tensorboardX.summary import text

    self._write(step, [text("warnings", warning) for warning in warnings])

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures, those of one name side by side."""
    from tensorboardX.summary import image

    self._write(step, (image(name, x, dataformats="NHWC") for name, x in draw().items()))

  def close(self) -> None:
    """Closes the file."""
    if "_writer" in self.__dict__:
      self._writer.close()

  @functools.cached_property
  def _writer(self) -> "RecordWriter":
    """Writer without a thread of its own, which could die unnoticed as a `SummaryWriter`'s does."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import RecordWriter

    events: Any = event_pb2  # Its classes are made when it is imported.
    self._folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    name = f"events.out.tfevents.{now:.0f}.{socket.gethostname()}.{os.getpid()}"
    writer = RecordWriter(str(self._folder / name))
    start = events.SessionLog(status=events.SessionLog.START)
    for fields in (
      {"file_version": "brain.Event:2"},
      {"step": self._last + 1, "session_log": start},
    ):
      writer.write(events.Event(wall_time=now, **fields).SerializeToString())
    return writer

  def _write(self, step: int, summaries: Iterable[Any]) -> None:
    from tensorboardX.proto import event_pb2

    events: Any = event_pb2
    for summary in summaries:
      event = events.Event(wall_time=time.time(), step=step, summary=summary)
      self._writer.write(event.SerializeToString())
    self._writer.flush()


class TerminalLogger(Logger):
  """Progress in a terminal as a bar above the latest metrics, elsewhere a line a logged step."""

  def __init__(self, start: int, steps: int | None):
    """Shows a run from step `start` on; `steps` is None if their number is not known."""
    self._throughput, self._steps = Throughput(), steps
    self._bar = _make_bar(start, steps) if sys.stdout.isatty() else None

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Shows what fits into a line: the main scores, the loss and the rates, if finite."""
    means = {name: means[name] for name in sorted(means, key=lambda name: name != "loss")}
    values = {k: v for k, v in _finite({**scores, **means}).items() if _is_main(k)}
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
    self._known = set(read_jsonl(path, str, lambda text: print(text, file=sys.stderr, flush=True)))

  def add(self, fault: str) -> None:
    """Appends and prints a description of an unreadable example, unless the list has it."""
    if fault in self._known:
      return
    self._known.add(fault)
    print(f"skipped: {fault}", file=sys.stderr, flush=True)
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      append_jsonl(self._path, fault)
    except OSError as error:  # An archived run may be evaluated where nothing can be written.
      print(f"not listed: {error}", file=sys.stderr, flush=True)


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


def _is_main(name: str) -> bool:
  kind, _, rest = name.partition("/")
  return name in MAIN_METRICS or kind in _MAIN_KINDS and "/" not in rest


def _finite(values: Mapping[str, float]) -> dict[str, float]:
  return {name: value for name, value in values.items() if math.isfinite(value)}


def _now() -> float:
  """Returns seconds of a clock that never goes back; tests replace it."""
  return time.perf_counter()
