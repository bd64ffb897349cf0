"""Arithmetic on sizes."""

import itertools

import numpy as np
import pytest

from asmjax.inference.tiling import input_size, round_up_side, spans, tiles

CASES = [
  (length, window, overlap)
  for length, window in itertools.product((1, 9, 10, 11, 19, 40, 97), (10, 16))
  for overlap in (0, 1, 3, 5, 9)
]


@pytest.mark.parametrize(("length", "window", "overlap"), CASES)
def test_spans_cover_an_axis_evenly_with_weights_of_sum_one(length, window, overlap):
  windows = spans(length, window, overlap)
  total, covered = np.zeros(length), np.zeros(length)
  for span in windows:
    assert 0 <= span.start < span.stop <= length and (span.weights >= 0).all()
    assert span.stop - span.start == min(window, length)
    total[span.start : span.stop] += span.weights
    covered[span.start : span.stop] += 1
  np.testing.assert_allclose(total, 1, atol=1e-6)
  assert covered.min() == 1 or length > window
  for first, second in itertools.pairwise(windows):
    assert first.stop - second.start >= overlap
  # One window fewer would not do.
  assert len(windows) == 1 or (len(windows) - 1) * (window - overlap) + overlap < length


def test_spans_have_no_weight_within_a_quarter_of_the_overlap():
  first, second, third = spans(24, 12, 6)
  for span, inner in ((first, [-1]), (second, [0, -1]), (third, [0])):
    assert all(span.weights[place] == 0 for place in inner)
  assert first.weights[0] == third.weights[-1] == 1
  # And they fall smoothly in between.
  falling = spans(60, 40, 20)[0].weights[20:]
  assert (np.diff(falling) <= 0).all() and np.abs(np.diff(falling)).max() < 0.16


def test_tiles_have_weights_of_sum_one():
  total = np.zeros((30, 47, 1))
  for rows, columns in (tile for tile in tiles((30, 47), 16, 7)):
    total[rows.start : rows.stop, columns.start : columns.stop] += np.outer(
      rows.weights, columns.weights
    )[..., None]
  np.testing.assert_allclose(total, 1, atol=1e-6)


def test_input_size_has_one_more_pixel_with_aligned_corners():
  for size in ((375, 500), (513, 513), (600, 514), (1, 2049)):
    padded = input_size(size, (513, 513), align_corners=True)
    less = input_size(tuple(max(side - 1, 1) for side in size), (512, 512))
    assert padded == tuple(side + 1 for side in less)
  # As in DeepLab's evaluation at several scales.
  assert input_size((200, 250), (513, 513), 0.5, align_corners=True) == (257, 257)
  assert input_size((700, 600), (513, 513), 1.5, align_corners=True) == (769, 769)


def test_round_up_side_gives_few_sides_that_are_little_longer():
  sides = np.arange(1, 3000)
  rounded = np.array([round_up_side(int(side)) for side in sides])
  assert (rounded >= sides).all() and not (rounded % 32).any()
  assert (rounded[sides > 128] < 1.25 * sides[sides > 128]).all()
  assert len(set(rounded[:2048])) == 20
  assert all(round_up_side(int(side)) == side for side in set(rounded))


def test_input_size_of_small_images_is_that_of_the_evaluation():
  assert input_size((10, 20), (100, 70)) == input_size((100, 70), (100, 70)) == (100, 70)
  assert input_size((101, 20), (100, 70)) == (128, 32)
  assert input_size((150, 105), (100, 70), 1.5) == (160, 128)
  assert input_size((40, 20), (100, 70), 0.5) == (64, 64)
