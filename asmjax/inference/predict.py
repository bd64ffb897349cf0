"""Prediction of many files, with decoding and encoding in threads while devices compute."""

import collections
import dataclasses
import errno
import os
import pathlib
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from asmjax.data import decode
from asmjax.inference.inputs import VIDEOS, Input, Inputs, find_inputs
from asmjax.inference.multiscale import make_predict
from asmjax.inference.outputs import OutputOptions, Writer
from asmjax.inference.programs import MemoryLimits
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import Inference, SoftPredictions
from asmjax.utils.exhaustion import NO_ROOM
from asmjax.utils.prefetch import prefetch
from asmjax.utils.terminal import make_console

_NUM_THREADS = 4
# Largest number of predictions that wait to be written.
_MAX_WAITING = 16
_SINGLE_VIEW, _PREDICTIONS_ONLY = Inference(), OutputOptions()  # The defaults.


@dataclasses.dataclass(frozen=True)
class Summary:
  """Result of a prediction job.

  Attributes:
    num_images: Number of predicted images.
    faults: Descriptions of the files that could not be read, predicted or written, or were left
      out.
    seconds: Duration in seconds, compilation included.
    cut: Descriptions of the images that were cut into windows because memory is too small.
  """

  num_images: int
  faults: tuple[str, ...]
  seconds: float
  cut: tuple[str, ...] = ()

  def __str__(self) -> str:
    pace = self.num_images / max(self.seconds, 1e-9)
    faults = f", {len(self.faults)} were not predicted" if self.faults else ""
    return f"{self.num_images} images in {self.seconds:.1f} s, {pace:.2f} images/s{faults}"


class PredictionJob:
  """Job that predicts some files; it checks all settings before anything is compiled."""

  def __init__(
    self,
    trained: TrainedPredictor,
    source: str | pathlib.Path,
    out: str | pathlib.Path,
    inference: Inference = _SINGLE_VIEW,
    options: OutputOptions = _PREDICTIONS_ONLY,
  ):
    """Finds the inputs and checks the settings.

    Args:
      trained: Predictor of a run.
      source: Path of the inputs; see `asmjax.inference.inputs.find_inputs`.
      out: Folder of the predictions; see `asmjax.inference.outputs`.
      inference: Views of each image over which predictions are averaged; one by default.
      options: Options of the files to write besides the predictions; none by default.

    Raises:
      FileNotFoundError: There is nothing at `source`.
      ValueError: A setting is invalid, `out` has the suffix of a picture or video, inputs would
        have the same predictions, or predictions would overwrite inputs.
    """
    if pathlib.Path(out).suffix.lower() in (*decode.IMAGES, *decode.OTHER_IMAGES, *VIDEOS):
      raise ValueError(f"out is {str(out)!r}; expected a folder for the predictions")
    tasks = inference.select_tasks(trained.game.tasks)
    self._inputs = find_inputs(source, exclude=out)
    self._writer = Writer(out, tasks, trained.descriptor.palette, options)
    _check_no_overwrite(self._inputs, self._writer)
    self._trained, self._inference = trained, inference

  def run(self) -> Summary:
    """Predicts all inputs and writes the files, with a progress bar.

    An input that cannot be read, predicted or written is one of the summary's faults; the others
    are done.

    Raises:
      OSError: There is no more room for files, or their folder has vanished.
    """
    start, num_images, faults, cut = time.perf_counter(), 0, list(self._inputs.left_out), []
    rows: dict[str, list[dict[str, np.ndarray]]] = collections.defaultdict(list)
    limit = MemoryLimits.measure(self._inference.memory).arrays

    def add_fault(key: tuple[Input, np.ndarray], error: Exception) -> None:
      faults.append(f"{key[0].path} cannot be predicted ({error})")
      rows.pop(key[0].name, None)

    def add_rows(key: tuple[Input, np.ndarray], soft_predictions: SoftPredictions) -> None:
      rows[key[0].name].append(self._writer.postprocess(soft_predictions))

    predict = make_predict(
      self._trained,
      self._inference,
      on_cut=lambda key, window: cut.append(f"{key[0].path}: windows of {window} pixels"),
      on_fault=add_fault,
      on_rows=None if self._writer.needs_probabilities else add_rows,
    )
    ahead = 2 * self._inference.batch_size
    with (
      self._writer.opened(),
      ThreadPoolExecutor(_NUM_THREADS) as pool,
      _ProgressBar(self._inputs.count) as bar,
    ):
      loaded = _load_ahead(self._inputs.read(), pool, ahead, limit, faults)
      writing = (
        self._start_writing(pool, source, image, soft_predictions, rows.pop(source.name, []))
        for (source, image), soft_predictions in predict(loaded)
      )
      for written in prefetch(
        writing, _MAX_WAITING, cost=lambda each: each.num_bytes, max_cost=limit
      ):
        if fault := written.wait():
          faults.append(fault)
        else:
          num_images += 1
        bar.update(num_images, len(faults))
    return Summary(num_images, tuple(faults), time.perf_counter() - start, tuple(cut))

  def _start_writing(
    self,
    pool: ThreadPoolExecutor,
    source: Input,
    image: np.ndarray,
    soft_predictions: SoftPredictions,
    rows: list[dict[str, np.ndarray]],
  ) -> "_Writing":
    """Writes soft predictions or, of an image that was predicted in windows, predictions."""
    parts = (soft_predictions, *rows)
    num_bytes = sum(values.nbytes for part in parts for values in part.values())
    if rows:
      future = pool.submit(self._writer.write_rows, source.name, image, rows)
    else:
      future = pool.submit(self._writer.write, source.name, image, soft_predictions)
    return _Writing(source, num_bytes, future)


class _Writing(NamedTuple):
  """Writing of an image's predictions, under way."""

  source: Input
  num_bytes: int
  future: Future[None]

  def wait(self) -> str:
    """Waits until the files are written; returns a description of the fault, if there is one."""
    try:
      self.future.result()
    except (OSError, ValueError, MemoryError) as error:
      if isinstance(error, OSError) and error.errno in (*NO_ROOM, errno.ESTALE):
        raise
      return f"predictions of {self.source.path} cannot be written ({error})"
    return ""


def _load_ahead(
  inputs: Iterable[Input], pool: ThreadPoolExecutor, ahead: int, max_bytes: float, faults: list[str]
) -> Iterator[tuple[tuple[Input, np.ndarray], np.ndarray]]:
  """Yields images, with (input, image) as their keys, and reads some of them in advance."""
  reading = ((source, pool.submit(source.load)) for source in inputs)
  size = lambda item: item[0].count_bytes()
  for source, future in prefetch(reading, ahead, cost=size, max_cost=max_bytes):
    try:
      image = future.result()
    except (OSError, ValueError, MemoryError) as error:
      faults.append(str(error) or f"{source.path} is too large for memory")
    else:
      yield (source, image), image


def _check_no_overwrite(inputs: Inputs, writer: Writer) -> None:
  """Raises ValueError if a prediction would be written over an input."""
  read = {os.path.realpath(path) for path in inputs.paths if path.suffix == ".png"}
  for source in inputs.read() if read else ():
    for path in writer.paths(source.name):
      if os.path.realpath(path) in read:
        raise ValueError(f"the prediction {path} would overwrite an input; choose another folder")


class _ProgressBar:
  """Progress bar on the terminal; nothing if the output is no terminal."""

  def __init__(self, total: int):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    self._start = time.perf_counter()
    self._bar = Progress(
      BarColumn(30),
      MofNCompleteColumn(),
      TextColumn("{task.fields[text]}"),
      console=make_console(stderr=True),
      transient=True,
    )
    self._task = self._bar.add_task("predict", total=total or None, text="compiling")

  def update(self, num_images: int, num_faults: int) -> None:
    pace = num_images / (time.perf_counter() - self._start)
    self._bar.update(self._task, completed=num_images + num_faults, text=f"{pace:.1f} images/s")

  def __enter__(self) -> "_ProgressBar":
    self._bar.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.stop()
