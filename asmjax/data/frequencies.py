"""What a pass over a source counts: how much of an image each class takes, the smallest image."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from asmjax.data.descriptor import Source
from asmjax.data.transforms import Example

_T = TypeVar("_T")


def class_shares(source: Source, classes: int, *, on_error: str = "raise") -> np.ndarray:
  """Each class's share of the labeled pixels of an image, on average over a source's images.

  Reads every example, in threads.  Each image counts alike, whatever its size; one without any
  labeled pixel does not count.

  Args:
    source: gives labels; should not cache.
    classes: number of classes c; a pixel with an id outside [0, c) is unlabeled.
    on_error: what becomes of an example that cannot be read: "raise", or "skip" to leave it out;
      see `asmjax.data.loader.LoaderOptions`.

  Returns:
    float64 (c,), adding up to 1.

  Raises:
    ValueError: no example has a labeled pixel, or a file cannot be read as what it should be.
    OSError: a file is missing or unreadable.
  """

  def shares(example: Example) -> np.ndarray | None:
    label = example["label"]
    known = label[(label >= 0) & (label < classes)]
    return np.bincount(known, minlength=classes) / known.size if known.size else None

  found = [each for each in _of_all(source, shares, on_error) if each is not None]
  if not found:
    raise ValueError(
      f"no example of split {source.split!r} of {source.descriptor.name} has a labeled pixel, so "
      "that classes have no shares"
    )
  return np.mean(found, axis=0)


def smallest_diagonal(
  source: Source, resized: Callable[[tuple[int, int]], tuple[int, int]], *, on_error: str = "raise"
) -> float:
  """The smallest diagonal of a source's images in pixels, after they are resized.

  Reads every example, in threads.

  Args:
    source: gives images.
    resized: from the (height, width) of an image to that which counts.
    on_error: see `class_shares`.

  Raises:
    ValueError: no example can be read, or a file cannot be read as what it should be.
    OSError: a file is missing or unreadable.
  """
  diagonal = lambda example: float(np.hypot(*resized(example["image"].shape[:2])))
  found = _of_all(source, diagonal, on_error)
  if not found:
    raise ValueError(
      f"no example of split {source.split!r} of {source.descriptor.name} can be read, so that "
      "there is no smallest diagonal"
    )
  return min(found)


def _of_all(source: Source, function: Callable[[Example], _T], on_error: str) -> list[_T]:
  """The function of each example that can be read."""

  def one(index: int) -> list[_T]:
    try:
      example = source[index]
    except (OSError, ValueError):
      if on_error == "raise":
        raise
      return []  # The loop says what is wrong with it.
    return [function(example)]

  with ThreadPoolExecutor() as pool:
    return [each for found in pool.map(one, range(len(source))) for each in found]
