"""Algorithm 3 as transitions, against its pseudo-code run line by line, and by hand."""

import functools
import math
from typing import NamedTuple

import pytest

from asmjax.lookahead.buffer import MapSet, aggregate
from asmjax.lookahead.cycle import Action, Cycle, Rules, advance, begin
from tests.oracles.lookahead import lookahead, random_run

RUNS = 2000
NAMES = {  # the oracle's events
  "best": Action.KEEP_BEST,
  "start": Action.KEEP_START,
  "peak": Action.BACK_TO_BEST,
  "no peak": Action.BACK_TO_START,
  "next": Action.RETRAIN,
  "stop": Action.STOP,
}
ENDS = {Action.BACK_TO_BEST, Action.BACK_TO_START}


class Step(NamedTuple):
  before: Cycle
  miou: float
  model: int
  actions: tuple[Action, ...]
  after: Cycle


def rules_of(settings):
  same = ("cycles", "patience", "peak_patience", "dynamic")
  return Rules(
    **{name: settings[name] for name in same},
    max_drop=settings["lower"],
    min_gain=settings["upper"],
  )


def played(rules, mious):
  """Steps until it stops or the mIoUs end; the first is that of the start."""
  cycle, steps = begin(mious[0]), []
  for model, miou in enumerate(mious[1:], 1):
    after, actions = advance(cycle, miou, model, rules)
    steps.append(Step(cycle, miou, model, actions, after))
    if Action.STOP in actions:
      break
    cycle = after
  return steps


@functools.cache
def random_plays():
  plays = []
  for seed in range(RUNS):
    settings, mious = random_run(seed)
    plays.append((rules_of(settings), played(rules_of(settings), mious)))
  return plays


def names(actions):
  return [action.name for action in actions]


def test_advance_takes_the_course_of_the_pseudo_code():
  for seed, (_, steps) in enumerate(random_plays()):
    settings, mious = random_run(seed)
    log, last = lookahead(mious, **settings)
    assert len(steps) == len(log), seed
    for step, (moment, events) in zip(steps, log, strict=True):
      expected = [NAMES[event] for event in events]
      if not ENDS & set(expected):
        expected.append(Action.TRAIN)
      assert step.actions == tuple(expected), (seed, step.model)
      assert step.before == Cycle(*moment[:9]), (seed, step.model)
    # Where it stopped, the pseudo-code's two counters are left as they were.
    ended = last._replace(gamma=0, omega=0) if Action.STOP in steps[-1].actions else last
    assert steps[-1].after == Cycle(*ended[:9]), seed


def test_advance_reaches_every_action_in_random_runs():
  reached, equal = set(), {"floor": 0, "threshold": 0, "best": 0, "ending is best": 0}
  for rules, steps in random_plays():
    for step in steps:
      reached.add(step.actions)
      equal["floor"] += step.miou == step.before.start - rules.max_drop
      equal["threshold"] += step.miou == step.before.start + rules.min_gain
      equal["best"] += step.before.start + rules.min_gain < step.miou == step.before.best
      equal["ending is best"] += {Action.KEEP_BEST, Action.BACK_TO_BEST} <= set(step.actions)
  # A new start has its patience before it: no cycle ends with one.
  assert {" ".join(names(actions)) for actions in reached} == {
    "TRAIN",
    "KEEP_BEST TRAIN",
    "KEEP_START TRAIN",
    "KEEP_BEST KEEP_START TRAIN",
    "BACK_TO_BEST RETRAIN",
    "KEEP_BEST BACK_TO_BEST RETRAIN",
    "BACK_TO_START RETRAIN",
    "BACK_TO_START STOP",
  }
  assert min(equal.values()) > 100, equal


def test_advance_keeps_the_best_model_of_all():
  for _, steps in random_plays():
    kept = {0: steps[0].before.best}
    for step in steps:
      if Action.KEEP_BEST in step.actions:
        assert step.miou > max(kept.values())
        kept[step.model] = step.miou
      assert step.after.best == max(kept.values()) == kept[step.after.best_model]


def test_advance_starts_from_a_model_at_most_as_good_as_the_best():
  for _, steps in random_plays():
    mious = {0: steps[0].before.start}
    for step in steps:
      mious[step.model] = step.miou
      assert step.after.start == mious[step.after.start_model] <= step.after.best
      present = step.after.start_model if ENDS & set(step.actions) else step.model
      assert step.after.last == mious[present]


def test_advance_begins_every_cycle_with_the_best_model():
  for _, steps in random_plays():
    for step in steps:
      if ENDS & set(step.actions):
        after = step.after
        assert after.start_model == after.best_model
        assert after.origin == after.start == after.last == after.best
        assert (after.num_propagations, after.num_above_peak) == (0, 0)


def test_advance_ends_a_cycle_with_a_new_start_in_a_peak():
  for _, steps in random_plays():
    moved = False
    for step in steps:
      moved |= Action.KEEP_START in step.actions
      if moved:
        assert Action.BACK_TO_START not in step.actions
      moved &= not ENDS & set(step.actions)


def test_advance_stops_after_cycles_in_a_row_without_a_peak():
  for rules, steps in random_plays():
    ends = [action for step in steps for action in step.actions if action in ENDS]
    row = 0
    for number, end in enumerate(ends, 1):
      row = 0 if end is Action.BACK_TO_BEST else row + 1
      assert (row == rules.cycles) == (number == len(ends) and Action.STOP in steps[-1].actions)


def test_advance_keeps_the_start_of_a_cycle_unless_dynamic():
  plays = [(rules, steps) for rules, steps in random_plays() if not rules.dynamic]
  assert len(plays) > 100
  for rules, steps in plays:
    for number, step in enumerate(steps):
      assert Action.KEEP_START not in step.actions
      assert step.before.start == step.before.origin
      began = max((s.model for s in steps[:number] if ENDS & set(s.actions)), default=0)
      assert step.before.num_propagations == step.model - began - 1 < rules.patience


# Fig. 1: the model after each propagation, its mIoU, and what is done.
TRAIN, KEPT = ["TRAIN"], ["KEEP_BEST", "TRAIN"]
FAILED, PEAK = ["BACK_TO_START", "RETRAIN"], ["BACK_TO_BEST", "RETRAIN"]
FIGURE_1 = [
  ("", 0.59, TRAIN),
  ("", 0.58, TRAIN),
  ("", 0.57, TRAIN),
  ("g0,0", 0.56, FAILED),  # patience is at its end; the fall is less than beta_l
  ("", 0.61, KEPT),
  ("g1", 0.63, KEPT),
  ("g0,1", 0.54, PEAK),  # below g0 - beta_l
  ("", 0.62, TRAIN),
  ("g1,0", 0.57, FAILED),
  ("", 0.65, KEPT),
  ("g2", 0.66, KEPT),
  ("", 0.60, TRAIN),
  ("g1,1", 0.59, PEAK),
  ("g2,0", 0.60, FAILED),
  ("", 0.6605, TRAIN),  # above g2, but not by beta_u
  ("g2,1", 0.60, ["BACK_TO_START", "STOP"]),
]
FLUSHED = [
  ["g0", "g0,0"],
  ["g1", "g0,1"],  # flushed
  ["g1", "g0,1", "g1,0"],
  ["g2", "g1,1"],  # flushed
  ["g2", "g1,1", "g2,0"],
  ["g2", "g2,0", "g2,1"],  # g1,1 goes in favor of g2,1
]
RETAINED = [
  ["g0", "g0,0"],
  ["g1", "g0", "g0,1"],
  ["g1", "g0", "g0,1", "g1,0"],
  ["g2", "g1", "g1,1"],
  ["g2", "g1", "g1,1", "g2,0"],
  ["g2", "g1", "g2,0", "g2,1"],
]


@pytest.mark.parametrize(
  ("most", "retain", "buffers"), [(3, 0, FLUSHED), (4, 1, RETAINED)], ids=["flush", "retain"]
)
def test_advance_and_aggregate_walk_through_figure_1(most, retain, buffers):
  rules = Rules(cycles=2, patience=4, max_drop=0.05, min_gain=0.001)
  name = dict(enumerate(["g0", *(model for model, _, _ in FIGURE_1)]))
  steps = played(rules, [0.60, *(miou for _, miou, _ in FIGURE_1)])
  assert [names(step.actions) for step in steps] == [actions for _, _, actions in FIGURE_1]
  sets, filled = (MapSet(0, peak=True),), []
  for step in steps:
    if ENDS & set(step.actions):
      peak = step.after.best_model if Action.BACK_TO_BEST in step.actions else None
      sets = aggregate(sets, step.model, peak, buffer_size=most, retain=retain)
      filled.append([name[each.model] for each in sets])
  assert filled == buffers
  assert name[steps[-1].after.best_model] == "g2" and steps[-1].after.best == 0.66


def test_advance_outlasts_the_patience_on_a_trend_only_if_dynamic():
  mious = [(8 + k) / 64 for k in range(30)]
  rules = Rules(patience=8, peak_patience=3, max_drop=1 / 16, min_gain=0.0)
  steps = played(rules, mious)
  # Omega + 2 propagations above the threshold make the first new start. It counts as one above, so
  # that Omega + 1 make the next.
  moved = [step.model for step in steps if Action.KEEP_START in step.actions]
  assert moved == [5, 9, 13, 17, 21, 25, 29]
  assert all(step.actions[-1] is Action.TRAIN for step in steps)
  still = played(Rules(patience=8, dynamic=False, max_drop=1 / 16, min_gain=0.0), mious)
  ends = [step.model for step in still if ENDS & set(step.actions)]
  assert ends == [8, 16, 24] and all(names(step.actions)[0] == "KEEP_BEST" for step in still)


def test_advance_takes_thresholds_as_strict():
  rules = Rules(max_drop=1 / 8, min_gain=1 / 16)
  cycle, actions = advance(begin(0.5), 0.5 + 1 / 16, 1, rules)
  assert names(actions) == ["TRAIN"] and (
    cycle.best,
    cycle.num_above_peak,
    cycle.num_propagations,
  ) == (0.5, 0, 1)
  cycle, actions = advance(cycle, 0.5 + 2 / 16, 2, rules)
  assert names(actions) == ["KEEP_BEST", "TRAIN"]
  cycle, actions = advance(cycle, 0.5 + 2 / 16, 3, rules)
  assert names(actions) == ["TRAIN"] and (cycle.best_model, cycle.num_above_peak) == (2, 2)
  cycle, actions = advance(cycle, 0.5 - 1 / 8, 4, rules)
  assert names(actions) == ["BACK_TO_BEST", "RETRAIN"] and cycle.start_model == 2


def test_advance_yields_a_new_start_to_the_best():
  rules = Rules(patience=9, peak_patience=0, max_drop=1 / 8, min_gain=0.0)
  steps = played(rules, [8 / 16, 12 / 16, 11 / 16, 9 / 16])
  assert [names(step.actions) for step in steps] == [
    ["KEEP_BEST", "TRAIN"],
    ["KEEP_START", "TRAIN"],
    ["BACK_TO_BEST", "RETRAIN"],
  ]
  assert (steps[1].after.start_model, steps[1].after.start) == (2, 11 / 16)
  assert (steps[2].after.start_model, steps[2].after.start) == (1, 12 / 16)


def test_advance_ends_the_cycle_at_nan():
  log, _ = lookahead(
    [0.5, math.nan, 0.6, math.nan],
    cycles=5,
    patience=9,
    peak_patience=1,
    lower=0.1,
    upper=0.0,
    most=3,
  )
  assert [events for _, events in log] == [["no peak", "next"], ["best"], ["peak", "next"]]
  steps = played(Rules(patience=9, max_drop=0.1, min_gain=0.0), [0.5, math.nan, 0.6, math.nan])
  assert [names(step.actions)[-2:] for step in steps] == [FAILED, KEPT, PEAK]
  assert steps[-1].after.last == 0.6


def test_begin_takes_any_model_number():
  assert begin(0.4, 17) == Cycle(0, 0, 0, 0.4, 0.4, 0.4, 0.4, 17, 17)


def test_rules_have_the_defaults_of_the_paper():
  rules = Rules()
  assert (rules.cycles, rules.patience, rules.max_drop, rules.min_gain) == (50, 50, 0.05, 0.001)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"cycles": 0}, "cycles=0; expected at least 1"),
    ({"patience": 0}, "patience=0; expected at least 1"),
    ({"peak_patience": -1}, "peak_patience=-1; expected at least 0"),
    ({"min_gain": -0.001}, "min_gain=-0.001; expected at least 0"),
    ({"max_drop": 0.0}, "max_drop=0.0; expected a number above 0"),
    ({"max_drop": -0.1}, "max_drop=-0.1; expected a number above 0"),
  ],
)
def test_rules_refuse_numbers_out_of_range(wrong, message):
  with pytest.raises(ValueError) as caught:
    Rules(**wrong)
  assert str(caught.value).startswith(message)


def test_rules_accept_the_least_numbers():
  least = Rules(cycles=1, patience=1, peak_patience=0, min_gain=0.0, max_drop=1e-9)
  cycle, actions = advance(begin(0.5), 0.5, 1, least)
  assert actions == (Action.BACK_TO_START, Action.STOP) and cycle.failures == 1
