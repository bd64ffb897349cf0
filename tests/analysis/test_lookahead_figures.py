"""Figures of LoAd runs."""

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asmjax.analysis.lookahead import End, History
from asmjax.analysis.lookahead_figures import (
  draw_convergence,
  save_album,
  save_convergence,
  select_album_models,
)
from asmjax.analysis.runs import Group
from asmjax.data.descriptor import Descriptor
from tests.helpers.lookahead_logs import CYCLES, write_log


@pytest.fixture
def history(tmp_path):
  return History.read(write_log(tmp_path / "small", CYCLES))


def draw(history):
  axes = Figure(figsize=(9, 3)).subplots()
  draw_convergence(axes, history)
  return axes


def test_draw_convergence_draws_cycles_as_lines_and_steps_back_as_jumps(history):
  axes = draw(history)
  lines = [line for line in axes.lines if line.get_linestyle() == "-"]
  jumps = [line for line in axes.lines if line.get_linestyle() == "--"]
  for cycle, line, jump in zip(history.cycles, lines, jumps, strict=True):
    np.testing.assert_allclose(
      line.get_ydata(), [100 * model.miou for model in (cycle.origin, *cycle.models)]
    )
    assert line.get_xdata()[-1] == jump.get_xdata()[0] == jump.get_xdata()[1]
    assert jump.get_ydata()[1] == 100 * cycle.back_to.miou
  # A jump lands where the next cycle begins.
  for jump, line in zip(jumps, lines[1:], strict=False):
    assert (jump.get_xdata()[1], jump.get_ydata()[1]) == (line.get_xdata()[0], line.get_ydata()[0])


def test_draw_convergence_marks_models_by_shape_and_name(history):
  axes = draw(history)
  marks = {line.get_label(): line for line in axes.lines if line.get_linestyle() == "None"}
  assert len({mark.get_marker() for mark in marks.values()}) == len(marks) == 5
  assert {label: mark.get_xdata().tolist() for label, mark in marks.items()} == {
    "start": [0],
    "new peak": [5, 11],
    "ending: mIoU fell": [2, 7],
    "ending: patience ran out": [6, 9],
    "ending: budget ran out": [11],
  }
  points = {text.get_text(): text.xy for text in axes.texts}
  assert points["$g_{2}$"] == points["$g_{1,2}$"] == (11, 74.0)
  assert set(points) == {f"$g_{{{name[1:]}}}$" for name in history.name_models()}


def test_draw_convergence_names_the_best_of_many_models(tmp_path):
  peaks = [((0.7 + 0.001 * i,), (0,), End.PATIENCE, i) for i in range(1, 150)]
  axes = draw(History.read(write_log(tmp_path / "run", peaks)))
  positions = sorted(text.xy[0] for text in axes.texts if "," not in text.get_text())
  assert "$g_{149}$" in {text.get_text() for text in axes.texts}
  assert 10 < len(positions) < 75 and min(np.diff(positions[1:])) > 1


def test_select_album_models_lead_to_the_last_peak_and_go_on_where_columns_are_left(
  tmp_path, history
):
  assert select_album_models(history, [0, 2, 4, 5, 6, 7, 9, 11]) == [0, 2, 5, 6, 7, 9, 11]
  assert select_album_models(history, [0, 5, 7]) == [0, 5, 7]
  falls = [((0.6,), (), End.DROP, 0)] * 20
  late = ((0.8, 0.6), (0,), End.DROP, 21)
  after = [((0.6,), (), End.DROP, 21)] * 20
  pictures = range(43)
  chosen = select_album_models(
    History.read(write_log(tmp_path / "late", [*falls, late, *after])), pictures
  )
  assert chosen[0] == 0 and chosen[-1] == 21 and len(set(chosen)) == 8
  assert np.ptp(np.diff(chosen)) <= 1
  early = [((0.8, 0.6), (0,), End.DROP, 1), *[((0.6,), (), End.DROP, 1)] * 20]
  chosen = select_album_models(History.read(write_log(tmp_path / "early", early)), pictures)
  assert chosen[:3] == [0, 1, 2] and chosen[-1] == 22 and len(set(chosen)) == 8


def test_save_album_draws_the_selected_models_and_at_most_count_photos(
  saved_figures, tmp_path, history
):
  workdir = tmp_path / "small"
  classes = ("floor", "wheel")
  data_set = Descriptor("x", classes, ((7, 7, 7), (8, 8, 8)), ("val",), frozenset({"label"}))
  (workdir / "data_set.json").write_text(json.dumps(data_set.to_dict()))
  group = Group("LoAd", (workdir,))
  with pytest.raises(ValueError, match=r"previews holds no pictures; expected MODEL\.npz"):
    save_album([group], tmp_path / "album.png")
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
  save_album([group], tmp_path / "album.png", count=2)
  (figure,) = saved_figures
  canvas = FigureCanvasAgg(figure)
  figure.set_dpi(150)
  canvas.draw()
  pixels = np.asarray(canvas.buffer_rgba())[..., :3].reshape(-1, 3)
  area = lambda *color: int(np.all(pixels == color, -1).sum())
  areas = [area(9, 9, 200), area(9, 120, 9), *(area(40 * model, 250, 90) for model in (0, 2, 5))]
  assert min(areas) > 1000 and max(areas) < 1.1 * min(areas)
  assert area(120, 250, 90) == area(200, 9, 9) == area(1, 99, 1) == 0
  (part,) = figure.subfigs
  titles = [axes.get_title() for axes in part.axes if axes.get_title()]
  assert titles == ["input", "truth", "g0\n70.00 %", "g0,0\n64.00 %", "g1\n73.00 %"]
  (legend,) = figure.legends
  assert tuple(text.get_text() for text in legend.get_texts()) == classes


def test_save_convergence_has_a_panel_for_each_run(saved_figures, tmp_path):
  workdirs = tuple(write_log(tmp_path / name, CYCLES) for name in "abcd")
  for count, num_rows in ((1, 1), (3, 3), (4, 2)):
    save_convergence([Group("LoAd", workdirs[:count])], tmp_path / "convergence.png")
    panels = saved_figures[-1].axes
    titles = [f"LoAd, {name}" for name in "abcd"[:count]] if count > 1 else ["LoAd"]
    assert [axes.get_title() for axes in panels] == titles
    assert panels[0].get_gridspec().nrows == num_rows and all(axes.lines for axes in panels)
    (legend,) = saved_figures[-1].legends
    assert len(legend.get_texts()) == 7
