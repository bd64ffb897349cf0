"""Algorithm 1, against its pseudo-code in random runs of Algorithm 3, and its properties."""

import functools

import pytest

from asmjax.lookahead.buffer import MapSet, aggregate, check_room
from tests.oracles.lookahead import lookahead, random_run

RUNS = 2000
START = (MapSet(0, peak=True),)


def numbers(sets):
  return [each.model for each in sets]


@functools.cache
def random_buffers():
  """Per run its settings, and per cycle (before, ending, peak, after, after by the oracle)."""
  runs = []
  for seed in range(RUNS):
    settings, mious = random_run(seed)
    log, last = lookahead(mious, **settings)
    moments = [*(moment for moment, _ in log), last]
    sets, cycles = START, []
    for model, (_, events) in enumerate(log, 1):
      if {"peak", "no peak"} & set(events):
        peak = moments[model].g_best if "peak" in events else None
        after = aggregate(
          sets, model, peak, buffer_size=settings["most"], retain=settings["retain"]
        )
        cycles.append((sets, model, peak, after, moments[model]))
        sets = after
    runs.append((settings, cycles))
  return runs


def test_aggregate_fills_the_buffer_as_the_pseudo_code_does():
  for seed, (_, cycles) in enumerate(random_buffers()):
    for _, _, _, after, moment in cycles:
      flags = [place < moment.peaks for place in range(len(moment.buffer))]
      assert after == tuple(map(MapSet, moment.buffer, flags)), seed


def test_aggregate_reaches_every_case_in_random_runs():
  cases = {"peak": 0, "room": 0, "full": 0, "retained": 0, "ending is peak": 0, "all out": 0}
  for settings, cycles in random_buffers():
    for before, ending, peak, after, _ in cycles:
      full = len(before) == settings["most"]
      cases["peak"] += peak is not None
      cases["room"] += peak is None and not full
      cases["full"] += peak is None and full
      cases["retained"] += peak is not None and sum(each.peak for each in after) > 1
      cases["ending is peak"] += peak == ending
      cases["all out"] += peak is None and full and not any(each.peak for each in before[1:])
  assert min(cases.values()) > 100, cases


def test_aggregate_puts_the_newest_peak_first_and_the_ending_last():
  for _, cycles in random_buffers():
    for before, ending, peak, after, _ in cycles:
      assert after[0] == (before[0] if peak is None else MapSet(peak, peak=True))
      assert after[-1] == MapSet(ending, peak=False)


def test_aggregate_never_exceeds_the_buffer_size_or_the_retained_peaks():
  for settings, cycles in random_buffers():
    for *_, after, _ in cycles:
      assert len(after) <= settings["most"]
      assert sum(each.peak for each in after) <= 1 + settings["retain"]


def test_aggregate_orders_peaks_newest_first_and_endings_oldest_first():
  for settings, cycles in random_buffers():
    peaks, endings = [0], []
    for _, ending, peak, after, _ in cycles:
      if peak is not None:
        peaks, endings = [peak, *peaks], []
      endings.append(ending)
      kept = [each.model for each in after if each.peak]
      assert kept == peaks[: settings["retain"] + 1]
      others = [each.model for each in after if not each.peak]
      assert others == endings[-(settings["most"] - len(kept)) :]


def test_aggregate_drops_one_set_of_a_full_buffer():
  for _, cycles in random_buffers():
    for before, _, peak, after, _ in cycles:
      if peak is None:
        lost = [each for each in before if each not in after]
        assert len(lost) == len(before) + 1 - len(after) <= 1
        assert not any(each.peak for each in lost)


def test_aggregate_flushes_all_but_retained_peaks_at_a_peak():
  sets = (MapSet(20, True), MapSet(10, True), MapSet(0, True), MapSet(25, False), MapSet(27, False))
  after = lambda retain: aggregate(sets, 35, 30, buffer_size=5, retain=retain)
  assert numbers(after(0)) == [30, 35]
  assert numbers(after(1)) == [30, 20, 35]
  assert numbers(after(3)) == [30, 20, 10, 0, 35]
  assert [each.peak for each in after(2)] == [True, True, True, False]


def test_aggregate_with_two_sets_keeps_the_peak_and_the_last_ending():
  sets = START
  for ending in (4, 6, 9):
    sets = aggregate(sets, ending, buffer_size=2)
    assert numbers(sets) == [0, ending]


def test_aggregate_keeps_retained_peaks_beyond_endings():
  sets = aggregate(START, 3, 2, buffer_size=3, retain=1)
  assert numbers(sets) == [2, 0, 3]
  assert numbers(aggregate(sets, 8, buffer_size=3, retain=1)) == [2, 0, 8]


def test_aggregate_holds_a_peak_that_ended_its_cycle_twice():
  sets = aggregate(START, 7, 7, buffer_size=3)
  assert sets == (MapSet(7, peak=True), MapSet(7, peak=False))
  assert numbers(aggregate(aggregate(sets, 9, buffer_size=3), 11, buffer_size=3)) == [7, 9, 11]


@pytest.mark.parametrize(
  ("most", "retain", "least"), [(1, 0, 2), (0, 0, 2), (2, 1, 3), (4, 3, 5), (3, -1, 2)]
)
def test_check_room_refuses_a_small_buffer(most, retain, least):
  message = (
    f"^a buffer of {most} sets that retains {retain} peaks; expected room for a peak, those "
    f"retained and an ending: at least {least} sets$"
  )
  with pytest.raises(ValueError, match=message):
    check_room(most, retain)
  with pytest.raises(ValueError, match=message):
    aggregate(START, 1, buffer_size=most, retain=retain)


@pytest.mark.parametrize(("most", "retain"), [(2, 0), (3, 1), (9, 0)])
def test_check_room_accepts_the_smallest_buffers(most, retain):
  check_room(most, retain)
  assert len(aggregate(START, 2, 1, buffer_size=most, retain=retain)) == 2 + retain
