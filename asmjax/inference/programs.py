"""Compiled programs of a predictor, as large as memory allows."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from asmjax.inference.tiling import Size, input_size
from asmjax.inference.trained import TrainedPredictor
from asmjax.tasks.base import Task
from asmjax.train.parallel import pmap_step, replicate, shard_batch
from asmjax.utils.memory import GIB, free_device_memory, free_host_memory

# Bytes that a program takes for each pixel of its inputs, until one is compiled that says: more
# than most networks need, so that a first program is not larger than memory.
_ASSUMED_BYTES_PER_PIXEL = 2000.0
# Part of the free memory that one program may take: two batches are under way at a time, and
# convolutions take scratch memory beyond what the compiler lists. On the CPU the images' arrays
# need room, too.
_PROGRAM_SHARE = {"cpu": 0.25}
_OTHER_PROGRAM_SHARE = 0.4
# Part of the host's free memory for the soft predictions of one image, and for those that wait.
_ARRAYS_SHARE = 0.25
# Longest side of a window that is chosen here, and the bytes that it takes at most: larger ones are
# no faster, and the rest of the memory is left to the image's own arrays and to other processes.
_MAX_WINDOW = 4096
_MAX_WINDOW_BYTES = GIB
# Windows that are chosen are multiples of this, the largest stride of the networks.
_MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class MemoryLimits:
  """Limits of what predicting holds at a time, in bytes.

  Attributes:
    program: Bytes of a compiled program's arrays on one device, without the weights.
    arrays: Bytes of one image's soft predictions on the host, and of all that wait to be written.
  """

  program: float
  arrays: float

  @classmethod
  def measure(cls, gib: float = 0.0) -> "MemoryLimits":
    """Derives the limits from the memory that is free now.

    Args:
      gib: Memory to use instead, in GiB, on each device and on the host; 0, the default, for what
        is free.
    """
    devices = jax.local_devices()
    share = _PROGRAM_SHARE.get(devices[0].platform, _OTHER_PROGRAM_SHARE)
    given = gib * GIB
    device = given / (len(devices) if devices[0].platform == "cpu" else 1)
    return cls(
      program=share * (device or free_device_memory()),
      arrays=_ARRAYS_SHARE * (given or free_host_memory()),
    )


class Programs:
  """Soft predictions of batches of inputs, compiled for each size that is needed.

  Attributes:
    limits: Limits of the memory.
    num_devices: Number of devices, which every batch is spread over.
  """

  def __init__(
    self,
    trained: TrainedPredictor,
    tasks: Mapping[str, Task],
    limits: MemoryLimits,
    batch_size: int,
  ):
    """Compiles nothing yet.

    Args:
      trained: Predictor of a run.
      tasks: Tasks to predict, by name.
      limits: Limits of the memory.
      batch_size: Largest number of inputs in a batch; rounded up to a multiple of the devices.
    """

    def soft_predictions(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
      outputs = trained.game.predict(variables, batch["image"])
      _, height, width, _ = batch["image"].shape
      return {
        name: task.soft_prediction(
          outputs[name], (height, width), align_corners=trained.game.align_corners
        )
        for name, task in tasks.items()
      }

    self.limits = limits
    self.num_devices = jax.local_device_count()
    self._rows = -(-batch_size // self.num_devices)  # On each device.
    self._usual = input_size((1, 1), trained.prepare.size, align_corners=trained.game.align_corners)
    self._extra = int(trained.game.align_corners)
    self._variables = replicate(trained.variables)
    self._function: Any = pmap_step(soft_predictions, out_axes=0)
    self._compiled: dict[tuple[int, Size], Any] = {}
    self._bytes_per_pixel = 0.0

  def max_batch(self, size: Size) -> int:
    """Returns how many inputs of a size fit into a batch; 0 if memory is too small for one."""
    rows = self._rows_that_fit(size, self._bytes_per_pixel or _ASSUMED_BYTES_PER_PIXEL)
    if rows < self._rows and not self._bytes_per_pixel:
      self._compile(1, self._usual)
      rows = self._rows_that_fit(size, self._bytes_per_pixel)
    return min(rows, self._rows) * self.num_devices

  def choose_window(self) -> int:
    """Returns the side in pixels of square windows that fit, each as large as is of use.

    Returns:
      Side; 0 if no window fits.
    """
    self.max_batch((_MAX_WINDOW, _MAX_WINDOW))  # Measures, if nothing is known yet.
    bytes_per_pixel = self._bytes_per_pixel or _ASSUMED_BYTES_PER_PIXEL
    pixels = min(self.limits.program, _MAX_WINDOW_BYTES) / bytes_per_pixel
    side = int(min(math.sqrt(pixels), _MAX_WINDOW)) - self._extra
    side = side // _MULTIPLE * _MULTIPLE
    return side + self._extra if side > 0 else 0

  def padded(self, size: Size, count: int) -> int:
    """Returns how many rows a batch of `count` inputs has.

    Few numbers are compiled for each size: a batch that is not full is padded to one that is there,
    or else to a power of two for each device, so that a lone large photo is computed once.
    """
    rows = -(-count // self.num_devices)
    known = [rows_ for rows_, size_ in self._compiled if size_ == size and rows_ >= rows]
    most = self.max_batch(size) // self.num_devices
    best = min(known, default=min(2 ** (rows - 1).bit_length(), max(most, rows)))
    return best * self.num_devices

  def run(self, inputs: np.ndarray) -> dict[str, jax.Array]:
    """Starts to compute the soft predictions of inputs, uint8 (n, h, w, 3), n from `padded`.

    Returns:
      Arrays (devices, n / devices, h, w, c) by task, which may not be there yet.
    """
    rows, size = len(inputs) // self.num_devices, inputs.shape[1:3]
    return self._compile(rows, size)(self._variables, shard_batch({"image": inputs}))

  def _rows_that_fit(self, size: Size, bytes_per_pixel: float) -> int:
    most = self.limits.program / (bytes_per_pixel * size[0] * size[1])
    return int(min(most, self._rows))

  def _compile(self, rows: int, size: Size) -> Any:
    """Returns the program for `rows` inputs on each device, and learns how much memory it takes."""
    if (rows, size) not in self._compiled:
      shape = (rows * self.num_devices, *size, 3)
      batch = shard_batch({"image": np.zeros(shape, np.uint8)})
      program = self._function.lower(self._variables, batch).compile()
      self._compiled[rows, size] = program
      if used := program.memory_analysis():
        total = used.temp_size_in_bytes + used.output_size_in_bytes
        per_pixel = total / (rows * size[0] * size[1])
        self._bytes_per_pixel = max(self._bytes_per_pixel, per_pixel)
    return self._compiled[rows, size]
