"""Histories of LoAd runs, read from their logs."""

import numpy as np
import pytest

from asmjax.analysis import lookahead
from asmjax.analysis.lookahead import End, History
from asmjax.analysis.runs import Group
from asmjax.lookahead.cycle import Action, Rules, advance, begin
from tests.helpers.lookahead_logs import CYCLES, write_log


@pytest.fixture
def history(tmp_path):
  return History.read(write_log(tmp_path / "small", CYCLES))


def test_history_starts_cycles_where_the_one_before_stepped_back_to(history):
  assert [cycle.name for cycle in history.cycles] == ["g0,0", "g0,1", "g1,0", "g1,1", "g1,2"]
  assert [cycle.origin.number for cycle in history.cycles] == [0, 0, 5, 5, 5]
  assert [cycle.ending.number for cycle in history.cycles] == [2, 6, 7, 9, 11]
  assert [cycle.best.miou for cycle in history.cycles] == [0.70, 0.73, 0.66, 0.729, 0.74]
  assert [cycle.end for cycle in history.cycles] == [end for _, _, end, _ in CYCLES]
  assert [peak.number for peak in history.peaks] == [5, 11] and history.best.miou == 0.74
  assert {name: model.number for name, model in history.name_models().items()} == {
    "g0": 0,
    "g1": 5,
    "g2": 11,
    "g0,0": 2,
    "g0,1": 6,
    "g1,0": 7,
    "g1,1": 9,
    "g1,2": 11,
  }


def test_history_agrees_with_the_algorithm(tmp_path):
  rules = Rules(cycles=6, patience=7, max_drop=0.03, peak_patience=1)
  rng = np.random.default_rng(3)
  cycle, cycles, origins, mious, kept = begin(0.6), [], [0], [], []
  for number in range(1, 2000):
    before = cycle
    # Hardly rises above 0.62, so that no peak is found in the end.
    mious.append(float(cycle.last + rng.normal(-0.5 * max(cycle.last - 0.61, -0.005), 0.008)))
    cycle, actions = advance(cycle, mious[-1], number, rules)
    if Action.KEEP_BEST in actions:
      kept.append(len(mious) - 1)
    if Action.TRAIN not in actions:
      # A fall always is below the start that the propagation was measured against.
      end = End.DROP if mious[-1] <= before.start - rules.max_drop else End.PATIENCE
      cycles.append((mious, kept, end, cycle.start_model))
      origins.append(cycle.start_model)
      mious, kept = [], []
    if Action.STOP in actions:
      break
  assert Action.STOP in actions
  history = History.read(write_log(tmp_path / "run", cycles, start=0.6))
  assert [x.origin.number for x in history.cycles] == origins[:-1]
  assert (history.best.number, history.best.miou) == (cycle.best_model, cycle.best)
  assert len(history.peaks) == len(set(origins)) - 1 >= 2
  failed = [x.peak is None for x in history.cycles]
  assert failed[-rules.cycles :] == [True] * rules.cycles and not failed[-rules.cycles - 1]
  assert {End.DROP, End.PATIENCE} == {x.end for x in history.cycles}


def test_history_has_an_open_cycle_without_an_unfinished_line(tmp_path):
  workdir = write_log(tmp_path / "run", (*CYCLES[:1], ((0.69, 0.68), (), End.OPEN, 0)))
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 100, "lookahead/prop')
  history = History.read(workdir)
  assert [cycle.end for cycle in history.cycles] == [End.DROP, End.OPEN]
  assert history.cycles[1].back_to is None and len(history.cycles[1].models) == 2
  assert "g0,1" not in history.name_models() and history.count_divergences() == (1, 1, 0)
  assert lookahead.format_cycle_table(history).splitlines()[-1].endswith("| 68.00 | not ended |  |")


def test_history_refuses_a_run_without_lookahead_or_propagations(tmp_path):
  with pytest.raises(ValueError, match=r"metrics\.jsonl holds no lookahead/propagation"):
    History.read(tmp_path)
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
  with pytest.raises(ValueError, match=r"metrics\.jsonl holds no lookahead/propagation"):
    History.read(tmp_path)
  assert not lookahead.is_lookahead(Group("IID", (tmp_path,)))
  workdir = write_log(tmp_path / "run", CYCLES)
  assert lookahead.is_lookahead(Group("LoAd", (workdir,)))
  lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
  (workdir / "metrics.jsonl").write_text("".join(lines[:3] + lines[5:]))
  with pytest.raises(ValueError, match=r"metrics\.jsonl: found propagation 3.0; expected 2"):
    History.read(workdir)


def test_format_cycle_table_has_origin_end_and_target_of_each_cycle(history):
  assert lookahead.format_cycle_table(history).splitlines()[2:] == [
    "| g0,0 | g0 (70.00) | 2 | 70.00 | 64.00 | mIoU fell | g0 |",
    "| g0,1 | g0 (70.00) | 4 | g1 (73.00) | 71.00 | patience ran out | g1 |",
    "| g1,0 | g1 (73.00) | 1 | 66.00 | 66.00 | mIoU fell | g1 |",
    "| g1,1 | g1 (73.00) | 2 | 72.90 | 72.90 | patience ran out | g1 |",
    "| g1,2 | g1 (73.00) | 2 | g2 (74.00) | 74.00 | budget ran out | g2 |",
  ]


def test_format_stability_table_counts_cycles_that_stepped_back(tmp_path):
  runs = [
    write_log(tmp_path / "a", CYCLES),
    write_log(tmp_path / "b", CYCLES[:2]),
    write_log(tmp_path / "c", (CYCLES[0],) * 3),
  ]
  assert [History.read(run).count_divergences() for run in runs] == [
    (4, 2, 4),
    (2, 1, 1),
    (3, 3, 0),
  ]
  groups = [Group("some", tuple(runs[:2])), Group("three", tuple(runs[2:]))]
  # Sample deviations: of 4 and 2 the square root of 2, and so on.
  assert lookahead.format_stability_table(groups).splitlines()[2:] == [
    "| some | 2 | 3.0 ± 1.4 | 1.5 ± 0.7 | 2.5 ± 2.1 | 100.0 % |",
    "| three | 1 | 3.0 | 3.0 | 0.0 | 0.0 % |",
    "| all | 3 | 3.0 ± 1.0 | 2.0 ± 1.0 | 1.7 ± 2.1 | 66.7 % |",
  ]
  assert len(lookahead.format_stability_table(groups[:1]).splitlines()) == 3


@pytest.mark.parametrize("best, succeeded", [(0.7 + 0.001, True), (0.7009, False)])
def test_history_succeeded_from_a_tenth_of_a_per_cent_on(tmp_path, best, succeeded):
  cycle = ((0.69, best), (1,), End.PATIENCE, 2)
  assert History.read(write_log(tmp_path / "run", (cycle,))).succeeded == succeeded
