"""Views of an image, scaled, flipped and cut into windows, and the sums of what they show."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np

from asmjax.config.schema import choose
from asmjax.data.transforms import resize_image
from asmjax.inference.programs import Programs
from asmjax.inference.tiling import Size, Tile, input_size, tiles
from asmjax.inference.trained import TrainedPredictor
from asmjax.tasks.base import Task
from asmjax.utils.memory import GIB
from asmjax.utils.ranges import NonNegative, PositiveInt, Range, check_ranges
from asmjax.utils.shapes import check_image

# Far beyond any use, and still in the memory of a machine.
Scale = Annotated[float, Range(0, 64, above=True)]
Side = Annotated[int, Range(0, 1 << 14)]

SoftPredictions = dict[str, np.ndarray]
OnRows = Callable[[Any, SoftPredictions], None]

# Largest number of channels that OpenCV's INTER_AREA takes.
_MAX_CHANNELS = 4


@dataclasses.dataclass(frozen=True)
class Inference:
  """Views of an image over which predictions are averaged.

  Attributes:
    scales: Factors of the size that the run's evaluation gives an image; (1,) by default.
    flip: Whether to average over the flipped image, too.
    window: Side in pixels of the windows that an image is cut into at each scale, best the size of
      the network's inputs in training, or a multiple of 32: over other windows maps whose sides are
      rounded are stretched, by up to half of the network's stride at either end, unless corners are
      aligned. 0, the default, for the complete image at once, if memory allows.
    overlap: Smallest number of pixels that neighboring windows share; None, the default, for a
      third of the window.
    batch_size: Largest number of images or windows in a batch, fewer where memory is too small;
      rounded up to a multiple of the devices.
    tasks: Names of the tasks to predict; empty, the default, for all.
    memory: Memory in GiB, of each device and of the host, that predicting may use; 0, the default,
      for all that is free at its start. Batches and windows are chosen to need less.

  Raises:
    ValueError: A setting is invalid; the message names it.
  """

  scales: tuple[Scale, ...] = (1.0,)
  flip: bool = False
  window: Side = 0
  overlap: int | None = None
  batch_size: PositiveInt = 8
  tasks: tuple[str, ...] = ()
  memory: NonNegative = 0.0

  def __post_init__(self) -> None:
    """Checks the settings."""
    check_ranges(self)
    if not self.scales:
      raise ValueError(f"scales={self.scales}; expected one or more")
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


class ImageSum:
  """Sum of the soft predictions of all views of an image.

  Attributes:
    window: Side of the windows that the image is cut into because it is too large; 0 if it is not.
    group_size: Number of such images that fit into a batch.
  """

  def __init__(
    self,
    key: Any,
    image: np.ndarray,
    trained: TrainedPredictor,
    inference: Inference,
    tasks: Mapping[str, Task],
    own_size: bool,
    programs: Programs,
    on_rows: OnRows | None = None,
  ):
    """Cuts the image into views that fit into memory; arguments as for `make_predict`.

    Raises:
      ValueError: It is no uint8 (h, w, 3), or has a size that evaluation cannot take.
      MemoryError: Its soft predictions, or its smallest windows, do not fit into memory.
    """
    self.key, self.image, self.tasks = key, check_image(image), tasks
    self.base = trained.resize(image)
    height, width = (image if own_size else self.base).shape[:2]
    self._size = height, width
    self.scale_depth = trained.scale_depth
    self.views = [ViewSum(self, scale, trained, inference) for scale in inference.scales]
    self._num_views = len(inference.scales) * (1 + inference.flip)
    self._sums: SoftPredictions = {}
    self.has_failed = False
    self.window = self._cut_large_views(programs, inference)
    (view, *others) = self.views
    is_in_rows = not others and view.is_cut and view.size == self._size
    self._on_rows = on_rows if is_in_rows else None
    self._check_memory(programs.limits.arrays)
    if inference.window or self.window:  # Windows of a single image fill batches.
      self.group_size = 1
    else:
      most = min(programs.max_batch(view.input_size) for view in self.views)
      self.group_size = max(1, min(most, int(programs.limits.arrays / self.num_bytes)))

  @property
  def num_bytes(self) -> int:
    """Size of the soft predictions that are held at a time, float32, in all views' sizes."""
    if self.gives_rows:
      pixels = self.views[0].max_rows * self._size[1]
    else:
      pixels = max(height * width for height, width in (self._size, *(v.size for v in self.views)))
    return 4 * pixels * sum(task.channels for task in self.tasks.values())

  @property
  def gives_rows(self) -> bool:
    """Whether soft predictions leave row by row, as windows complete them."""
    return self._on_rows is not None

  def _check_memory(self, limit: float) -> None:
    """Raises MemoryError if the soft predictions do not fit into the host's memory."""
    if self.num_bytes > limit:
      height, width = self.image.shape[:2]
      raise MemoryError(
        f"{height}x{width} pixels (height x width) need {self.num_bytes / GIB:.2g} GiB for soft "
        f"predictions; expected at most {limit / GIB:.2g}, a part of the memory that is free"
      )

  def _cut_large_views(self, programs: Programs, inference: Inference) -> int:
    """Cuts views that are too large for the devices; returns the side of their windows, or 0."""
    large = [view for view in self.views if not programs.max_batch(view.input_size)]
    if not large:
      return 0
    window = 0 if inference.window else programs.choose_window()
    if not window:
      raise MemoryError(
        f"inputs of {large[0].input_size} pixels need more than "
        f"{programs.limits.program / GIB:.2g} GiB, a part of the memory that is free"
      )
    for view in large:
      view.cut(dataclasses.replace(inference, window=window, overlap=None))
    return window

  def describe_cut(self) -> str:
    """Describes an image that would have to be cut."""
    height, width = self.image.shape[:2]
    return (
      f"{height}x{width} pixels (height x width) do not fit into memory at once; expected smaller "
      f"images, or windows, of {self.window} pixels at most"
    )

  def add(self, sums: SoftPredictions, scale: float) -> None:
    """Adds the sums of a scale, or passes on those of its next rows."""
    if self.scale_depth and scale != 1:
      sums = {name: self.tasks[name].unscale(total, scale) for name, total in sums.items()}
    if self._on_rows:
      self._on_rows(self.key, self._divide(sums))
      return
    for name, total in sums.items():
      total = _resize(total, self._size)
      self._sums[name] = self._sums[name] + total if name in self._sums else total

  def is_done(self) -> bool:
    """Returns whether all views are there."""
    return all(view.is_done for view in self.views)

  def compute_mean(self) -> SoftPredictions:
    """Divides by the number of views, and drops the views, whose cycle would keep memory alive."""
    self.views.clear()
    sums, self._sums = self._sums, {}
    return self._divide(sums)

  def _divide(self, sums: SoftPredictions) -> SoftPredictions:
    if self._num_views == 1:
      return sums
    return {name: total / np.float32(self._num_views) for name, total in sums.items()}


class ViewSum:
  """Sum of the soft predictions of an image at one scale, over windows and flipped image."""

  def __init__(
    self, image_sum: ImageSum, scale: float, trained: TrainedPredictor, inference: Inference
  ):
    """Cuts the view as `inference` says."""
    self.image_sum, self.scale = image_sum, scale
    height, width = (max(1, round(side * scale)) for side in image_sum.base.shape[:2])
    self.size = height, width
    self.input_size = input_size(
      self.size, trained.prepare.size, scale, align_corners=trained.game.align_corners
    )
    self._flips = (False, True) if inference.flip else (False,)
    self._sums: SoftPredictions = {}
    self.first_row = 0  # Of the sums.
    self.cut(inference)

  def cut(self, inference: Inference) -> None:
    """Cuts the view into the windows of `inference`, if it has any."""
    if inference.window:
      self.input_size = inference.window, inference.window
    self._tiles = inference.tiles(self.size)
    self._starts = sorted({tile.rows.start for tile in self._tiles})
    self._num_missing = len(self._flips) * len(self._tiles)

  @property
  def is_cut(self) -> bool:
    """Whether the view has several windows."""
    return len(self._tiles) > 1

  @property
  def is_done(self) -> bool:
    """Whether the soft predictions of all windows were added."""
    return not self._num_missing

  @property
  def max_rows(self) -> int:
    """Largest number of rows whose sums are held at a time if complete ones are passed on."""
    return min(self.size[0], 2 * self.input_size[0])

  def windows(self) -> "list[Window]":
    """Lists the windows and those of the flipped image, from top to bottom."""
    return [
      Window(self, tile, flipped)
      for start in self._starts
      for flipped in self._flips
      for tile in self._tiles
      if tile.rows.start == start
    ]

  @functools.cached_property
  def scaled_image(self) -> np.ndarray:
    """Image at the view's scale, uint8 (h, w, 3)."""
    if self.scale == 1:
      return self.image_sum.base
    return resize_image(self.image_sum.image, self.size)

  def add(self, window: "Window", soft_predictions: SoftPredictions) -> None:
    """Adds the soft predictions of a window at the size of the network's input."""
    for name, values in soft_predictions.items():
      task = self.image_sum.tasks[name]
      self._sums[name] = window.add_to(self._sums.get(name), values, task)
    self._num_missing -= 1
    if self.image_sum.gives_rows:
      self._pass_on_rows()
    elif self.is_done:
      self.image_sum.add(self._sums, self.scale)
    if self.is_done:
      del self._sums, self.scaled_image

  def _pass_on_rows(self) -> None:
    """Passes on the rows that no other window reaches; windows come from top to bottom."""
    per_row = len(self._flips) * len(self._tiles) // len(self._starts)
    num_missing_rows, is_amid_row = divmod(self._num_missing, per_row)
    if is_amid_row:
      return
    stop = self._starts[-num_missing_rows] if num_missing_rows else self.size[0]
    count, self.first_row = stop - self.first_row, stop
    self.image_sum.add({name: total[:count] for name, total in self._sums.items()}, self.scale)
    self._sums = {name: total[count:].copy() for name, total in self._sums.items()}


class Window(NamedTuple):
  """Window of a view or of its flipped image."""

  view: ViewSum
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
    first = self.view.first_row
    last = rows.stop if self.view.image_sum.gives_rows else self.view.size[0]
    if total is None:
      total = np.zeros((0, self.view.size[1], values.shape[-1]), np.float32)
    if len(total) < last - first:
      total = np.pad(total, [(0, last - first - len(total)), (0, 0), (0, 0)])
    total[rows.start - first : rows.stop - first, self._slices()[1]] += values
    return total

  def _slices(self) -> tuple[slice, slice]:
    """Returns the window's rows and columns in the unflipped view."""
    (top, bottom, _), (left, right, _) = self.tile
    if self.flipped:
      left, right = self.view.size[1] - right, self.view.size[1] - left
    return slice(top, bottom), slice(left, right)


def _resize(values: np.ndarray, size: Size) -> np.ndarray:
  """Resizes (h, w, c) to another size, averaging where it shrinks."""
  if values.shape[:2] == size:
    return values
  parts = [
    resize_image(values[..., first : first + _MAX_CHANNELS], size).reshape(*size, -1)
    for first in range(0, values.shape[-1], _MAX_CHANNELS)
  ]
  return np.concatenate(parts, axis=-1)
