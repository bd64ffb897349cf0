"""Contours, and how two of them correspond, against slow searches."""

import numpy as np
import pytest
from scipy import ndimage

from asmjax.metrics.contours import count_covered, count_matches, mark_contours
from tests.oracles import boundary as slow


@pytest.mark.parametrize("seed", range(60))
def test_count_matches_is_the_maximum(seed):
  rng = np.random.default_rng(seed)
  side = rng.integers(2, 6)
  a, b = (np.argwhere(rng.random((side, side)) < rng.uniform(0.1, 0.6)) for _ in range(2))
  a, b, reach = a[:6], b[:6], rng.choice([0, 1, 1.5, 2, 3])
  places = [tuple(map(int, p)) for p in a], [tuple(map(int, p)) for p in b]
  expected = slow.exhaustive_matching(*places, reach)
  assert count_matches(a.T, b.T, reach) == count_matches(b.T, a.T, reach) == expected
  assert slow.matching(*places, reach) == expected


def test_count_matches_gives_up_an_exact_match_for_two_others():
  a, b = np.array([[0, 0], [1, 2]]), np.array([[0, 0], [0, 1]])
  assert count_matches(a, b, 1) == 2  # (0, 1) leaves its twin to (0, 2).


def test_count_matches_follows_a_chain_that_nearest_first_breaks():
  # All but the first pixel have one 2 to the left and one 3 to the right. Taking the nearest leaves
  # the first pixel alone, and the one augmenting path that helps it runs through all the others.
  a = np.array([[0], [1]]) * np.arange(0, 400, 5)
  b = a + [[0], [3]]
  assert count_matches(a, b, 3) == a.shape[1]
  assert count_matches(a, b, 2.9) == a.shape[1] - 1
  assert count_matches(a[::-1], b[::-1, :-1], 3) == a.shape[1] - 1


def test_count_matches_ends_where_pixels_are_dense():
  """Tens of candidates each; a search that may visit a pixel without limit does not end here."""
  rng = np.random.default_rng(0)
  a, b = (np.stack(np.nonzero(rng.integers(0, 2, (120, 120)))) for _ in range(2))
  assert count_matches(a, b, 4.7) == min(a.shape[1], b.shape[1])


@pytest.mark.parametrize("reach", (0, 1, 2, 5, 7.3))
def test_count_covered_agrees_with_all_distances(reach):
  rng = np.random.default_rng(0)
  a, b = (rng.random((40, 50)) < 0.01 for _ in range(2))
  distances = np.hypot(*(np.argwhere(a)[:, None] - np.argwhere(b)).transpose(2, 0, 1))
  near = distances <= reach
  expected = near.any(1).sum(), near.any(0).sum()
  assert count_covered(np.argwhere(a).T, np.argwhere(b).T, reach) == expected


def test_mark_contours_gives_masks_less_their_erosion():
  ids = np.random.default_rng(11).integers(0, 4, (4, 5)).repeat(4, 0).repeat(4, 1)
  contours = mark_contours(ids, np.ones(ids.shape, bool))
  for c in range(4):
    mask = ids == c
    eroded = ndimage.binary_erosion(mask, border_value=1)
    np.testing.assert_array_equal(contours & mask, mask & ~eroded)
