"""Soft predictions at an image's own size, averaged over scales, flipped images and windows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import jax
import numpy as np

from asmjax.data.transforms import RGB
from asmjax.inference.programs import MemoryLimits, Programs
from asmjax.inference.tiling import Size
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import ImageSum, Inference, OnRows, SoftPredictions, Window
from asmjax.utils.prefetch import prefetch

# What may go wrong with one image: its size, its memory on the host, or that on devices.
IMAGE_ERRORS = (ValueError, MemoryError, cv2.error, jax.errors.JaxRuntimeError)
Predict = Callable[[Iterable[tuple[Any, np.ndarray]]], Iterator[tuple[Any, SoftPredictions]]]

# Number of batches of images that wait for others of their size before some go ahead in a batch
# that is not full.
_MAX_WAITING = 8
_SINGLE_VIEW = Inference()


def make_predict(
  trained: TrainedPredictor,
  inference: Inference = _SINGLE_VIEW,
  *,
  own_size: bool = True,
  on_cut: Callable[[Any, int], None] | None = None,
  on_fault: Callable[[Any, Exception], None] | None = None,
  on_rows: OnRows | None = None,
) -> Predict:
  """Makes a function that predicts many images, compiled for few sizes of inputs and batches.

  At scale 1, without flip and windows, the network's inputs and outputs are those of evaluation.
  Images of one size of the network's input share batches. Devices hold two batches and their soft
  predictions; sums are kept on the host in float32, so with windows the devices' memory does not
  grow with the image.

  Args:
    trained: Predictor of a run.
    inference: Views of each image over which predictions are averaged; one by default.
    own_size: Whether soft predictions have the image's own size; False for the size that evaluation
      gives it.
    on_cut: Function that is called with the key of an image that is too large for the devices'
      memory, and the side in pixels of the windows that it is cut into; None, the default, refuses
      such images.
    on_fault: Function that is called with the key of an image that cannot be predicted and the
      error, one of `IMAGE_ERRORS`; None, the default, raises the error.
    on_rows: Function that is called with the key of an image in windows, at one scale and its own
      size, and the soft predictions of its next rows, from top to bottom, as soon as they are
      complete; such an image is yielded without soft predictions when it is done, and needs memory
      for few rows at a time. None, the default, yields all at once.

  Returns:
    `predict(images)` of pairs (key, image uint8 (h, w, 3)), which yields pairs (key, soft
    predictions) as they are done, mostly in another order: of every task the mean of its
    `soft_prediction` over the views, (h, w, c), for the task's `postprocess`.

  Raises:
    ValueError: A predicted task is unknown.
  """
  tasks = inference.select_tasks(trained.game.tasks)
  limits = MemoryLimits.measure(inference.memory)
  programs = Programs(trained, tasks, limits, inference.batch_size)

  def fail(key: Any, error: Exception) -> None:
    if on_fault is None:
      raise error
    on_fault(key, error)

  def start(images: Iterable[tuple[Any, np.ndarray]]) -> Iterator[ImageSum]:
    for key, image in images:
      try:
        image_sum = ImageSum(key, image, trained, inference, tasks, own_size, programs, on_rows)
        if image_sum.window and on_cut is None:
          raise ValueError(image_sum.describe_cut())
      except IMAGE_ERRORS as error:
        fail(key, error)
        continue
      if image_sum.window and on_cut:
        on_cut(key, image_sum.window)
      yield image_sum

  def predict(images: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, SoftPredictions]]:
    batches = (
      batch
      for group in _group_by_size(start(images), limits.arrays)
      for batch in _make_batches(group, programs)
    )
    for windows, result in _run_ahead(programs, batches, trained.prepare.fill):
      for row, window in enumerate(windows):
        image_sum = window.view.image_sum
        if image_sum.has_failed:
          continue
        try:
          if isinstance(result, Exception):
            raise result
          window.view.add(window, {name: batch[row] for name, batch in result.items()})
        except IMAGE_ERRORS as error:
          image_sum.has_failed = True
          fail(image_sum.key, error)
        else:
          if image_sum.is_done():
            yield image_sum.key, image_sum.compute_mean()

  return predict


def _group_by_size(images: Iterable[ImageSum], max_bytes: float) -> Iterator[list[ImageSum]]:
  """Yields images together whose inputs have the same sizes, as many as a batch has.

  Args:
    images: Images in their order.
    max_bytes: Largest size of the soft predictions of all images that wait for others.
  """
  waiting: dict[tuple[Size, ...], list[ImageSum]] = {}
  for image in images:
    input_sizes = tuple(view.input_size for view in image.views)
    group = waiting.setdefault(input_sizes, [])
    group.append(image)
    everything = [each for others in waiting.values() for each in others]
    if len(group) >= image.group_size:
      yield waiting.pop(input_sizes)
    elif (
      len(everything) >= _MAX_WAITING * image.group_size
      or sum(each.num_bytes for each in everything) > max_bytes
    ):
      yield waiting.pop(max(waiting, key=lambda sizes: len(waiting[sizes])))
  yield from waiting.values()


def _make_batches(images: Sequence[ImageSum], programs: Programs) -> Iterator[list[Window]]:
  """Yields the windows of some images, scale by scale, as many at a time as a batch has.

  Windows that were chosen for want of memory fill a device each.
  """
  is_short = any(image.window for image in images)
  by_size: dict[Size, list[Window]] = {}
  for views in zip(*(image.views for image in images), strict=True):
    for view in views:
      by_size.setdefault(view.input_size, []).extend(view.windows())
  for size, windows in by_size.items():
    batch_size = programs.num_devices if is_short else max(1, programs.max_batch(size))
    for start in range(0, len(windows), batch_size):
      yield windows[start : start + batch_size]


def _run_ahead(
  programs: Programs, batches: Iterable[list[Window]], fill: RGB
) -> Iterator[tuple[list[Window], SoftPredictions | Exception]]:
  """Yields the soft predictions of each batch while the devices work on the next one.

  If a batch fails, each of its windows is computed alone, and yielded with its error if that fails.
  """

  def start(windows: list[Window]) -> dict[str, jax.Array] | Exception:
    try:
      size = windows[0].view.input_size
      inputs = np.full((programs.padded(size, len(windows)), *size, 3), fill, np.uint8)
      for window, canvas in zip(windows, inputs, strict=False):
        window.draw(canvas)
      return programs.run(inputs)
    except IMAGE_ERRORS as error:
      return error

  def fetch(result: dict[str, jax.Array] | Exception) -> SoftPredictions | Exception:
    if isinstance(result, Exception):
      return result
    try:
      return {name: np.asarray(x).reshape(-1, *x.shape[2:]) for name, x in result.items()}
    except IMAGE_ERRORS as error:
      return error

  running = ((windows, start(windows)) for windows in batches)
  for windows, started in prefetch(running, ahead=1):
    result = fetch(started)
    if not isinstance(result, Exception) or len(windows) == 1:
      yield windows, result
      continue
    for window in windows:
      yield [window], fetch(start([window]))
