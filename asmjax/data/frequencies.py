"""Statistics of one pass over a source: the classes' pixel shares and the smallest image."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from asmjax.data.descriptor import Source
from asmjax.data.transforms import Example

_T = TypeVar("_T")


def class_shares(source: Source, classes: int, *, on_error: str = "raise") -> np.ndarray:
  """Computes each class's share of an image's labeled pixels, averaged over a source's images.

  Reads every example, in threads.  All images have the same weight, whatever their sizes; those
  without any labeled pixel are left out.

  Args:
    source: Source with labels. It should not cache, since every example is read once.
    classes: Number of classes c; a pixel with an id outside [0, c) is unlabeled.
    on_error: Policy for an example that cannot be read: "raise", or "skip" to leave it out.

  Returns:
    Shares of the classes, float64 (c,), which add up to 1.

  Raises:
    ValueError: No example has a labeled pixel, or the content of a file is not as expected.
    OSError: A file is missing or unreadable.
  """

  def shares(example: Example) -> np.ndarray | None:
    label = example["label"]
    known = label[(label >= 0) & (label < classes)]
    return np.bincount(known, minlength=classes) / known.size if known.size else None

  values = _map_examples(shares, source, on_error)
  if not values:
    raise ValueError(
      f"no example of split {source.split!r} of {source.descriptor.name} has a labeled pixel, so "
      "that classes have no shares"
    )
  return np.mean(values, axis=0)


def smallest_diagonal(
  source: Source, resized: Callable[[tuple[int, int]], tuple[int, int]], *, on_error: str = "raise"
) -> float:
  """Returns the smallest diagonal of a source's images, in pixels, after they are resized.

  Reads every example, in threads.

  Args:
    source: Source of the images. It should not cache, since every example is read once.
    resized: Function from the (height, width) of an image to that after resizing.
    on_error: Policy for an example that cannot be read: "raise", or "skip" to leave it out.

  Raises:
    ValueError: No example can be read, or the content of a file is not as expected.
    OSError: A file is missing or unreadable.
  """
  diagonal = lambda example: float(np.hypot(*resized(example["image"].shape[:2])))
  diagonals = _map_examples(diagonal, source, on_error)
  if not diagonals:
    raise ValueError(
      f"no example of split {source.split!r} of {source.descriptor.name} can be read, so that "
      "there is no smallest diagonal"
    )
  return min(diagonals)


def _map_examples(
  function: Callable[[Example], _T | None], source: Source, on_error: str
) -> list[_T]:
  """Returns the function's values that are not None, computed in threads, for readable examples."""

  def read(index: int) -> _T | None:
    try:
      example = source[index]
    except (OSError, ValueError):
      if on_error == "raise":
        raise
      return None  # The loader reports the error when it skips the example.
    return function(example)

  with ThreadPoolExecutor() as pool:
    values = pool.map(read, range(len(source)))
    return [value for value in values if value is not None]
