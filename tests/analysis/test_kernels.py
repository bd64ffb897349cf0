"""Kernel sizes that adaptive affinity fields have chosen."""

import numpy as np
import pytest

from asmjax.analysis import kernels
from asmjax.analysis.kernels import KernelSizes, compute_kernel_sizes, format_table
from tests.helpers.finished_runs import save_untrained

FIRST_RUN = KernelSizes(("sky", "cat"), (3, 5, 7), np.array([3.0, 5.0]), np.array([6.0, 4.5]))
SECOND_RUN = FIRST_RUN._replace(edge=np.array([4.0, 5.5]))


def test_compute_kernel_sizes_are_weighted_by_the_softmax_of_the_checkpoint(tmp_path):
  rng = np.random.default_rng(0)
  params = {kind: rng.normal(size=(9, 3)).astype(np.float32) for kind in ("edge", "non_edge")}
  run, _ = save_untrained(tmp_path, "aaf", critics={"affinity": params})
  sizes = compute_kernel_sizes(tmp_path)
  assert sizes.classes == tuple(run.descriptor.classes) and sizes.sizes == (3, 5, 7)
  for kind, logits in params.items():
    for index in range(9):
      a, b, c = np.exp(logits[index])
      by_hand = (3 * a + 5 * b + 7 * c) / (a + b + c)
      assert getattr(sizes, kind)[index] == pytest.approx(by_hand, rel=1e-5)


def test_compute_kernel_sizes_refuses_a_run_without_adaptive_fields(tmp_path):
  save_untrained(tmp_path, "affinity")
  with pytest.raises(ValueError, match="the terms affinity, pixel, of which adaptive .*: none"):
    compute_kernel_sizes(tmp_path)


def test_format_table_has_means_and_ranges():
  assert format_table({"AAF": [FIRST_RUN, SECOND_RUN], "one": [FIRST_RUN]}).splitlines() == [
    "| kernel size | AAF, edge pairs | AAF, other pairs | one, edge pairs | one, other pairs |",
    "| --- | --- | --- | --- | --- |",
    "| sky | 3.50 (3.00–4.00) | 6.00 (6.00–6.00) | 3.00 | 6.00 |",
    "| cat | 5.25 (5.00–5.50) | 4.50 (4.50–4.50) | 5.00 | 4.50 |",
  ]


@pytest.mark.parametrize("change", [{"classes": ("sky", "dog")}, {"sizes": (3, 5, 9)}])
def test_format_table_and_save_bars_refuse_runs_of_different_choices(change, tmp_path):
  groups = {"AAF": [FIRST_RUN], "other": [SECOND_RUN._replace(**change)]}
  with pytest.raises(ValueError, match="AAF has .*; other has .*expected runs of the same"):
    format_table(groups)
  with pytest.raises(ValueError, match="expected runs of the same"):
    kernels.save_bars(groups, tmp_path / "kernels.png")


def test_save_bars_ends_bars_at_the_means_and_whiskers_at_the_range(saved_figures, tmp_path):
  kernels.save_bars({"AAF": [FIRST_RUN, SECOND_RUN], "one": [FIRST_RUN]}, tmp_path / "kernels.png")
  (figure,) = saved_figures
  figure.draw_without_rendering()  # Raises where the layout has no room.
  for axes, ends in zip(figure.axes, ([3.5, 5.25, 3, 5], [6, 4.5, 6, 4.5]), strict=True):
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == ends
    for bar, tick in zip(axes.patches, [0, 1, 0, 1], strict=True):
      assert abs(bar.get_y() + bar.get_height() / 2 - tick) < 0.4
  edge = figure.axes[0]
  # The class with the smallest edge sizes comes first.
  assert [label.get_text() for label in edge.get_yticklabels()] == ["sky", "cat"]
  (whiskers,) = edge.collections
  ranges = [segment[:, 0].tolist() for segment in whiskers.get_segments()]
  assert ranges == [[3, 4], [5, 5.5]]
