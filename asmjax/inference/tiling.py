"""Sizes of the network's inputs, and windows that cover an image: arithmetic on sizes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]

# Strides go up to 32: on inputs of such sides, or of one pixel more with aligned corners, every map
# of a network has the size side / stride without rounding.
_MULTIPLE = 32


class Span(NamedTuple):
  """Extent of a window along one axis.

  Attributes:
    start: First pixel of the window.
    stop: Pixel behind the last one of the window.
    weights: Weights of the window's pixels, float32 (stop - start,); over all windows they add up
      to 1 at every pixel.
  """

  start: int
  stop: int
  weights: np.ndarray


class Tile(NamedTuple):
  """A window of an image."""

  rows: Span
  columns: Span

  def weight(self) -> np.ndarray:
    """Computes the weight of the window's prediction at each pixel, float32 (h, w, 1)."""
    return np.outer(self.rows.weights, self.columns.weights)[..., None]


def round_up_side(side: int) -> int:
  """Rounds up to one of few sides: multiples of 32, and four in every octave.

  So inputs of arbitrary sizes have few shapes, and less than a quarter of a side is padding once
  it is longer than 128.
  """
  multiple = max(_MULTIPLE, 2 ** ((side - 1).bit_length() - 3)) if side > 1 else _MULTIPLE
  return -(-side // multiple) * multiple


def input_size(
  size: Size, usual: Size, factor: float = 1.0, *, align_corners: bool = False
) -> Size:
  """Computes the size of the network's input for an image.

  Args:
    size: Height and width of the image, scaled by `factor`.
    usual: Size of the input in evaluation; taken where the image fits, so that predictions are
      those of the evaluation.
    factor: Scale of the image, by which `usual` is scaled, too, and rounded up; 1 by default.
    align_corners: Whether outputs lie on the pixels S i of the image, see `asmjax.ops.resize`; then
      sides are one pixel longer.
  """
  extra = int(align_corners)
  round_up = lambda side: round_up_side(max(side - extra, 1)) + extra
  if factor != 1:
    height, width = (round_up(extra + round((side - extra) * factor)) for side in usual)
    usual = height, width
  if size[0] <= usual[0] and size[1] <= usual[1]:
    return usual
  return round_up(size[0]), round_up(size[1])


def tiles(size: Size, window: int, overlap: int) -> Iterator[Tile]:
  """Yields the windows of an image, row by row; see `spans`."""
  for rows in spans(size[0], window, overlap):
    for columns in spans(size[1], window, overlap):
      yield Tile(rows, columns)


def spans(length: int, window: int, overlap: int) -> list[Span]:
  """Covers an axis evenly with windows.

  Where windows overlap, the weight of each goes from 1 to 0 as a squared sine over the middle half
  of `overlap`. So predictions within a quarter of the overlap from a window's border, which miss
  what lies beyond, do not count; those at the image's own borders do.

  Args:
    length: Length of the axis in pixels.
    window: Length of a window in pixels; 0 for one window that covers everything.
    overlap: Number of pixels that neighbors share at least, less than the window has.
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
    Span(start, start + window, row[start : start + window])
    for start, row in zip(starts, weights, strict=True)
  ]
