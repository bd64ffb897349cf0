"""Sizes of a network's inputs, and overlapping windows that cover an image."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]

# Stride of published networks, the largest: on inputs whose sides are multiples of it (plus one
# pixel with aligned corners), every map has the size side / stride without rounding. A U-Net of
# more levels halves its maps further, and rounds.
_MULTIPLE = 32


class Span(NamedTuple):
  """Extent of a window along one axis.

  Attributes:
    start: First pixel of the window.
    stop: Pixel after the last one of the window.
    weights: Weights of the window's pixels, float32 (stop - start,); over all windows they add up
      to 1 at every pixel.
  """

  start: int
  stop: int
  weights: np.ndarray


class Tile(NamedTuple):
  """Window of an image.

  Attributes:
    rows: Extent of the window along the vertical axis.
    columns: Extent of the window along the horizontal axis.
  """

  rows: Span
  columns: Span

  def weight(self) -> np.ndarray:
    """Computes the weight of the window's prediction at each pixel, float32 (h, w, 1)."""
    return np.outer(self.rows.weights, self.columns.weights)[..., None]


def round_up_side(side: int) -> int:
  """Rounds a side of an input up to one of few lengths: multiples of 32, four in every octave.

  Images of arbitrary sizes then need few compilations, and less than a quarter of a side beyond 128
  pixels is padding.

  Args:
    side: Length of the side in pixels.
  """
  multiple = max(_MULTIPLE, 2 ** ((side - 1).bit_length() - 3)) if side > 1 else _MULTIPLE
  return -(-side // multiple) * multiple


def input_size(
  size: Size, usual: Size, factor: float = 1.0, *, align_corners: bool = False
) -> Size:
  """Computes the size of the network's input for an image.

  Args:
    size: Height and width of the image in pixels, after scaling by `factor`.
    usual: Height and width of the input in evaluation. An image that fits gets an input of this
      size, so that its predictions are those of the evaluation.
    factor: Scale of the image; `usual` is scaled by it, too, and rounded up. 1 by default.
    align_corners: Whether outputs are aligned with the corners of the image (see
      `asmjax.ops.resize`), which makes sides one pixel longer.
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
  """Yields overlapping windows that cover an image, row by row.

  Args:
    size: Height and width of the image in pixels.
    window: Side of a window in pixels; 0 for one window that covers the image.
    overlap: Smallest number of pixels that neighboring windows share along an axis, less than
      `window`.
  """
  for rows in spans(size[0], window, overlap):
    for columns in spans(size[1], window, overlap):
      yield Tile(rows, columns)


def spans(length: int, window: int, overlap: int) -> list[Span]:
  """Covers an axis with evenly spaced, overlapping windows.

  Where windows overlap, the weight of each falls from 1 to 0 as a squared sine over the middle half
  of `overlap`. Predictions within a quarter of the overlap from a window's border, which lack the
  context beyond it, have no weight; those at the image's own borders have.

  Args:
    length: Length of the axis in pixels.
    window: Length of a window in pixels; 0 for one window that covers the axis.
    overlap: Smallest number of pixels that neighboring windows share, less than `window`.
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
