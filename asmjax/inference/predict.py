"""Prediction of many files, with decoding and encoding in threads while devices compute."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.inference.inputs import Input, Inputs, find_inputs
from asmjax.inference.multiscale import Inference, make_predict
from asmjax.inference.outputs import OutputOptions, Writer
from asmjax.inference.trained import TrainedPredictor
from asmjax.utils.prefetch import prefetch

_NUM_THREADS = 4
# Largest number of predictions that wait to be written.
_MAX_WAITING = 16
_SINGLE_VIEW, _PREDICTIONS_ONLY = Inference(), OutputOptions()  # The defaults.


@dataclasses.dataclass(frozen=True)
class Summary:
  """Result of a prediction job.

  Attributes:
    num_images: Number of predicted images.
    faults: Descriptions of the files that could not be read or were left out.
    seconds: Duration in seconds, compilation included.
  """

  num_images: int
  faults: tuple[str, ...]
  seconds: float

  def __str__(self) -> str:
    pace = self.num_images / max(self.seconds, 1e-9)
    unread = f", {len(self.faults)} were not predicted" if self.faults else ""
    return f"{self.num_images} images in {self.seconds:.1f} s, {pace:.2f} images/s{unread}"


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
      ValueError: A setting is invalid, inputs would have the same predictions, or predictions
        would overwrite inputs.
    """
    tasks = inference.select_tasks(trained.game.tasks)
    self._inputs = find_inputs(source, exclude=out)
    self._writer = Writer(out, tasks, trained.descriptor.palette, options)
    _check_no_overwrite(self._inputs, self._writer)
    self._trained, self._inference = trained, inference

  def run(self) -> Summary:
    """Predicts all inputs and writes the files, with a progress bar; skips unreadable inputs."""
    start, num_images, faults = time.perf_counter(), 0, list(self._inputs.left_out)
    predict = make_predict(self._trained, self._inference)
    ahead = 2 * self._inference.batch_size
    with ThreadPoolExecutor(_NUM_THREADS) as pool, _ProgressBar(self._inputs.count) as bar:
      loaded = _load_ahead(self._inputs.read(), pool, ahead, faults)
      writing = (
        pool.submit(self._writer.write, source.name, image, soft_predictions)
        for (source, image), soft_predictions in predict(loaded)
      )
      for future in prefetch(writing, _MAX_WAITING):
        future.result()
        num_images += 1
        bar.update(num_images, len(faults))
    return Summary(num_images, tuple(faults), time.perf_counter() - start)


def _load_ahead(
  inputs: Iterable[Input], pool: ThreadPoolExecutor, ahead: int, faults: list[str]
) -> Iterator[tuple[tuple[Input, np.ndarray], np.ndarray]]:
  """Yields images, with (input, image) as their keys, and reads some of them in advance."""
  reading = ((source, pool.submit(source.load)) for source in inputs)
  for source, future in prefetch(reading, ahead):
    try:
      image = future.result()
    except (OSError, ValueError) as error:
      faults.append(str(error))
    else:
      yield (source, image), image


def _check_no_overwrite(inputs: Inputs, writer: Writer) -> None:
  """Raises ValueError if a prediction would be written over an input."""
  read = {path.resolve() for path in inputs.paths if path.suffix == ".png"}
  for source in inputs.read() if read else ():
    for path in writer.paths(source.name):
      if path.resolve() in read:
        raise ValueError(f"the prediction {path} would overwrite an input; choose another folder")


class _ProgressBar:
  """Progress bar on the terminal; nothing if the output is no terminal."""

  def __init__(self, total: int):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    self._start = time.perf_counter()
    self._bar = Progress(
      BarColumn(30),
      MofNCompleteColumn(),
      TextColumn("{task.fields[text]}"),
      console=Console(file=sys.stderr),
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
