"""Exponents of costs, the reading of LoAd's buffer, and the plot."""

import json

import numpy as np
import pytest

from benchmarks import decades, harness


def test_fit_exponent_finds_that_of_a_power():
  values = np.array([2.0, 6.0, 20.0])
  assert decades.fit_exponent(values, 7 * values**1.5) == pytest.approx(1.5)


def test_make_replay_stores_maps_in_proportion_to_models_and_images(tmp_path):
  size = lambda buffer, images: decades.make_replay({"buffer": buffer, "images": images}, tmp_path)[
    1
  ]
  assert size(4, 3) == pytest.approx(4 * size(1, 3), rel=0.1)
  read, _ = decades.make_replay({"buffer": 2, "images": 3}, tmp_path)
  examples = read()
  assert len(examples) == decades._READS
  assert all({"image", "label", "replay_label"} <= example.keys() for example in examples)


def test_report_and_draw_show_every_quantity(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv(harness.ROWS, str(tmp_path / "rows.jsonl"))
  cost = lambda value: decades.Cost(print, value**2, [0.1 * value, 0.2 * value, 1e6])
  costs = {
    (subject, quantity): {value: cost(value) for value in decades.DECADES[quantity]}
    for subject, quantities in decades.SUBJECTS.items()
    for quantity in quantities
  }
  decades.report(costs)
  assert "| structure | image size, 32 to 320 | 1.00 |" in capsys.readouterr().out
  rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
  of_memory = [row["median"] for row in rows if "memory" in row["row"]]
  assert of_memory == pytest.approx([2.0] * len(of_memory))
  assert len(rows) == 2 * sum(map(len, decades.SUBJECTS.values()))
  decades.draw(costs, tmp_path / "plot.png")
  assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
