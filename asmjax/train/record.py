"""What a run leaves behind: config, metrics, results, TensorBoard events, lines on the terminal."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from asmjax.models.input_transform import AUTO


def as_json(content: Any) -> str:
  """Readable JSON; a number that is not finite becomes null."""
  return json.dumps(_finite(content), indent=2)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a file that appears whole or not at all; see `as_json`."""
  _replace(path, as_json(content) + "\n")


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes a compressed `.npz` that appears whole or not at all."""
  with whole(path) as temporary, temporary.open("wb") as file:
    np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Where to write a file that gets its name `path` only when the block has ended well."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def check_same_config(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Refuses to continue a run under another config.

  Settings that do not change what is computed may differ: `data.root`, `data.cache`,
  `data.reading`, `train.log_every`, `eval.every`, `eval.batch_size` and `checkpoint`.

  Raises:
    ValueError: naming the keys that differ, with both values.
  """
  if not path.exists() or not any(path.parent.glob("checkpoints/[0-9]*")):
    return  # A run that failed before its first checkpoint has nothing to go on with.
  differing = config_differences(json.loads(path.read_text()), config)
  if differing:
    raise ValueError(
      f"{path.parent} holds a run with another config ({'; '.join(differing)}); "
      "give the same settings, or another --workdir"
    )


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns "key: before -> now" for each setting that changes what is computed and differs.

  What `now` leaves to the weights, the input transform "auto", is what the run `before` has.
  """
  before, now = (_flat(_plain(each)) for each in (before, now))
  transform = "predictor.input_transform"
  if now.get(transform) == AUTO:
    now[transform] = before.get(transform)
  free = (
    "data.root",
    "data.cache",
    "data.reading",
    "train.log_every",
    "eval.every",
    "eval.batch_size",
    "checkpoint.",
  )
  return [
    f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
    for key in sorted(before.keys() | now.keys())
    if before.get(key) != now.get(key) and not key.startswith(free)
  ]


class Record:
  """The files of one run, continued from a step."""

  def __init__(self, workdir: pathlib.Path, *, start: int | None, steps: int | None):
    """Opens the files; what was recorded after `start` by a run that was killed is dropped.

    Args:
      workdir: folder of the run.
      start: steps that are done; None if nothing is.
      steps: of the whole run; None if nobody knows.
    """
    from tensorboardX import SummaryWriter

    start = -1 if start is None else start
    self._metrics, self._warnings = workdir / "metrics.jsonl", workdir / "warnings.jsonl"
    self._times = workdir / "wall_time.jsonl"
    for path in (self._metrics, self._warnings, self._times):
      kept = [line for line in _lines(path) if json.loads(line)["step"] <= start]
      if kept or path.exists():
        _replace(path, "".join(f"{line}\n" for line in kept))
    # What is left of the times, the last of the files.
    spent = json.loads(kept[-1])["seconds"] if kept else 0.0
    self._began = _now() - spent
    self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
    self._progress = (_Bar if sys.stdout.isatty() else _Lines)(max(start, 0), steps)

  def step(
    self, step: int, means: Mapping[str, float], scores: Mapping[str, float] = MappingProxyType({})
  ) -> None:
    """One logged step: the means since the last one, and the scores of an evaluation.

    The time goes into a file of its own, `wall_time.jsonl`: the seconds of all processes that have
    worked on the run, compiling and evaluating included, without what a resumed run repeats.
    """
    values = _finite({**means, **scores})
    with self._metrics.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
    with self._times.open("a") as file:
      seconds = round(_now() - self._began, 3)
      file.write(json.dumps({"step": step, "seconds": seconds}) + "\n")
    for name, value in values.items():
      if value is not None:
        self._board.add_scalar(name, value, step)
    brief = {name: value for name, value in values.items() if "/iou/" not in name}
    self._progress.show(step, brief)

  def logged(self) -> list[dict[str, float]]:
    """What the run has logged so far."""
    return [json.loads(line) for line in _lines(self._metrics)]

  def warn(self, step: int, warnings: Iterable[str]) -> None:
    """Says, and keeps in `warnings.jsonl`, what looks wrong at a step."""
    for warning in warnings:
      with self._warnings.open("a") as file:
        file.write(json.dumps({"step": step, "warning": warning}) + "\n")
      self._board.add_text("warnings", warning, step)
      print(f"step {step}: {warning}", file=sys.stderr, flush=True)

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """uint8 (n, h, w, 3) by name, each as one row."""
    for name, rows in pictures.items():
      self._board.add_images(name, rows, step, dataformats="NHWC")

  def close(self) -> None:
    """Writes what is pending."""
    self._progress.close()
    self._board.close()


class NullLogger:
  """Stands in for `Record` on all processes but the first."""

  def logged(self) -> list[dict[str, float]]:
    """Nothing."""
    return []

  def step(self, *_: Any) -> None:
    """Nothing."""

  def warn(self, *_: Any) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


class SkippedExamples:
  """What is wrong with the examples that one process skipped: a file with one JSON text a line."""

  def __init__(self, path: pathlib.Path):
    """Goes on with the list that a run before left at `path`."""
    self._path = path
    self._known = {json.loads(line) for line in _lines(path)}

  def add(self, fault: str) -> None:
    """Lists and prints a fault unless it is known."""
    if fault not in self._known:
      self._known.add(fault)
      self._path.parent.mkdir(parents=True, exist_ok=True)
      with self._path.open("a") as file:
        file.write(json.dumps(fault) + "\n")
      print(f"skipped: {fault}", file=sys.stderr, flush=True)


def check_finite(step: int, values: Mapping[str, float]) -> None:
  """Stops a run that has diverged.

  Raises:
    FloatingPointError: naming the values that are not finite.
  """
  broken = {name: value for name, value in values.items() if not math.isfinite(value)}
  if broken:
    raise FloatingPointError(
      f"the run diverged before step {step}: {broken}. The last checkpoint is from before. Lower "
      "the learning rates, cap the critic's gradient (optimizer.critic.clip) or its ascent"
    )


class _Lines:
  """One plain line a log interval."""

  def __init__(self, start: int, steps: int | None):
    self._pace = _Pace(start, steps)

  def show(self, step: int, values: Mapping[str, float]) -> None:
    print(f"{self._pace.at(step)}  {_brief(values)}", flush=True)

  def close(self) -> None:
    pass


class _Bar:
  """A progress bar with the latest losses."""

  def __init__(self, start: int, steps: int | None):
    from rich.progress import BarColumn, Progress, TextColumn

    self._pace = _Pace(start, steps)
    self._bar = Progress(BarColumn(30), TextColumn("{task.fields[text]}"))
    self._task = self._bar.add_task("train", total=steps, completed=start, text="compiling")
    self._bar.start()

  def show(self, step: int, values: Mapping[str, float]) -> None:
    text = f"{self._pace.at(step)}\n{_brief(values)}"
    self._bar.update(self._task, completed=step, text=text)

  def close(self) -> None:
    self._bar.stop()


class _Pace:
  """Steps a second and the time left."""

  def __init__(self, start: int, steps: int | None):
    self._steps = steps
    self._since = (start, time.perf_counter())

  def at(self, step: int) -> str:
    (before, then), now = self._since, time.perf_counter()
    self._since = (step, now)
    speed = max(step - before, 1) / max(now - then, 1e-9)
    if self._steps is None:
      return f"step {step}  {speed:.2f} steps/s"
    minutes, seconds = divmod(round((self._steps - step) / speed), 60)
    return f"step {step}/{self._steps}  {speed:.2f} steps/s  {minutes}:{seconds:02d} left"


def _brief(values: Mapping[str, float]) -> str:
  return "  ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)


def _finite(tree: Any) -> Any:
  """JSON has no NaN: a metric without a value, as the IoU of an absent class, is null."""
  if isinstance(tree, Mapping):
    return {name: _finite(each) for name, each in tree.items()}
  return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _now() -> float:
  """Seconds since some moment."""
  return time.perf_counter()


def _lines(path: pathlib.Path) -> list[str]:
  """Complete lines only."""
  return path.read_text().split("\n")[:-1] if path.exists() else []


def _replace(path: pathlib.Path, text: str) -> None:
  with whole(path) as temporary:
    temporary.write_text(text)


def _plain(config: Mapping[str, Any]) -> Any:
  return json.loads(json.dumps(config))


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
  if not isinstance(tree, Mapping):
    return {path: tree}
  return {
    key: value
    for name, each in tree.items()
    for key, value in _flat(each, f"{path}.{name}" if path else name).items()
  }
