"""Outlines and run lengths, in which annotators store masks, drawn into maps of labels.

Coordinates are those of COCO and labelme: (x, y) in pixels from the upper left corner, so that the
pixel in column c and row r covers c..c+1 and r..r+1. A pixel belongs to a shape if its center,
(c + 1/2, r + 1/2), lies inside: shapes with a common side share no pixel and leave none out.
"""

from collections.abc import Sequence

import numpy as np

# Coordinate beyond which there is no photo.
_FARTHEST = 1e6


def is_drawable(points: np.ndarray) -> bool:
  """Returns whether coordinates are finite numbers of a size that photos can have."""
  return bool((np.abs(points) <= _FARTHEST).all())


def fill_polygon(array: np.ndarray, points: np.ndarray, value: int) -> None:
  """Sets the pixels whose centers lie inside a polygon.

  Where the outline crosses itself, what it surrounds an even number of times is outside.

  Args:
    array: Map to draw into, (h, w).
    points: Corners (x, y), float (n, 2); they may lie outside of the map.
    value: Value to set.
  """
  (height, width), points = array.shape, np.asarray(points, np.float64)
  left, top = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int)
  right, bottom = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int)
  window = array[top:bottom, left:right]
  if window.size:
    window[_is_inside(points - (left, top), window.shape)] = value


def _is_inside(points: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
  """Returns whether each pixel's center is inside: an odd number of sides lie to the left of it."""
  height, width = size
  (x0, y0), (x1, y1) = points.T, np.roll(points, -1, 0).T
  # Rows whose centers a side crosses; a horizontal side crosses none.
  first, stop = (
    np.clip(np.ceil(limit(y0, y1) - 0.5), 0, height).astype(int)
    for limit in (np.minimum, np.maximum)
  )
  count = stop - first
  side = np.repeat(np.arange(len(points)), count)
  row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[side]
  slope = (x1 - x0)[side] / (y1 - y0)[side]
  x = x0[side] + (row + 0.5 - y0[side]) * slope
  column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
  crossings = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
  return np.cumsum(crossings.reshape(height, width + 1), 1)[:, :width] % 2 == 1


def decode_runs(runs: Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Decodes COCO's run lengths to a mask, bool (h, w).

  Args:
    runs: Lengths of runs of zeros and of ones, in turn, beginning with zeros, down the columns.
    size: (height, width) of the mask.

  Raises:
    ValueError: A length is negative, or the lengths do not add up to the number of pixels.
  """
  lengths = np.asarray(runs, np.int64)
  if lengths.ndim != 1 or lengths.min(initial=0) < 0 or lengths.sum() != size[0] * size[1]:
    raise ValueError(
      f"run lengths add up to {lengths.sum()}, the least is {lengths.min(initial=0)}; expected "
      f"lengths from 0 that add up to {size[0]} x {size[1]} pixels"
    )
  values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
  return values.reshape(size[1], size[0]).T


def parse_runs(text: str) -> list[int]:
  """Parses the compressed form of COCO's run lengths, as in the JSON files of `pycocotools`.

  A number is a group of characters from "0" on with six bits each: five of the number, the lowest
  ones first, and a bit that says whether more follow; the last group's fifth bit is the sign. From
  the fourth number on it is the difference to the length two before.

  Raises:
    ValueError: A character is none of these, or the text ends within a number.
  """
  runs, value, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64 or shift > 60:
      raise ValueError(f"run lengths hold {character!r}; expected COCO's compressed run lengths")
    value |= (bits & 31) << shift
    shift += 5
    if bits & 32:
      continue
    if bits & 16:
      value -= 1 << shift
    runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    value, shift = 0, 0
  if shift:
    raise ValueError("run lengths end within a number; expected COCO's compressed run lengths")
  return runs
