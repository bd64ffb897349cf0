"""Contours of label maps, what lies near them, and how two contours correspond."""

import math
from collections.abc import Iterator

import numpy as np
import scipy  # Imports its modules at their first use.
from jaxtyping import Bool, Int

from asmjax.metrics.label_maps import LabelPair

# Lets 5 / diagonal * diagonal, which may round to less than 5, still reach pixels 5 away.
_SLACK = 1 + 1e-9


def mark_contours(
  ids: Int[np.ndarray, "h w"], labeled: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
  """Marks pixels that differ from one of their four neighbors: every class minus its erosion.

  A pixel of a contour belongs to the contour of its own class alone, so one map holds them all.
  The image's border is no contour, and neither are steps from or to unlabeled pixels.
  """
  contour = np.zeros(ids.shape, bool)
  for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
    step = (ids[before] != ids[after]) & labeled[before] & labeled[after]
    contour[before] |= step
    contour[after] |= step
  return contour


def class_contours(
  pair: LabelPair,
) -> Iterator[tuple[int, Int[np.ndarray, "2 n"], Int[np.ndarray, "2 m"]]]:
  """Yields each class with a contour, and rows and columns of its true and predicted contour."""
  # Flat until the end, as NumPy finds and selects the pixels of a matrix several times as slowly.
  maps = (pair.label, pair.prediction)
  edges = [np.flatnonzero(mark_contours(ids, pair.labeled)) for ids in maps]
  classes = [np.take(ids, edge) for ids, edge in zip(maps, edges, strict=True)]
  for c in np.flatnonzero(np.bincount(np.concatenate(classes))):
    true, predicted = (
      np.stack(np.divmod(edge[class_of_edge == c], pair.label.shape[1]))
      for edge, class_of_edge in zip(edges, classes, strict=True)
    )
    yield int(c), true, predicted


def mark_davis_contour(
  mask: Bool[np.ndarray, "h w"], labeled: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
  """Marks pixels that differ from the one to the right, below or both, on either side of the step.

  That is the contour of the DAVIS benchmark (Perazzi et al. 2016): one pixel wide, and the same for
  a mask and its complement. Steps from or to unlabeled pixels are left out.
  """
  contour = np.zeros(mask.shape, bool)
  for before, after in (
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:, :-1], np.s_[:, 1:]),
    (np.s_[:-1, :-1], np.s_[1:, 1:]),
  ):
    contour[before] |= (mask[before] != mask[after]) & labeled[before] & labeled[after]
  return contour


def mark_inner_band(
  mask: Bool[np.ndarray, "h w"], labeled: Bool[np.ndarray, "h w"], depth: int
) -> Bool[np.ndarray, "h w"]:
  """Marks the part of a mask within `depth` pixels of what is not the mask (Cheng et al. 2021).

  As in the released code, distance is the larger of those along rows and columns, and the image's
  border ends the mask. Unlabeled pixels do not.
  """
  solid = (mask | ~labeled).astype(np.uint8)
  core = scipy.ndimage.minimum_filter(solid, 2 * depth + 1, mode="constant", cval=0)
  return mask & labeled & (core == 0)


def contour_f(
  true: Int[np.ndarray, "2 n"], predicted: Int[np.ndarray, "2 m"], distance: int | float
) -> tuple[float, float, float]:
  """Computes precision, recall and F of a contour by closest match.

  Args:
    true: Rows and columns of the true contour's pixels.
    predicted: Rows and columns of the predicted contour's pixels.
    distance: Largest distance of a match in pixels.

  Returns:
    NaN where there is nothing to divide by; F is 0 if only one of the contours has pixels.
  """
  hits_true, hits_predicted = count_covered(true, predicted, distance)
  precision = hits_predicted / predicted.shape[1] if predicted.size else math.nan
  recall = hits_true / true.shape[1] if true.size else math.nan
  if hits_true and hits_predicted:
    return precision, recall, 2 * precision * recall / (precision + recall)
  return precision, recall, 0.0 if true.size or predicted.size else math.nan


def count_covered(
  first: Int[np.ndarray, "2 n"], second: Int[np.ndarray, "2 m"], distance: int | float
) -> tuple[int, int]:
  """Counts the pixels of either set that have a pixel of the other set within a distance."""
  if not first.size or not second.size:
    return 0, 0
  tree = scipy.spatial.KDTree
  bound = distance * _SLACK + 1e-9  # The tree's bound is exclusive; pixels of distance 0 count.

  def count(queried: np.ndarray, others: np.ndarray) -> int:
    nearest, _ = tree(others.T).query(queried.T, distance_upper_bound=bound)
    return int(np.count_nonzero(np.isfinite(nearest)))

  return count(first, second), count(second, first)


def count_matches(
  first: Int[np.ndarray, "2 n"], second: Int[np.ndarray, "2 m"], distance: int | float
) -> int:
  """Counts the most pairs of pixels, no pixel in two pairs, that lie at most a distance apart.

  A maximum matching of all pairs within the distance, not a greedy one: it is never fewer pairs
  than the contour benchmark's assignment of least cost finds (Arbelaez et al. 2011), which weighs
  distances only to choose between matchings of the same size.
  """
  if not first.size or not second.size:
    return 0
  n, m = first.shape[1], second.shape[1]
  tree = scipy.spatial.KDTree
  pairs = tree(first.T).sparse_distance_matrix(
    tree(second.T), distance * _SLACK, output_type="ndarray"
  )
  # As a flow of units from a source to `first` to `second` to a sink. Dinic's algorithm bounds the
  # time; SciPy's bipartite matching is a little faster on contours, but may never end on noise.
  source, sink = n + m, n + m + 1
  start = np.concatenate([pairs["i"], np.full(n, source), n + np.arange(m)])
  end = np.concatenate([n + pairs["j"], np.arange(n), np.full(m, sink)])
  ones, shape = np.ones(len(start), np.int32), (n + m + 2, n + m + 2)
  capacity = scipy.sparse.csr_matrix((ones, (start, end)), shape=shape)
  flow = scipy.sparse.csgraph.maximum_flow(capacity, source, sink, method="dinic")
  return int(flow.flow_value)
