"""Soft predictions at an image's own size, averaged over scales, flipped images and windows."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asmjax.config.schema import choose
from asmjax.data.transforms import RGB, resize_image
from asmjax.inference.tiling import Size, Tile, input_size, tiles
from asmjax.inference.trained import TrainedPredictor
from asmjax.tasks.base import Task
from asmjax.train.parallel import pmap_step, replicate, shard_batch
from asmjax.utils.prefetch import prefetch

SoftPredictions = dict[str, np.ndarray]
Predict = Callable[[Iterable[tuple[Any, np.ndarray]]], Iterator[tuple[Any, SoftPredictions]]]

# Number of batches of images that wait for others of their size before some go ahead in a batch
# that is not full.
_MAX_WAITING = 8
# Largest number of channels that OpenCV's INTER_AREA takes.
_MAX_CHANNELS = 4


@dataclasses.dataclass(frozen=True)
class Inference:
  """Views of an image over which predictions are averaged.

  Attributes:
    scales: Factors of the size that the run's evaluation gives an image; (1,) by default.
    flip: Whether to average over the flipped image, too.
    window: Side in pixels of the windows that an image is cut into at each scale, best the size of
      the network's inputs in training; 0, the default, for the complete image at once.
    overlap: Smallest number of pixels that neighboring windows share; None, the default, for a
      third of the window.
    batch_size: Number of images or windows in a batch; rounded up to a multiple of the devices.
    tasks: Names of the tasks to predict; empty, the default, for all.

  Raises:
    ValueError: A setting is invalid; the message names it.
  """

  scales: tuple[float, ...] = (1.0,)
  flip: bool = False
  window: int = 0
  overlap: int | None = None
  batch_size: int = 8
  tasks: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    """Checks the settings."""
    if not self.scales or min(self.scales) <= 0:
      raise ValueError(f"scales={self.scales}; expected one or more, all above 0")
    if self.window < 0 or self.batch_size < 1:
      raise ValueError(
        f"window={self.window}, batch_size={self.batch_size}; expected a window of at least 0, and "
        "at least one image in a batch"
      )
    if self.overlap is not None and not 0 <= self.overlap < self.window:
      raise ValueError(
        f"overlap={self.overlap} of windows of {self.window} pixels; expected at least 0 and less "
        "than the window"
      )

  @property
  def is_single_view(self) -> bool:
    """Whether each image is predicted once, complete, at the size that evaluation gives it."""
    return (self.scales, self.flip, self.window) == ((1.0,), False, 0)

  @property
  def protocol(self) -> str:
    """Description of the views, for `results.json`."""
    scales = ", ".join(f"{scale:g}" for scale in self.scales)
    flip = " and flipped images" if self.flip else ""
    windows = f", in windows of {self.window} that share {self._overlap} pixels at least"
    return f"averaged over scales {scales}{flip}{windows if self.window else ''}"

  @property
  def _overlap(self) -> int:
    return self.window // 3 if self.overlap is None else self.overlap

  def tiles(self, size: Size) -> tuple[Tile, ...]:
    """Cuts an image of `size`, height and width, into windows."""
    return tuple(tiles(size, self.window, self._overlap))

  def select_tasks(self, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Selects the tasks to predict; raises ValueError if the network lacks one of them."""
    return {name: choose(tasks, name, "task") for name in self.tasks or tasks}


def make_predict(
  trained: TrainedPredictor, inference: Inference = Inference(), *, own_size: bool = True
) -> Predict:
  """Makes a function that predicts many images, compiled once for every size of input.

  At scale 1, without flip and windows, the network's inputs and outputs are those of evaluation.
  Images of one size of the network's input share batches. Devices hold one batch and its soft
  predictions; sums are kept on the host in float32, so with windows the devices' memory does not
  grow with the image.

  Args:
    trained: Predictor of a run.
    inference: Views of each image over which predictions are averaged.
    own_size: Whether soft predictions have the image's own size; False for the size that evaluation
      gives it.

  Returns:
    `predict(images)` of pairs (key, image uint8 (h, w, 3)), which yields pairs (key, soft
    predictions) as they are done, mostly in another order: of every task the mean of its
    `soft_prediction` over the views, (h, w, c), for the task's `postprocess`.

  Raises:
    ValueError: A predicted task is unknown.
  """
  tasks = inference.select_tasks(trained.game.tasks)
  batch_size = -(-inference.batch_size // jax.local_device_count()) * jax.local_device_count()
  run = _make_run(trained, tasks)
  # Windows of a single image fill batches, so images need not be grouped.
  group_size = 1 if inference.window else batch_size

  def predict(images: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, SoftPredictions]]:
    sums = (_ImageSum(key, image, trained, inference, tasks, own_size) for key, image in images)
    batches = (
      batch
      for group in _group_by_size(sums, group_size)
      for batch in _make_batches(group, batch_size, trained.prepare.fill)
    )
    for windows, soft_predictions in _run_ahead(run, batches):
      for row, window in enumerate(windows):
        window.view.add(window, {name: batch[row] for name, batch in soft_predictions.items()})
        if window.view.image_sum.is_done():
          yield window.view.image_sum.key, window.view.image_sum.compute_mean()

  return predict


def _make_run(
  trained: TrainedPredictor, tasks: Mapping[str, Task]
) -> Callable[[np.ndarray], dict[str, jax.Array]]:
  """Compiles the soft predictions of a batch of inputs at their size."""

  def soft_predictions(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    outputs = trained.game.predict(variables, batch["image"])
    _, height, width, _ = batch["image"].shape
    return {
      name: task.soft_prediction(
        outputs[name], (height, width), align_corners=trained.game.align_corners
      )
      for name, task in tasks.items()
    }

  variables, compiled = replicate(trained.variables), pmap_step(soft_predictions, out_axes=0)
  return lambda images: compiled(variables, shard_batch({"image": images}))


class _ImageSum:
  """Sum of the soft predictions of all views of an image."""

  def __init__(
    self,
    key: Any,
    image: np.ndarray,
    trained: TrainedPredictor,
    inference: Inference,
    tasks: Mapping[str, Task],
    own_size: bool,
  ):
    self.key, self.image, self.tasks = key, image, tasks
    self.base = trained.resize(image)
    height, width = (image if own_size else self.base).shape[:2]
    self._size = height, width
    self.scale_depth = trained.scale_depth
    self.views = [_ViewSum(self, scale, trained, inference) for scale in inference.scales]
    self._num_views = len(inference.scales) * (1 + inference.flip)
    self._sums: SoftPredictions = {}
    self._num_missing = len(self.views)

  def add(self, sums: SoftPredictions, scale: float) -> None:
    """Adds the sums of a scale."""
    for name, total in sums.items():
      if self.scale_depth and scale != 1:
        total = self.tasks[name].unscale(total, scale)
      total = _resize(total, self._size)
      self._sums[name] = self._sums[name] + total if name in self._sums else total
    self._num_missing -= 1

  def is_done(self) -> bool:
    return not self._num_missing

  def compute_mean(self) -> SoftPredictions:
    """Divides by the number of views, and drops the views, whose cycle would keep memory alive."""
    self.views.clear()
    return {name: total / np.float32(self._num_views) for name, total in self._sums.items()}


class _ViewSum:
  """Sum of the soft predictions of an image at one scale, over windows and flipped image."""

  def __init__(
    self, image_sum: _ImageSum, scale: float, trained: TrainedPredictor, inference: Inference
  ):
    self.image_sum, self.scale = image_sum, scale
    height, width = (max(1, round(side * scale)) for side in image_sum.base.shape[:2])
    self.size = height, width
    self.input_size = (
      (inference.window, inference.window)
      if inference.window
      else input_size(
        self.size, trained.prepare.size, scale, align_corners=trained.game.align_corners
      )
    )
    self._flips = (False, True) if inference.flip else (False,)
    self._tiles = inference.tiles(self.size)
    self._sums: SoftPredictions = {}
    self._num_missing = len(self._flips) * len(self._tiles)

  def windows(self) -> "list[_Window]":
    return [_Window(self, tile, flipped) for flipped in self._flips for tile in self._tiles]

  @functools.cached_property
  def scaled_image(self) -> np.ndarray:
    if self.scale == 1:
      return self.image_sum.base
    return resize_image(self.image_sum.image, self.size)

  def add(self, window: "_Window", soft_predictions: SoftPredictions) -> None:
    """Adds the soft predictions of a window at the size of the network's input."""
    for name, values in soft_predictions.items():
      task = self.image_sum.tasks[name]
      self._sums[name] = window.add_to(self._sums.get(name), values, task)
    self._num_missing -= 1
    if not self._num_missing:
      self.image_sum.add(self._sums, self.scale)
      del self._sums, self.scaled_image


class _Window(NamedTuple):
  """Window of a view or of its flipped image."""

  view: _ViewSum
  tile: Tile
  flipped: bool

  def draw(self, canvas: np.ndarray) -> None:
    """Copies the window's pixels to the top left of an input full of padding."""
    rows, columns = self._slices()
    pixels = self.view.scaled_image[rows, columns]
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels[:, ::-1] if self.flipped else pixels

  def add_to(self, total: np.ndarray | None, values: np.ndarray, task: Task) -> np.ndarray:
    """Adds the window's soft prediction to the sum of a view, None if that is empty."""
    rows, columns = self.tile
    values = values[: rows.stop - rows.start, : columns.stop - columns.start]
    covers_view = values.shape[:2] == self.view.size
    values = values if covers_view else values * self.tile.weight()
    values = task.flip(values) if self.flipped else values
    if covers_view:
      return values if total is None else total + values
    if total is None:
      total = np.zeros((*self.view.size, values.shape[-1]), np.float32)
    total[self._slices()] += values
    return total

  def _slices(self) -> tuple[slice, slice]:
    """Returns the window's rows and columns in the unflipped view."""
    (top, bottom, _), (left, right, _) = self.tile
    if self.flipped:
      left, right = self.view.size[1] - right, self.view.size[1] - left
    return slice(top, bottom), slice(left, right)


def _group_by_size(images: Iterable[_ImageSum], size: int) -> Iterator[list[_ImageSum]]:
  """Yields up to `size` images at a time whose inputs have the same sizes."""
  waiting: dict[tuple[Size, ...], list[_ImageSum]] = {}
  for image in images:
    input_sizes = tuple(view.input_size for view in image.views)
    waiting.setdefault(input_sizes, []).append(image)
    if len(waiting[input_sizes]) == size:
      yield waiting.pop(input_sizes)
    elif sum(map(len, waiting.values())) >= _MAX_WAITING * size:
      yield waiting.pop(max(waiting, key=lambda sizes: len(waiting[sizes])))
  yield from waiting.values()


def _make_batches(
  images: Sequence[_ImageSum], batch_size: int, fill: RGB
) -> Iterator[tuple[list[_Window], np.ndarray]]:
  """Yields windows of some images, scale by scale, and their inputs uint8 (batch_size, h, w, 3)."""
  by_size: dict[Size, list[_Window]] = {}
  for views in zip(*(image.views for image in images), strict=True):
    for view in views:
      by_size.setdefault(view.input_size, []).extend(view.windows())
  for size, windows in by_size.items():
    for start in range(0, len(windows), batch_size):
      batch = windows[start : start + batch_size]
      inputs = np.full((batch_size, *size, 3), fill, np.uint8)
      for window, canvas in zip(batch, inputs, strict=False):
        window.draw(canvas)
      yield batch, inputs


def _run_ahead(
  run: Callable[[np.ndarray], dict[str, jax.Array]],
  batches: Iterable[tuple[list[_Window], np.ndarray]],
) -> Iterator[tuple[list[_Window], SoftPredictions]]:
  """Yields the soft predictions of each batch while the devices work on the next one."""
  fetch = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
  running = ((windows, run(inputs)) for windows, inputs in batches)
  for windows, soft_predictions in prefetch(running, ahead=1):
    yield windows, jax.tree.map(fetch, soft_predictions)


def _resize(values: np.ndarray, size: Size) -> np.ndarray:
  """Resizes (h, w, c) to another size, averaging where it shrinks."""
  if values.shape[:2] == size:
    return values
  parts = [
    resize_image(values[..., first : first + _MAX_CHANNELS], size).reshape(*size, -1)
    for first in range(0, values.shape[-1], _MAX_CHANNELS)
  ]
  return np.concatenate(parts, axis=-1)
