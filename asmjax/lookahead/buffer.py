"""LoAd's map aggregation buffer, Algorithm 1: which maps the critic is trained on."""

from collections.abc import Sequence
from typing import NamedTuple


class MapSet(NamedTuple):
  """Maps that one model predicts for a data set.

  Attributes:
    model: Number of the model: the predictor's steps that led to it.
    peak: Whether the model was a peak or the start of the run; otherwise it ended a cycle.
  """

  model: int
  peak: bool


def aggregate(
  sets: Sequence[MapSet], ending: int, peak: int | None = None, *, buffer_size: int, retain: int = 0
) -> tuple[MapSet, ...]:
  """Updates the buffer after a cycle (Jamali-Rad and Szabo 2022, Algorithm 1).

  A new peak comes first and all else goes, except for the last `retain` peaks before it (Sec. 7 of
  the paper; Algorithm 1 itself flushes). Without a new peak the oldest ending goes if the buffer is
  full. Either way the cycle's ending comes last.

  Args:
    sets: Buffer before the cycle, its first set that of the start or the last peak.
    ending: Number of the model that the cycle ended with.
    peak: Number of the model that is a new peak; None if the cycle had none.
    buffer_size: Largest number of sets, the paper's B_max.
    retain: Number of earlier peaks whose sets stay beside a new one.

  Raises:
    ValueError: The buffer has no room for a peak, those retained and an ending.

  Examples:
    >>> start = (MapSet(0, peak=True),)
    >>> sets = aggregate(aggregate(start, 5, buffer_size=3), 9, buffer_size=3)
    >>> [maps.model for maps in sets]
    [0, 5, 9]
    >>> [maps.model for maps in aggregate(sets, 12, buffer_size=3)]
    [0, 9, 12]
    >>> [maps.model for maps in aggregate(sets, 12, peak=10, buffer_size=3)]
    [10, 12]
  """
  check_room(buffer_size, retain)
  if peak is not None:
    retained = [maps for maps in sets if maps.peak][:retain]
    return (MapSet(peak, True), *retained, MapSet(ending, False))
  kept = list(sets)
  if len(kept) >= buffer_size:
    kept.remove(next(maps for maps in kept if not maps.peak))
  return (*kept, MapSet(ending, False))


def check_room(buffer_size: int, retain: int) -> None:
  """Raises ValueError unless the buffer has room for a peak, `retain` more and an ending."""
  if retain < 0 or buffer_size < 2 + retain:
    raise ValueError(
      f"a buffer of {buffer_size} sets that retains {retain} peaks; expected room for a peak, "
      f"those retained and an ending: at least {2 + max(retain, 0)} sets"
    )
