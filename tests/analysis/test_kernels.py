"""Which kernel sizes adaptive affinity fields have chosen."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from asmjax.analysis import kernels
from asmjax.analysis.kernels import KernelSizes, format_table, kernel_sizes
from asmjax.config.build import build_experiment
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small

RUN = KernelSizes(("sky", "cat"), (3, 5, 7), np.array([3.0, 5.0]), np.array([6.0, 4.5]))
OTHER = RUN._replace(edge=np.array([4.0, 5.5]))


def save(workdir, variant, free=None, **changes):
  """A run that has made no step, but whose weights are the softmax of these."""
  made = small.config(variant, **{"data.options.length": 2, **changes})
  (workdir / "config.json").write_text(json.dumps(made.to_dict()))
  run = build_experiment(made)
  state = run.init_state()
  if free is not None:
    chooser = state.players["affinity"].replace(params=free)
    state = state.replace(players=state.players | {"affinity": chooser})
  with open_checkpoints(run, workdir) as checkpoints:
    checkpoints.save(state)
  return run


def test_sizes_are_weighed_by_the_softmax_of_the_checkpoint(tmp_path):
  rng = np.random.default_rng(0)
  free = {kind: rng.normal(size=(9, 3)).astype(np.float32) for kind in ("edge", "non_edge")}
  run = save(tmp_path, "aaf", free)
  found = kernel_sizes(tmp_path)
  assert found.classes == tuple(run.descriptor.classes) and found.sizes == (3, 5, 7)
  for kind, logits in free.items():
    for index in range(9):
      a, b, c = np.exp(logits[index])
      by_hand = (3 * a + 5 * b + 7 * c) / (a + b + c)
      assert getattr(found, kind)[index] == pytest.approx(by_hand, rel=1e-5)


def test_a_run_without_adaptive_fields_is_refused_by_what_it_has(tmp_path):
  save(tmp_path, "affinity")
  with pytest.raises(ValueError, match="the terms affinity, pixel, of which adaptive .*: none"):
    kernel_sizes(tmp_path)


def test_tables_hold_means_and_ranges():
  assert format_table({"AAF": [RUN, OTHER], "one": [RUN]}).splitlines() == [
    "| kernel size | AAF, edge pairs | AAF, other pairs | one, edge pairs | one, other pairs |",
    "| --- | --- | --- | --- | --- |",
    "| sky | 3.50 (3.00–4.00) | 6.00 (6.00–6.00) | 3.00 | 6.00 |",
    "| cat | 5.25 (5.00–5.50) | 4.50 (4.50–4.50) | 5.00 | 4.50 |",
  ]


@pytest.mark.parametrize("change", [{"classes": ("sky", "dog")}, {"sizes": (3, 5, 9)}])
def test_runs_must_have_the_same_to_choose_from(change, tmp_path):
  groups = {"AAF": [RUN], "other": [OTHER._replace(**change)]}
  with pytest.raises(ValueError, match="AAF has .*; other has .*expected runs of the same"):
    format_table(groups)
  with pytest.raises(ValueError, match="expected runs of the same"):
    kernels.save_bars(groups, tmp_path / "kernels.png")


def test_bars_end_at_the_means_and_whiskers_at_the_range(monkeypatch, tmp_path):
  drawn = []
  monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
  kernels.save_bars({"AAF": [RUN, OTHER], "one": [RUN]}, tmp_path / "kernels.png")
  drawn[0].draw_without_rendering()  # All has a place.
  for axes, ends in zip(drawn[0].axes, ([3.5, 5.25, 3, 5], [6, 4.5, 6, 4.5]), strict=True):
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == ends
    for bar, place in zip(axes.patches, [0, 1, 0, 1], strict=True):
      assert abs(bar.get_y() + bar.get_height() / 2 - place) < 0.4
  edge = drawn[0].axes[0]
  # The class with the smallest edge sizes comes first.
  assert [each.get_text() for each in edge.get_yticklabels()] == ["sky", "cat"]
  (whiskers,) = edge.collections
  ranges = [segment[:, 0].tolist() for segment in whiskers.get_segments()]
  assert ranges == [[3, 4], [5, 5.5]]
