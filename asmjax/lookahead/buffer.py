"""Which maps the critic is trained on: LoAd's map aggregation buffer, Algorithm 1."""

from collections.abc import Sequence
from typing import NamedTuple


class MapSet(NamedTuple):
  """The maps that one model predicts for a whole data set.

  Attributes:
    model: its number.
    peak: whether it was one, or the first start; otherwise it ended a cycle.
  """

  model: int
  peak: bool


def aggregate(
  sets: Sequence[MapSet], ending: int, peak: int | None = None, *, most: int, retain: int = 0
) -> tuple[MapSet, ...]:
  """The buffer after a cycle (Algorithm 1).

  A new peak comes first and all else goes, but for the last `retain` peaks before it, if any
  (Sec. 7 of the paper; Algorithm 1 itself flushes). Without one the oldest ending goes if the
  buffer is full. Either way the cycle's ending comes last.

  Args:
    sets: the buffer before; the start or the last peak comes first.
    ending: the model that the cycle ended with.
    peak: the new peak, if there is one.
    most: [B_max] sets at most, all of them counted.
    retain: peaks that are retained beside the new one.

  Raises:
    ValueError: no room for a peak, those retained and an ending.

  Example:
    >>> start = (MapSet(0, peak=True),)
    >>> sets = aggregate(aggregate(start, 5, most=3), 9, most=3)
    >>> [each.model for each in sets]
    [0, 5, 9]
    >>> [each.model for each in aggregate(sets, 12, most=3)]
    [0, 9, 12]
    >>> [each.model for each in aggregate(sets, 12, peak=10, most=3)]
    [10, 12]
  """
  check_room(most, retain)
  if peak is not None:
    before = [each for each in sets if each.peak][:retain]
    return (MapSet(peak, True), *before, MapSet(ending, False))
  kept = list(sets)
  if len(kept) >= most:
    kept.pop(next(place for place, each in enumerate(kept) if not each.peak))
  return (*kept, MapSet(ending, False))


def check_room(most: int, retain: int) -> None:
  """Raises ValueError unless `most` sets are a peak, `retain` more of them and an ending."""
  if retain < 0 or most < 2 + retain:
    raise ValueError(
      f"a buffer of {most} sets that retains {retain} peaks; expected room for a peak, those "
      f"retained and an ending: at least {2 + max(retain, 0)} sets"
    )
