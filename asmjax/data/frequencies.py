"""How much of an image each class takes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.data.descriptor import Source


def class_shares(source: Source, classes: int, *, on_error: str = "raise") -> np.ndarray:
  """Each class's share of the labelled pixels of an image, on average over a source's images.

  Reads every example, in threads.  Each image counts alike, whatever its size; one without any
  labelled pixel does not count.

  Args:
    source: gives labels; should not cache.
    classes: number of classes c; a pixel with an id outside [0, c) is unlabelled.
    on_error: what becomes of an example that cannot be read: "raise", or "skip" to leave it out;
      see `asmjax.data.loader.Reading`.

  Returns:
    float64 (c,), adding up to 1.

  Raises:
    ValueError: no example has a labelled pixel, or a file cannot be read as what it should be.
    OSError: a file is missing or unreadable.
  """

  def shares(index: int) -> np.ndarray | None:
    try:
      label = source[index]["label"]
    except (OSError, ValueError):
      if on_error == "raise":
        raise
      return None  # Training says what is wrong with it.
    known = label[(label >= 0) & (label < classes)]
    return np.bincount(known, minlength=classes) / known.size if known.size else None

  with ThreadPoolExecutor() as pool:
    found = [each for each in pool.map(shares, range(len(source))) if each is not None]
  if not found:
    raise ValueError(
      f"no example of split {source.split!r} of {source.descriptor.name} has a labelled pixel, so "
      "that classes have no shares"
    )
  return np.mean(found, axis=0)
