"""A run held against the scores that its config keeps."""

import re

import pytest

from asmjax.config.reference import compare_to_reference

DEFAULT = {
  "seed": 0,
  "data": {"source": "scenes", "size": (96, 96)},
  "train": {"steps": 1500},
  "terms": {"structure": {"weight": 1.0}},
  "optimizer": {"predictor": {"learning_rate": 1e-3}, "critic": {"learning_rate": 1e-4}},
  "reference": {
    "label": "pixel loss",
    "command": "train --seed=SEED",
    "scores": {"0": {"segmentation/mean_iou": 0.508}, "2": {"segmentation/mean_iou": 0.49}},
  },
}


def held(metrics=None, **changes):
  metrics = {"segmentation/mean_iou": 0.5212} if metrics is None else metrics
  return compare_to_reference(DEFAULT | changes, DEFAULT, metrics)


def test_compare_to_reference_shows_both_scores_their_difference_and_the_command():
  title, row, command = held().splitlines()
  assert title.split() == ["this", "run", "pixel", "loss", "difference"]
  assert row.split() == ["segmentation/mean_iou", "0.5212", "0.5080", "+0.0132"]
  assert command == "stored, from: train --seed=0"
  table = held(seed=2, terms={"pixel": {}})
  assert "0.4900" in table and table.endswith("--seed=2")


def test_compare_to_reference_takes_lists_for_tuples_and_shows_missing_scores():
  assert held(data={"source": "scenes", "size": [96, 96]})
  assert re.search(r"mean_iou +nan +0.5080 +\+?nan", held(metrics={}))


@pytest.mark.parametrize(
  "changes",
  [
    {"seed": 1},
    {"train": {"steps": 750}},
    {"reference": None},
    {"data": {"source": "scenes", "size": (64, 64)}},
    {"optimizer": {"predictor": {"learning_rate": 2e-3}, "critic": {"learning_rate": 1e-4}}},
  ],
)
def test_compare_to_reference_is_silent_where_nothing_can_be_compared(changes):
  assert held(**changes) == ""


def test_compare_to_reference_ignores_settings_of_critics():
  assert held(optimizer={"predictor": {"learning_rate": 1e-3}, "critic": {"learning_rate": 9.0}})
