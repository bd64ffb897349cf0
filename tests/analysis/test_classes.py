"""Metrics by class against a baseline."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from asmjax.analysis.classes import (
  draw_changes,
  format_class_table,
  read_class_scores,
  save_changes,
  select_class_metrics,
)
from asmjax.analysis.runs import Group

IOU = "segmentation/iou"


def group(folder, label, *runs, metric=IOU):
  """Runs with these values by class, and metrics of no class."""
  workdirs = []
  for index, values in enumerate(runs):
    workdirs.append(folder / f"{label}_{index}")
    workdirs[-1].mkdir(exist_ok=True)
    metrics = {f"{metric}/{name}": value for name, value in values.items()}
    metrics |= {"segmentation/mean_iou": 0.5, "segmentation/bf/bf": 0.9}
    run = {"step": 4, "data_set": "scenes", "split": "val", "examples": 2}
    (workdirs[-1] / "results.json").write_text(json.dumps({**run, "metrics": metrics}))
  return Group(label, tuple(workdirs))


def pair(folder, metric=IOU):
  return (
    group(folder, "IID", {"sky": 0.9, "cat": 0.4, "sofa": 0.5, "boat": None}, metric=metric),
    group(
      folder,
      "LoAd",
      {"sky": 0.88, "cat": 0.5, "sofa": 0.56, "boat": None},
      {"sky": 0.88, "cat": None, "sofa": 0.58, "boat": None},
      metric=metric,
    ),
  )


def test_format_class_table_lists_means_over_runs_by_descending_gain(tmp_path):
  assert format_class_table(*pair(tmp_path)).splitlines() == [
    "| segmentation/iou | IID | LoAd | difference |",
    "| --- | --- | --- | --- |",
    "| cat | 40.00 | 50.00 | +10.00 |",
    "| sofa | 50.00 | 57.00 | +7.00 |",
    "| sky | 90.00 | 88.00 | -2.00 |",
    "| boat | – | – | – |",
    # Of each run over the classes that it has: (0.88 + 0.5 + 0.56) / 3 and (0.88 + 0.58) / 2.
    "| **mean** | 60.00 | 68.83 | +8.83 |",
  ]


def test_format_class_table_lists_falling_errors_first(tmp_path):
  lines = format_class_table(
    *pair(tmp_path, "depth/instance/rel"), "depth/instance/rel"
  ).splitlines()
  assert [line.split(" | ")[0] for line in lines[2:]] == [
    "| sky",
    "| sofa",
    "| cat",
    "| boat",
    "| **mean**",
  ]
  assert lines[2] == "| sky | 0.900 | 0.880 | -0.020 |"


def test_read_class_scores_refuses_different_classes(tmp_path):
  before, different = pair(tmp_path)[0], group(tmp_path, "other", {"sky": 0.9})
  with pytest.raises(ValueError, match="IID of .*'boat'.* other of .'sky'.; expected the same"):
    format_class_table(before, different)
  with pytest.raises(ValueError, match=r"rel by class: IID of \[\]; expected the same classes"):
    read_class_scores([before], "depth/class/rel")


def test_select_class_metrics_are_those_that_all_groups_have(tmp_path):
  before, after = pair(tmp_path, "segmentation/boundary/precision")
  assert select_class_metrics([before, after]) == ["segmentation/boundary/precision"]
  assert select_class_metrics([before, group(tmp_path, "other", {"sky": 0.9})]) == []


def test_draw_changes_has_bars_of_every_group(tmp_path):
  groups = [*pair(tmp_path), group(tmp_path, "up", {"boat": 1, "cat": 1, "sofa": 1, "sky": 1})]
  axes = Figure().subplots()
  draw_changes(axes, read_class_scores(groups, IOU), "IID")
  assert [label.get_text() for label in axes.get_xticklabels()] == [
    "cat",
    "sofa",
    "sky",
    "boat",
    "mean",
  ]
  heights = np.array([bar.get_height() for bar in axes.patches]).reshape(2, 5)
  np.testing.assert_allclose(
    heights, [[10, 7, -2, np.nan, 100 * (1.94 / 3 + 0.73 - 1.2) / 2], [60, 50, 10, np.nan, 40]]
  )
  centers = np.array([bar.get_x() + bar.get_width() / 2 for bar in axes.patches]).reshape(2, 5)
  np.testing.assert_allclose(centers.mean(0), range(5), atol=1e-12)


def test_save_changes_has_a_panel_for_each_metric(saved_figures, tmp_path):
  scores = read_class_scores(pair(tmp_path), IOU)
  save_changes([scores, scores._replace(metric="a/b")], "IID", tmp_path / "classes.png")
  assert [axes.get_title() for axes in saved_figures[0].axes] == [IOU, "a/b"]
  assert [len(axes.patches) for axes in saved_figures[0].axes] == [5, 5]
