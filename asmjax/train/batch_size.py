"""Sizes of batches that are of use, and fit."""

import jax

from asmjax.utils.memory import format_bytes, total_memory

# Largest number of examples a device in a batch that repeats those of a smaller data set.
_MAX_REPEATING = 256


def check_batch_size(
  batch_size: int, num_examples: int, image_size: tuple[int, int], section: str
) -> None:
  """Checks that a batch is of use, and can be held.

  Args:
    batch_size: Number of examples in the global batch.
    num_examples: Number of examples in the data set. A larger batch has some of them several times,
      or padding, which is no use beyond the batches of small data sets and many devices.
    image_size: Height and width in pixels of the examples.
    section: Name of the section of the config, for the message.

  Raises:
    ValueError: The batch is larger than the data set and than 256 for each device, or the memory
      cannot even hold the images of a process's share.
  """
  most = max(num_examples, _MAX_REPEATING * jax.device_count())
  if batch_size > most:
    raise ValueError(
      f"{section}.batch_size={batch_size} is more than the {num_examples} examples that there are; "
      f"expected at most {most}"
    )
  height, width = image_size
  # uint8 as they are read, and float32 as the predictor gets them; a label of int32.
  size = batch_size // jax.process_count() * height * width * (3 + 12 + 4)
  if size > (total := total_memory()):
    raise ValueError(
      f"{section}.batch_size={batch_size} takes {format_bytes(size)} for the "
      f"images and labels of {height}x{width} pixels alone; expected less than the "
      f"{format_bytes(total)} of memory that there are"
    )
