"""Estimates at an image's own size, averaged over scales, flipped images and windows."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asmjax.config.schema import choose
from asmjax.data.transforms import RGB, interpolate
from asmjax.inference.tiling import Size, Tile, canvas, tiles
from asmjax.inference.trained import Trained
from asmjax.tasks.base import Task
from asmjax.train.parallel import place, replicated, spread
from asmjax.utils.prefetch import prefetch

Estimates = dict[str, np.ndarray]
Predict = Callable[[Iterable[tuple[Any, np.ndarray]]], Iterator[tuple[Any, Estimates]]]

# Images, in batches, that wait for others of their size before some go ahead in part of a batch.
_WAITING = 8
# OpenCV averages over areas of so many channels at once.
_CHANNELS = 4


@dataclasses.dataclass(frozen=True)
class Inference:
  """How an image is looked at.

  Attributes:
    scales: of the size that the run's evaluation gives an image; estimates are averaged over them.
    flip: and over the image and its flipped image.
    window: side of the windows that an image is cut into at each scale; 0 shows it whole. Best is
      the size that the network was trained at.
    overlap: pixels that neighboring windows share at least; None for a third of the window.
    batch_size: images or windows at a time; rounded up to a multiple of the devices.
    tasks: that are predicted; empty for all.

  Raises:
    ValueError: a setting that makes no sense.
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
  def is_plain(self) -> bool:
    """Whether each image is seen once and whole, at the size that evaluation gives it."""
    return (self.scales, self.flip, self.window) == ((1.0,), False, 0)

  @property
  def protocol(self) -> str:
    """How images are looked at, in words."""
    scales = ", ".join(f"{scale:g}" for scale in self.scales)
    flip = " and flipped images" if self.flip else ""
    windows = f", in windows of {self.window} that share {self._overlap} pixels at least"
    return f"averaged over scales {scales}{flip}{windows if self.window else ''}"

  @property
  def _overlap(self) -> int:
    return self.window // 3 if self.overlap is None else self.overlap

  def tiles(self, size: Size) -> tuple[Tile, ...]:
    """The windows of an image of `size`, (h, w)."""
    return tuple(tiles(size, self.window, self._overlap))

  def chosen(self, tasks: dict[str, Task]) -> dict[str, Task]:
    """The tasks that are predicted; ValueError for one that the network does not have."""
    return {name: choose(tasks, name, "task") for name in self.tasks or tasks}


def make_predict(
  trained: Trained, inference: Inference = Inference(), *, own_size: bool = True
) -> Predict:
  """Prediction of many images, compiled once for every size of the network's input.

  At scale 1, unflipped and whole, what the network sees and says is what it does in evaluation.
  Images of one size of the network's input share batches. Devices hold one batch and what the
  network says of it; sums are kept on the host in float32, so with windows the devices' memory
  does not grow with the image.

  Args:
    trained: the predictor.
    inference: how it looks at an image.
    own_size: give estimates at the size of the image, or else at that which evaluation gives it.

  Returns:
    `predict(images)` of pairs (key, image uint8 (h, w, 3)), which yields pairs (key, estimates) as
    they are done, mostly in another order: of every task what its `estimate` gives, averaged, at
    that size (h, w, c). The task's `conclude` makes a prediction of it.

  Raises:
    ValueError: a task that is to be predicted is unknown.
  """
  tasks = inference.chosen(trained.game.tasks)
  batch_size = -(-inference.batch_size // jax.local_device_count()) * jax.local_device_count()
  run = _make_run(trained, tasks)
  # Windows fill batches without the help of other images.
  group = 1 if inference.window else batch_size

  def predict(images: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple[Any, Estimates]]:
    jobs = (_Job(key, image, trained, inference, tasks, own_size) for key, image in images)
    fill = trained.prepare.fill
    batches = (
      batch for each in _grouped(jobs, group) for batch in _batches(each, batch_size, fill)
    )
    for pieces, estimates in _lagging(run, batches):
      for row, piece in enumerate(pieces):
        piece.view.add(piece, {name: each[row] for name, each in estimates.items()})
        if piece.view.job.is_done():
          yield piece.view.job.key, piece.view.job.estimates()

  return predict


def _make_run(
  trained: Trained, tasks: dict[str, Task]
) -> Callable[[np.ndarray], dict[str, jax.Array]]:
  """Estimates of a batch of inputs at their size, as rows on the devices."""

  def estimate(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    outputs = trained.game.predict(variables, batch["image"])
    size, aligned = batch["image"].shape[1:3], {"align_corners": trained.game.align_corners}
    return {
      name: task.soft_prediction(outputs[name], size, **aligned) for name, task in tasks.items()
    }

  variables, compiled = replicated(trained.variables), spread(estimate, out_axes=0)
  return lambda pictures: compiled(variables, place({"image": pictures}))


class _Job:
  """An image whose estimates are being put together."""

  def __init__(
    self,
    key: Any,
    image: np.ndarray,
    trained: Trained,
    inference: Inference,
    tasks: dict[str, Task],
    own_size: bool,
  ):
    self.key, self.image, self.tasks = key, image, tasks
    self.base = trained.resized(image)
    self._size = (image if own_size else self.base).shape[:2]
    self.divide_depth = trained.divide_depth
    self.views = [_View(self, scale, trained, inference) for scale in inference.scales]
    self._count = len(inference.scales) * (1 + inference.flip)
    self._sums: Estimates = {}
    self._missing = len(self.views)

  def add(self, sums: Estimates, factor: float) -> None:
    """The sums of a scale; without those who look at it, it can be forgotten."""
    for name, each in sums.items():
      if self.divide_depth and factor != 1:
        each = self.tasks[name].unscale(each, factor)
      each = _resized(each, self._size)
      self._sums[name] = self._sums[name] + each if name in self._sums else each
    self._missing -= 1

  def is_done(self) -> bool:
    return not self._missing

  def estimates(self) -> Estimates:
    """The means; also lets go of all that refers to this in turn, which would linger in memory."""
    self.views.clear()
    return {name: each / np.float32(self._count) for name, each in self._sums.items()}


class _View:
  """An image at one scale, the pieces that the network sees of it, and the sum of what it says."""

  def __init__(self, job: _Job, factor: float, trained: Trained, inference: Inference):
    self.job, self.factor = job, factor
    self.size = tuple(max(1, round(side * factor)) for side in job.base.shape[:2])
    self.canvas = (
      (inference.window,) * 2
      if inference.window
      else canvas(self.size, trained.prepare.size, factor, align_corners=trained.game.align_corners)
    )
    self._flips = (False, True) if inference.flip else (False,)
    self._tiles = inference.tiles(self.size)
    self._sums: Estimates = {}
    self._missing = len(self._flips) * len(self._tiles)

  def pieces(self) -> "list[_Piece]":
    return [_Piece(self, tile, flipped) for flipped in self._flips for tile in self._tiles]

  @functools.cached_property
  def picture(self) -> np.ndarray:
    return self.job.base if self.factor == 1 else interpolate(self.job.image, self.size)

  def add(self, piece: "_Piece", estimates: Estimates) -> None:
    """What the network says of a piece, at the size of its input."""
    for name, each in estimates.items():
      self._sums[name] = piece.added(each, self._sums.get(name), self.job.tasks[name])
    self._missing -= 1
    if not self._missing:
      self.job.add(self._sums, self.factor)
      del self._sums, self.picture


class _Piece(NamedTuple):
  """A window of a view or of its flipped image."""

  view: _View
  tile: Tile
  flipped: bool

  def draw(self, canvas: np.ndarray) -> None:
    """Draws what the network is to see on a canvas of the color of padding."""
    rows, columns = self._place()
    seen = self.view.picture[rows, columns]
    canvas[: seen.shape[0], : seen.shape[1]] = seen[:, ::-1] if self.flipped else seen

  def added(self, estimate: np.ndarray, total: np.ndarray | None, task: Task) -> np.ndarray:
    """The sum of what is known of a view, or nothing, and an estimate of this piece."""
    rows, columns = self.tile
    estimate = estimate[: rows.stop - rows.start, : columns.stop - columns.start]
    whole = estimate.shape[:2] == self.view.size
    estimate = estimate if whole else estimate * self.tile.weight()
    estimate = task.flip(estimate) if self.flipped else estimate
    if whole:
      return estimate if total is None else total + estimate
    if total is None:
      total = np.zeros((*self.view.size, estimate.shape[-1]), np.float32)
    total[self._place()] += estimate
    return total

  def _place(self) -> tuple[slice, slice]:
    """Where the piece lies in the view that is not flipped."""
    (top, bottom, _), (left, right, _) = self.tile
    if self.flipped:
      left, right = self.view.size[1] - right, self.view.size[1] - left
    return slice(top, bottom), slice(left, right)


def _grouped(jobs: Iterable[_Job], size: int) -> Iterator[list[_Job]]:
  """Up to `size` images at a time whose inputs have the same sizes."""
  waiting: dict[tuple[Size, ...], list[_Job]] = {}
  for job in jobs:
    kind = tuple(view.canvas for view in job.views)
    waiting.setdefault(kind, []).append(job)
    if len(waiting[kind]) == size:
      yield waiting.pop(kind)
    elif sum(map(len, waiting.values())) >= _WAITING * size:
      yield waiting.pop(max(waiting, key=lambda kind: len(waiting[kind])))
  yield from waiting.values()


def _batches(
  jobs: Sequence[_Job], batch_size: int, fill: RGB
) -> Iterator[tuple[list[_Piece], np.ndarray]]:
  """The pieces of some images, scale by scale, and as many inputs: uint8 (batch_size, h, w, 3)."""
  alike: dict[Size, list[_Piece]] = {}
  for views in zip(*(job.views for job in jobs), strict=True):
    for view in views:
      alike.setdefault(view.canvas, []).extend(view.pieces())
  for size, pieces in alike.items():
    for start in range(0, len(pieces), batch_size):
      batch = pieces[start : start + batch_size]
      pictures = np.full((batch_size, *size, 3), fill, np.uint8)
      for piece, picture in zip(batch, pictures, strict=False):
        piece.draw(picture)
      yield batch, pictures


def _lagging(
  run: Callable[[np.ndarray], dict[str, jax.Array]],
  batches: Iterable[tuple[list[_Piece], np.ndarray]],
) -> Iterator[tuple[list[_Piece], Estimates]]:
  """What the network says of each batch, fetched while it works on the next one."""
  fetched = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
  running = ((pieces, run(pictures)) for pieces, pictures in batches)
  for pieces, outputs in prefetch(running, ahead=1):
    yield pieces, jax.tree.map(fetched, outputs)


def _resized(estimate: np.ndarray, size: Size) -> np.ndarray:
  """An estimate (h, w, c) at another size, averaged where it shrinks."""
  if estimate.shape[:2] == size:
    return estimate
  parts = [
    interpolate(estimate[..., first : first + _CHANNELS], size).reshape(*size, -1)
    for first in range(0, estimate.shape[-1], _CHANNELS)
  ]
  return np.concatenate(parts, axis=-1)
