"""What is read off the logs of LoAd runs."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from asmjax.analysis import lookahead
from asmjax.analysis.lookahead import End, History
from asmjax.analysis.runs import Group
from asmjax.lookahead.cycle import Action, Rules, advance, begin

# Cycles: mIoUs after their propagations, the ones kept as best, how they ended, what they led to.
SMALL = (
  ((0.70, 0.64), (), End.DROP, 0),
  ((0.705, 0.72, 0.73, 0.71), (1, 2), End.PATIENCE, 5),
  ((0.66,), (), End.DROP, 5),
  ((0.72, 0.729), (), End.PATIENCE, 5),
  ((0.735, 0.74), (0, 1), End.BUDGET, 10 + 1),
)


def write(workdir, cycles, start=0.7):
  """The log of a run, among lines of other things, and empty results."""
  workdir.mkdir(exist_ok=True)
  lines, number = [line(0, start)], 0
  for mious, kept, end, back_to in cycles:
    for place, miou in enumerate(mious):
      number += 1
      last = place == len(mious) - 1
      ended = {"lookahead/cycle_end": float(end.value), "lookahead/back_to": float(back_to)}
      lines += [
        line(number, miou, kept=place in kept, **ended if last and end is not End.OPEN else {}),
        {"step": 20 * number + 5, "lookahead/critic_loss": 0.3},
      ]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
  (workdir / "results.json").write_text("{}")
  return workdir


def line(number, miou, kept=False, **more):
  return {
    "step": 20 * number,
    "lookahead/propagation": float(number),
    "lookahead/model": float(number),
    "lookahead/miou": miou,
    "lookahead/kept_best": float(kept),
    "lookahead/cycle_end": 0.0,
    **more,
  }


@pytest.fixture
def history(tmp_path):
  return History.read(write(tmp_path / "small", SMALL))


def test_cycles_start_where_the_one_before_stepped_back_to(history):
  assert [cycle.name for cycle in history.cycles] == ["g0,0", "g0,1", "g1,0", "g1,1", "g1,2"]
  assert [cycle.origin.number for cycle in history.cycles] == [0, 0, 5, 5, 5]
  assert [cycle.ending.number for cycle in history.cycles] == [2, 6, 7, 9, 11]
  assert [cycle.best.miou for cycle in history.cycles] == [0.70, 0.73, 0.66, 0.729, 0.74]
  assert [cycle.end for cycle in history.cycles] == [each[2] for each in SMALL]
  assert [peak.number for peak in history.peaks] == [5, 11] and history.best.miou == 0.74
  assert {name: model.number for name, model in history.named().items()} == {
    "g0": 0,
    "g1": 5,
    "g2": 11,
    "g0,0": 2,
    "g0,1": 6,
    "g1,0": 7,
    "g1,1": 9,
    "g1,2": 11,
  }


def test_histories_agree_with_the_algorithm(tmp_path):
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
  history = History.read(write(tmp_path / "run", cycles, start=0.6))
  assert [each.origin.number for each in history.cycles] == origins[:-1]
  assert (history.best.number, history.best.miou) == (cycle.best_model, cycle.best)
  assert len(history.peaks) == len(set(origins)) - 1 >= 2
  failed = [each.peak is None for each in history.cycles]
  assert failed[-rules.cycles :] == [True] * rules.cycles and not failed[-rules.cycles - 1]
  assert {End.DROP, End.PATIENCE} == {each.end for each in history.cycles}


def test_a_cycle_that_goes_on_is_read_and_a_line_that_is_being_written_is_not(tmp_path):
  workdir = write(tmp_path / "run", (*SMALL[:1], ((0.69, 0.68), (), End.OPEN, 0)))
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 100, "lookahead/prop')
  history = History.read(workdir)
  assert [cycle.end for cycle in history.cycles] == [End.DROP, End.OPEN]
  assert history.cycles[1].back_to is None and len(history.cycles[1].models) == 2
  assert "g0,1" not in history.named() and history.divergences() == (1, 1, 0)
  assert lookahead.cycle_table(history).splitlines()[-1].endswith("| 68.00 | not ended |  |")


def test_what_is_no_lookahead_run_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"metrics\.jsonl holds no lookahead/propagation"):
    History.read(tmp_path)
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
  with pytest.raises(ValueError, match=r"metrics\.jsonl holds no lookahead/propagation"):
    History.read(tmp_path)
  assert not lookahead.is_lookahead(Group("plain", (tmp_path,)))
  workdir = write(tmp_path / "run", SMALL)
  assert lookahead.is_lookahead(Group("LoAd", (workdir,)))
  lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
  (workdir / "metrics.jsonl").write_text("".join(lines[:3] + lines[5:]))
  with pytest.raises(ValueError, match=r"metrics\.jsonl: found propagation 3; expected 2"):
    History.read(workdir)


def test_the_table_of_cycles_says_where_they_came_from_and_went(history):
  assert lookahead.cycle_table(history).splitlines()[2:] == [
    "| g0,0 | g0 (70.00) | 2 | 70.00 | 64.00 | mIoU fell | g0 |",
    "| g0,1 | g0 (70.00) | 4 | g1 (73.00) | 71.00 | patience ran out | g1 |",
    "| g1,0 | g1 (73.00) | 1 | 66.00 | 66.00 | mIoU fell | g1 |",
    "| g1,1 | g1 (73.00) | 2 | 72.90 | 72.90 | patience ran out | g1 |",
    "| g1,2 | g1 (73.00) | 2 | g2 (74.00) | 74.00 | budget ran out | g2 |",
  ]


def test_stability_counts_what_was_stepped_back(tmp_path):
  runs = [
    write(tmp_path / "a", SMALL),
    write(tmp_path / "b", SMALL[:2]),
    write(tmp_path / "c", (SMALL[0],) * 3),
  ]
  assert [History.read(run).divergences() for run in runs] == [(4, 2, 4), (2, 1, 1), (3, 3, 0)]
  groups = [Group("some", tuple(runs[:2])), Group("other", tuple(runs[2:]))]
  # Sample deviations: of 4 and 2 the square root of 2, and so on.
  assert lookahead.stability_table(groups).splitlines()[2:] == [
    "| some | 2 | 3.0 ± 1.4 | 1.5 ± 0.7 | 2.5 ± 2.1 | 100.0 % |",
    "| other | 1 | 3.0 | 3.0 | 0.0 | 0.0 % |",
    "| all | 3 | 3.0 ± 1.0 | 2.0 ± 1.0 | 1.7 ± 2.1 | 66.7 % |",
  ]
  assert len(lookahead.stability_table(groups[:1]).splitlines()) == 3


@pytest.mark.parametrize("best, succeeded", [(0.7 + 0.001, True), (0.7009, False)])
def test_a_run_succeeds_from_a_tenth_of_a_per_cent_on(tmp_path, best, succeeded):
  cycle = ((0.69, best), (1,), End.PATIENCE, 2)
  assert History.read(write(tmp_path / "run", (cycle,))).succeeded == succeeded


def drawn(history):
  axes = Figure(figsize=(9, 3)).subplots()
  lookahead.draw_convergence(axes, history)
  return axes


def test_every_cycle_is_a_line_from_its_origin_and_every_rollback_a_jump(history):
  axes = drawn(history)
  lines = [each for each in axes.lines if each.get_linestyle() == "-"]
  jumps = [each for each in axes.lines if each.get_linestyle() == "--"]
  for cycle, line, jump in zip(history.cycles, lines, jumps, strict=True):
    np.testing.assert_allclose(
      line.get_ydata(), [100 * model.miou for model in (cycle.origin, *cycle.models)]
    )
    assert line.get_xdata()[-1] == jump.get_xdata()[0] == jump.get_xdata()[1]
    assert jump.get_ydata()[1] == 100 * cycle.back_to.miou
  # A jump lands where the next cycle begins.
  for jump, line in zip(jumps, lines[1:], strict=False):
    assert (jump.get_xdata()[1], jump.get_ydata()[1]) == (line.get_xdata()[0], line.get_ydata()[0])


def test_marks_are_told_apart_by_shape_and_have_names(history):
  axes = drawn(history)
  marks = {each.get_label(): each for each in axes.lines if each.get_linestyle() == "None"}
  assert len({each.get_marker() for each in marks.values()}) == len(marks) == 5
  places = {label: each.get_xdata().tolist() for label, each in marks.items()}
  assert places == {
    "start": [0],
    "new peak": [5, 11],
    "ending: mIoU fell": [2, 7],
    "ending: patience ran out": [6, 9],
    "ending: budget ran out": [11],
  }
  named = {text.get_text(): text.xy for text in axes.texts}
  assert named["$g_{2}$"] == named["$g_{1,2}$"] == (11, 74.0)
  assert set(named) == {f"$g_{{{name[1:]}}}$" for name in history.named()}


def test_of_many_names_the_best_models_stays(tmp_path):
  peaks = [((0.7 + 0.001 * i,), (0,), End.PATIENCE, i) for i in range(1, 150)]
  axes = drawn(History.read(write(tmp_path / "run", peaks)))
  places = sorted(text.xy[0] for text in axes.texts if "," not in text.get_text())
  assert "$g_{149}$" in {text.get_text() for text in axes.texts}
  assert 10 < len(places) < 75 and min(np.diff(places[1:])) > 1


def test_an_album_leads_to_the_last_peak_and_goes_on_where_there_is_room(tmp_path, history):
  assert lookahead.album_models(history, [0, 2, 4, 5, 6, 7, 9, 11]) == [0, 2, 5, 6, 7, 9, 11]
  assert lookahead.album_models(history, [0, 5, 7]) == [0, 5, 7]
  falls = [((0.6,), (), End.DROP, 0)] * 20
  late = ((0.8, 0.6), (0,), End.DROP, 21)
  after = [((0.6,), (), End.DROP, 21)] * 20
  pictures = range(43)
  chosen = lookahead.album_models(
    History.read(write(tmp_path / "late", [*falls, late, *after])), pictures
  )
  assert chosen[0] == 0 and chosen[-1] == 21 and len(set(chosen)) == 8
  assert np.ptp(np.diff(chosen)) <= 1
  early = [((0.8, 0.6), (0,), End.DROP, 1), *[((0.6,), (), End.DROP, 1)] * 20]
  chosen = lookahead.album_models(History.read(write(tmp_path / "early", early)), pictures)
  assert chosen[:3] == [0, 1, 2] and chosen[-1] == 22 and len(set(chosen)) == 8


def test_the_album_shows_the_chosen_models_and_only_some_photos(tmp_path, history):
  workdir = tmp_path / "small"
  group = Group("LoAd", (workdir,))
  with pytest.raises(ValueError, match=r"previews holds no pictures; expected MODEL\.npz"):
    lookahead.save_album([group], tmp_path / "album.png")
  (workdir / "previews").mkdir()
  flat = lambda *color: np.broadcast_to(np.array(color, np.uint8), (3, 8, 12, 3)).copy()
  photos = flat(9, 9, 200)
  photos[2] = 200, 9, 9
  # Model 3 has no name.
  for model in (0, 2, 3, 5):
    np.savez(
      workdir / "previews" / f"{model}.npz",
      **{
        "input": photos,
        "segmentation/truth": flat(9, 120, 9),
        "segmentation/prediction": flat(40 * model, 250, 90),
        "segmentation/error": flat(1, 99, 1),
      },
    )
  lookahead.save_album([group], tmp_path / "album.png", count=2)
  with Image.open(tmp_path / "album.png") as picture:
    pixels = np.array(picture.convert("RGB")).reshape(-1, 3)
  area = lambda *color: int(np.all(pixels == color, -1).sum())
  shown = [area(9, 9, 200), area(9, 120, 9), *(area(40 * model, 250, 90) for model in (0, 2, 5))]
  assert min(shown) > 1000 and max(shown) < 1.1 * min(shown)
  assert area(120, 250, 90) == area(200, 9, 9) == area(1, 99, 1) == 0


def test_all_runs_have_a_panel_of_the_convergence(tmp_path):
  workdirs = tuple(write(tmp_path / name, SMALL) for name in "abcd")
  heights = []
  for count in (1, 3, 4):
    lookahead.save_convergence([Group("LoAd", workdirs[:count])], tmp_path / "convergence.png")
    with Image.open(tmp_path / "convergence.png") as picture:
      heights.append(picture.height)
      pixels = np.array(picture.convert("RGB")).astype(int)
    # The green of peaks: two marks a panel, and one in the legend.
    green = np.sum(np.abs(pixels - (44, 160, 44)).sum(-1) < 9)
    if count == 1:
      one = green / 3
    assert green == pytest.approx((2 * count + 1) * one, rel=0.15)
  assert heights[0] < heights[2] < heights[1]
