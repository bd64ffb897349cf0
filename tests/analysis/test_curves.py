"""Curves of logged metrics and charts of critics' health."""

import json

import numpy as np
import pytest

from asmjax.analysis import curves
from asmjax.analysis.runs import Group
from tests.helpers.finished_runs import write_run


@pytest.fixture
def group(tmp_path):
  """Makes a group of one run that logged the given metrics, each falling over two steps."""

  def make(*metrics):
    lines = [{"step": step, **dict.fromkeys(metrics, 1 / step)} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "results.json").write_text("{}")
    return Group("run", (tmp_path,))

  return make


def read_health(group):
  return curves.read_critic_health([group], curves.number_styles([group]))


def test_read_critic_health_has_more_charts_of_a_discriminator(group):
  gradients = ("gradient_norm/predictor", "gradient_norm/a", "gradient_norm_from/a")
  kinds = ("accuracy_real", "accuracy_fake", "discriminator_loss_real", "discriminator_loss_fake")
  charts = read_health(group(*gradients))
  assert [chart.log for chart in charts] == [True] * 2
  assert [chart.curves[0].values.tolist() for chart in charts] == [[[1, 0.5]]] * 2
  charts = read_health(group(*gradients, *(f"a/{kind}" for kind in kinds)))
  assert [chart.log for chart in charts] == [False] * 2 + [True] * 4
  assert [chart.curves[0].values.tolist() for chart in charts[:2]] == [[[100, 50]]] * 2


def test_save_charts_draws_a_panel_for_each_chart(group, saved_figures, tmp_path):
  charts = read_health(group("gradient_norm/a", "gradient_norm_from/a", "a/accuracy_real"))
  curves.save_charts(charts, tmp_path / "health.png")
  (figure,) = saved_figures
  panels = [axes for axes in figure.axes if axes.axison]
  assert [axes.get_title() for axes in panels] == [chart.title for chart in charts]
  assert [axes.lines[0].get_ydata().tolist() for axes in panels] == [[100, 50], [1, 0.5], [1, 0.5]]


def test_save_charts_writes_nothing_without_a_critic(group, tmp_path):
  charts = read_health(group("gradient_norm/predictor", "gradient_norm_from/pixel"))
  curves.save_charts(charts, tmp_path / "health.png")
  assert not (tmp_path / "health.png").exists()


def test_read_curves_joins_runs_that_logged_at_the_same_steps(tmp_path):
  for name, value, steps in (("a", 0.4, (2, 4)), ("b", 0.6, (2, 4)), ("c", 0.8, (1, 3, 4))):
    write_run(tmp_path / name, (value, 0.8, 0.03, 0.9, 0.1), steps=steps)
  read = lambda *names: curves.read_curves(
    5, "A", Group("A", tuple(tmp_path / name for name in names)), "segmentation/mean_iou"
  )
  (joint,) = read("a", "b")
  assert joint.steps.tolist() == [2, 4] and joint.style == 5
  np.testing.assert_allclose(joint.values, [[20, 40], [30, 60]])
  first, second = read("a", "c")
  assert first.steps.tolist() == [2, 4] and second.steps.tolist() == [1, 3, 4]
  np.testing.assert_allclose(second.values, [[20, 60, 80]])


def test_smooth_averages_neighbors_of_long_curves():
  steps, values = np.arange(10, 910, 10), np.random.default_rng(0).normal(size=(2, 90))
  last_steps, means = curves.smooth(steps, values)
  assert len(last_steps) == means.shape[1] == curves.MAX_POINTS and last_steps[-1] == 900
  np.testing.assert_allclose(means[:, 0], values[:, :2].mean(1))
  np.testing.assert_allclose(means[:, -1], values[:, -1])
  _, means = curves.smooth(steps[:60], values[:, :60])
  np.testing.assert_array_equal(means, values[:, :60])


def test_make_line_style_differs_for_every_number():
  styles = [curves.make_line_style(index) for index in range(280)]
  assert len({(x["color"], x["linestyle"], x["marker"]) for x in styles}) == 280
  # Without colors too, as long as there are fewer curves than a legend can hold.
  assert len({(x["linestyle"], x["marker"]) for x in styles[:40]}) == 40


def test_read_learning_curves_have_titles_of_metrics_and_losses(group):
  metrics = ("pixel/surface_normals", "depth/rms", "segmentation/mean_iou")
  charts = curves.read_learning_curves([group(*metrics)], metrics, {"run": 0})
  assert [chart.title for chart in charts] == [
    "pixel loss of surface normals",
    "rms in m of validation examples",
    "mean IoU of validation examples, %",
  ]
