"""Predictions for many files: decoding and encoding in threads, while the devices work."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.inference.inputs import Input, Inputs, find
from asmjax.inference.multiscale import Inference, make_predict
from asmjax.inference.outputs import Products, Writer
from asmjax.inference.trained import Trained
from asmjax.utils.prefetch import prefetch

_THREADS = 4
# Predictions that wait to be written.
_WAITING = 16
_PLAIN, _BARE = Inference(), Products()  # The defaults.


@dataclasses.dataclass(frozen=True)
class Summary:
  """What was done.

  Attributes:
    images: that were predicted.
    faults: what is wrong with those that could not be read.
    seconds: that it took, compilation included.
  """

  images: int
  faults: tuple[str, ...]
  seconds: float

  def __str__(self) -> str:
    pace = self.images / max(self.seconds, 1e-9)
    unread = f", {len(self.faults)} could not be read" if self.faults else ""
    return f"{self.images} images in {self.seconds:.1f} s, {pace:.2f} images/s{unread}"


class Job:
  """The predictions for some files, checked before anything is compiled."""

  def __init__(
    self,
    trained: Trained,
    source: str | pathlib.Path,
    out: str | pathlib.Path,
    inference: Inference = _PLAIN,
    products: Products = _BARE,
  ):
    """Looks for the inputs.

    Args:
      trained: the predictor.
      source: see `asmjax.inference.inputs.find`.
      out: folder of the predictions; see `asmjax.inference.outputs`.
      inference: how the predictor looks at an image.
      products: what is written.

    Raises:
      FileNotFoundError: there is nothing at `source`.
      ValueError: settings that make no sense, inputs that would have the same predictions, or
        predictions that would overwrite inputs.
    """
    tasks = inference.chosen(trained.game.tasks)
    self._inputs = find(source, besides=out)
    self._writer = Writer(out, tasks, trained.descriptor.palette, products)
    _check_apart(self._inputs, self._writer)
    self._trained, self._inference = trained, inference

  def run(self) -> Summary:
    """Predicts and writes, with a bar of progress; what cannot be read is left out."""
    start, images, faults = time.perf_counter(), 0, []
    predict = make_predict(self._trained, self._inference)
    ahead = 2 * self._inference.batch_size
    with ThreadPoolExecutor(_THREADS) as pool, _Bar(self._inputs.count) as bar:
      loaded = _loaded(self._inputs.read(), pool, ahead, faults)
      writing = (
        pool.submit(self._writer.write, each.name, image, estimates)
        for (each, image), estimates in predict(loaded)
      )
      for future in prefetch(writing, _WAITING):
        future.result()
        images += 1
        bar.show(images, len(faults))
    return Summary(images, tuple(faults), time.perf_counter() - start)


def _loaded(
  inputs: Iterable[Input], pool: ThreadPoolExecutor, ahead: int, faults: list[str]
) -> Iterator[tuple[tuple[Input, np.ndarray], np.ndarray]]:
  """Images, and as their keys what they are; some are read `ahead` of their turn."""
  reading = ((each, pool.submit(each.load)) for each in inputs)
  for each, future in prefetch(reading, ahead):
    try:
      image = future.result()
    except (OSError, ValueError) as error:
      faults.append(str(error))
    else:
      yield (each, image), image


def _check_apart(inputs: Inputs, writer: Writer) -> None:
  """Refuses to write over what is read."""
  read = {path.resolve() for path in inputs.paths if path.suffix == ".png"}
  for each in inputs.read() if read else ():
    for path in writer.paths(each.name):
      if path.resolve() in read:
        raise ValueError(f"the prediction {path} would overwrite an input; choose another folder")


class _Bar:
  """A bar of progress on the terminal, if there is one."""

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

  def show(self, images: int, faults: int) -> None:
    pace = images / (time.perf_counter() - self._start)
    self._bar.update(self._task, completed=images + faults, text=f"{pace:.1f} images/s")

  def __enter__(self) -> "_Bar":
    self._bar.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.stop()
