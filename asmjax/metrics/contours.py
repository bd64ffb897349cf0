"""Contours of label maps, what lies near them, and how two contours correspond."""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow
from scipy.spatial import KDTree

UNITS = ("diagonal", "pixels")
# Lets 5 / diagonal * diagonal, which may round to less than 5, still reach pixels 5 away.
SLACK = 1 + 1e-9


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """How far apart two boundary pixels may lie: in pixels, or relative to the image's diagonal.

  Attributes:
    amount: the distance, at least 0.
    unit: `"diagonal"`, for parts of the image's diagonal, or `"pixels"`.

  Raises:
    ValueError: unknown unit, or negative amount.

  Example:
    >>> Tolerance(0.01).pixels((300, 400)), Tolerance(5, "pixels").pixels((300, 400))
    (5.0, 5.0)
  """

  amount: int | float
  unit: str = "diagonal"

  def __post_init__(self):
    if self.unit not in UNITS:
      raise ValueError(f"unknown unit {self.unit!r} of a tolerance; known: {', '.join(UNITS)}")
    if not self.amount >= 0:
      raise ValueError(f"a tolerance is at least 0, not {self.amount}")

  def __str__(self):
    return f"{self.amount:g} {'px' if self.unit == 'pixels' else 'of the image diagonal'}"

  @classmethod
  def at_smallest(cls, pixels: int | float, diagonal: int | float) -> "Tolerance":
    """A part of the diagonal that is `pixels` in the smallest image of a set (Luc et al. 2016).

    Args:
      pixels: The distance in the image with the smallest diagonal.
      diagonal: The smallest diagonal of the set in pixels, above 0.

    Example:
      >>> Tolerance.at_smallest(5, 500), Tolerance.at_smallest(5, 500).pixels((600, 800))
      (Tolerance(amount=0.01, unit='diagonal'), 10.0)
    """
    return cls(pixels / diagonal)

  def pixels(self, shape: tuple[int, int]) -> float:
    """The tolerance in an image of this (height, width)."""
    return self.amount * (1.0 if self.unit == "pixels" else float(np.hypot(*shape)))


def contours(ids: Int[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> np.ndarray:
  """Pixels that differ from one of their four neighbors: every class minus its erosion.

  A pixel of a contour belongs to the contour of its own class alone, so one map holds them all.
  The image's border is no contour, and neither are steps from or to pixels that are not known.

  Returns:
    bool (h, w).
  """
  found = np.zeros(ids.shape, bool)
  for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
    step = (ids[here] != ids[there]) & known[here] & known[there]
    found[here] |= step
    found[there] |= step
  return found


def boundaries(
  true: Int[np.ndarray, "h w"], guess: Int[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]
) -> Iterator[tuple[int, Int[np.ndarray, "2 n"], Int[np.ndarray, "2 m"]]]:
  """Yields each class with a contour, and the rows and columns of its true and predicted one."""
  # Flat until the end, as NumPy finds and selects the pixels of a matrix several times as slowly.
  edges = [np.flatnonzero(contours(ids, known)) for ids in (true, guess)]
  owners = [np.take(ids, edge) for ids, edge in zip((true, guess), edges, strict=True)]
  for c in np.flatnonzero(np.bincount(np.concatenate(owners))):
    own = (edge[owner == c] for edge, owner in zip(edges, owners, strict=True))
    yield int(c), *(np.stack(np.divmod(flat, true.shape[1])) for flat in own)


def davis_contour(mask: Bool[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> np.ndarray:
  """Pixels that differ from the one to the right, below or both, on either side of the step.

  That is the contour of the DAVIS benchmark (Perazzi et al. 2016): one pixel wide, and the same for
  a mask and its complement. Steps from or to pixels that are not known are left out.

  Returns:
    bool (h, w).
  """
  found = np.zeros(mask.shape, bool)
  for here, there in (
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:, :-1], np.s_[:, 1:]),
    (np.s_[:-1, :-1], np.s_[1:, 1:]),
  ):
    found[here] |= (mask[here] != mask[there]) & known[here] & known[there]
  return found


def inner_band(
  mask: Bool[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], reach: int
) -> np.ndarray:
  """The part of a mask within `reach` pixels of what is not the mask (Cheng et al. 2021).

  As in the released code, distance is the larger of those along rows and columns, and the image's
  border ends the mask. Pixels that are not known do not.

  Returns:
    bool (h, w).
  """
  square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
  outside = cv2.BORDER_CONSTANT
  deep = cv2.erode((mask | ~known).astype(np.uint8), square, borderType=outside, borderValue=0)
  return mask & known & (deep == 0)


def covered(
  one: Int[np.ndarray, "2 n"], other: Int[np.ndarray, "2 m"], reach: int | float
) -> tuple[int, int]:
  """How many of each of two sets of pixels have one of the other within `reach` pixels.

  Dilates by a disc, which for the few pixels of a tolerance takes a fraction of the time of a
  distance transform and decides the same.
  """
  if not one.size or not other.size:
    return 0, 0
  corner = np.minimum(one.min(1), other.min(1))[:, None]
  one, other = one - corner, other - corner
  size = np.maximum(one.max(1), other.max(1)) + 1
  disc = _disc(reach)

  def met(asked: np.ndarray, painted: np.ndarray) -> int:
    mask = np.zeros(size, np.uint8)
    mask[*painted] = 1
    return int(np.count_nonzero(cv2.dilate(mask, disc)[*asked]))

  return met(one, other), met(other, one)


def correspond(
  one: Int[np.ndarray, "2 n"], other: Int[np.ndarray, "2 m"], reach: int | float
) -> int:
  """The largest number of pairs of pixels, no pixel in two pairs, at most `reach` apart.

  A maximum matching of all pairs within reach, not a greedy one: it is never fewer pairs than the
  contour benchmark's assignment of least cost finds (Arbelaez et al. 2011), which weighs distances
  only to choose between matchings of the same size.
  """
  if not one.size or not other.size:
    return 0
  n, m = one.shape[1], other.shape[1]
  pairs = KDTree(one.T).sparse_distance_matrix(
    KDTree(other.T), reach * SLACK, output_type="ndarray"
  )
  # As a flow of units from a source to `one` to `other` to a sink. Dinic's algorithm bounds the
  # time; SciPy's bipartite matching is a little faster on contours, but may never end on noise.
  source, sink = n + m, n + m + 1
  start = np.concatenate([pairs["i"], np.full(n, source), n + np.arange(m)])
  end = np.concatenate([n + pairs["j"], np.arange(n), np.full(m, sink)])
  pipes = csr_matrix((np.ones(len(start), np.int32), (start, end)), shape=(n + m + 2, n + m + 2))
  return int(maximum_flow(pipes, source, sink, method="dinic").flow_value)


def _disc(reach: int | float) -> np.ndarray:
  side = np.arange(-int(reach * SLACK), int(reach * SLACK) + 1)
  return (np.hypot(*np.meshgrid(side, side)) <= reach * SLACK).astype(np.uint8)
