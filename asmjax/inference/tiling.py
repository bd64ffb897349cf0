"""How large the network's inputs are, and how windows cover an image: arithmetic on sizes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]

# Down to 1/32 the maps of a network are as large as they should be on inputs of such sides, or of
# one pixel more with aligned corners.
_MULTIPLE = 32


class Span(NamedTuple):
  """What a window covers along one axis.

  Attributes:
    start: its first pixel.
    stop: behind its last one.
    weights: float32 (stop - start,); over all windows they add up to 1 at every pixel.
  """

  start: int
  stop: int
  weights: np.ndarray


class Tile(NamedTuple):
  """A window of an image."""

  rows: Span
  columns: Span

  def weight(self) -> np.ndarray:
    """What its estimate counts at each pixel, float32 (h, w, 1)."""
    return np.outer(self.rows.weights, self.columns.weights)[..., None]


def rounded_up(side: int) -> int:
  """The next of few sides: multiples of 32, and four in every octave.

  So inputs of arbitrary sizes have few shapes, and less than a quarter of a side is padding once
  it is longer than 128.
  """
  multiple = max(_MULTIPLE, 2 ** ((side - 1).bit_length() - 3)) if side > 1 else _MULTIPLE
  return -(-side // multiple) * multiple


def canvas(size: Size, usual: Size, factor: float = 1.0, *, align_corners: bool = False) -> Size:
  """The size of the network's input for an image.

  Args:
    size: (h, w) of the image, scaled by `factor`.
    usual: the input in evaluation, which is taken where the image fits, so that predictions are
      those of the evaluation.
    factor: `usual` is scaled by it and rounded up.
    align_corners: The network's convention, see `asmjax.ops.resize`; sides are one pixel longer.
  """
  more = int(align_corners)
  fit = lambda sides: tuple(rounded_up(max(side - more, 1)) + more for side in sides)
  if factor != 1:
    usual = fit(more + round((side - more) * factor) for side in usual)
  return usual if size[0] <= usual[0] and size[1] <= usual[1] else fit(size)


def tiles(size: Size, window: int, overlap: int) -> Iterator[Tile]:
  """The windows of an image, row by row; see `spans`."""
  columns = spans(size[1], window, overlap)
  for rows in spans(size[0], window, overlap):
    for each in columns:
      yield Tile(rows, each)


def spans(length: int, window: int, overlap: int) -> list[Span]:
  """Covers an axis evenly with windows.

  Where windows overlap, the weight of each goes from 1 to 0 as a squared sine over the middle half
  of `overlap`. So nothing counts what a window says within a quarter of the overlap from its
  border, where it misses what lies beyond; but the image's own borders are seen as they are.

  Args:
    length: of the axis.
    window: of that length; 0 for one window that covers everything.
    overlap: pixels that neighbors share at least, less than the window has.
  """
  if not window or length <= window:
    return [Span(0, length, np.ones(length, np.float32))]
  count = -(-(length - overlap) // (window - overlap))
  starts = [index * (length - window) // (count - 1) for index in range(count)]
  depth = np.arange(window) + 0.5
  rise = np.clip((depth - overlap / 4) / max(overlap / 2, 0.5), 0, 1)
  rise = np.sin(rise * np.pi / 2) ** 2
  weights = np.zeros((count, length))
  for index, start in enumerate(starts):
    before = rise if index else 1.0
    after = rise[::-1] if index < count - 1 else 1.0
    weights[index, start : start + window] = before * after
  weights = (weights / weights.sum(0)).astype(np.float32)
  return [
    Span(start, start + window, each[start : start + window])
    for start, each in zip(starts, weights, strict=True)
  ]
