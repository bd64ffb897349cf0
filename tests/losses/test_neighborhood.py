"""Offsets to neighbors, and maps as neighbors see them."""

import numpy as np
import pytest

from asmjax.losses.neighborhood import NEIGHBORS, offsets, pad_border, shift


@pytest.mark.parametrize("neighbors", NEIGHBORS)
@pytest.mark.parametrize("size", [3, 5, 7])
def test_offsets_are_distinct_and_come_in_opposite_pairs_without_the_center(size, neighbors):
  listed = offsets(size, neighbors)
  assert len(set(listed)) == len(listed) and (0, 0) not in listed
  assert {(-dy, -dx) for dy, dx in listed} == set(listed)
  assert max(max(map(abs, offset)) for offset in listed) == size // 2


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_offsets_are_the_full_square_or_8_of_its_rim(size):
  full, corners = (set(offsets(size, neighbors)) for neighbors in ("full", "corners"))
  radius = size // 2
  assert len(full) == size**2 - 1
  assert corners == {offset for offset in full if set(map(abs, offset)) <= {0, radius}}
  assert len(corners) == 8


@pytest.mark.parametrize("size", [-3, 0, 1, 2, 4])
def test_offsets_refuse_an_impossible_size(size):
  with pytest.raises(ValueError, match=f"size {size}; expected an odd size"):
    offsets(size)


def test_offsets_refuse_unknown_neighbors():
  with pytest.raises(ValueError, match="'diagonal'; known: corners, full"):
    offsets(3, "diagonal")


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 2, 1, 1)])
@pytest.mark.parametrize("margin", [0, 1, 5])
def test_pad_border_surrounds_the_last_two_axes_alone(shape, margin):
  x = np.arange(np.prod(shape)).reshape(shape)
  padded = pad_border(x, margin, -7)
  assert padded.shape == (*shape[:-2], *(side + 2 * margin for side in shape[-2:]))
  np.testing.assert_array_equal(shift(padded, (0, 0), margin), x)
  assert np.sum(padded == -7) == padded.size - x.size


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (0, -2), (-2, 1), (5, 5)])
def test_shift_gives_the_value_at_the_offset_or_the_padding(offset):
  x, (dy, dx) = np.arange(2 * 3 * 4).reshape(2, 3, 4), offset
  shifted = np.asarray(shift(pad_border(x, 5, -1), offset, 5))
  for b, row, column in np.ndindex(x.shape):
    inside = 0 <= row + dy < 3 and 0 <= column + dx < 4
    assert shifted[b, row, column] == (x[b, row + dy, column + dx] if inside else -1)


def test_pad_border_keeps_the_type():
  assert pad_border(np.ones((2, 2), bool), 1, False).dtype == bool
