"""Means, spreads and paired differences against SciPy's, and their table."""

import json

import numpy as np
import pytest
from scipy import stats

from asmjax.analysis.comparison import MetricColumn, SeedSummary, compare, subtract_baseline
from asmjax.analysis.runs import Group

METRICS = ("segmentation/mean_iou", "depth/rel")


def write(folder, seed, values, seconds=None, **changes):
  folder.mkdir(parents=True)
  results = {
    "step": 4,
    "data_set": "cats",
    "split": "val",
    "examples": 7,
    "metrics": dict(zip(METRICS, values, strict=True)),
    **changes,
  }
  (folder / "results.json").write_text(json.dumps(results))
  (folder / "config.json").write_text(json.dumps({"seed": seed, "eval": {"split": "val"}}))
  if seconds is not None:
    (folder / "wall_time.jsonl").write_text(json.dumps({"step": 4, "seconds": seconds}) + "\n")


def group(root, label, runs):
  """Runs by seed: values of both metrics, and seconds."""
  for seed, (values, seconds) in runs.items():
    write(root / label / str(seed), seed, values, seconds)
  return Group(label, tuple(root / label / str(seed) for seed in runs))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_subtract_baseline_has_the_interval_of_a_paired_t_test(n):
  rng = np.random.default_rng(n)
  asm, iid = rng.normal(0.55, 0.02, n), rng.normal(0.5, 0.02, n)
  difference = subtract_baseline(
    SeedSummary(dict(enumerate(asm))), SeedSummary(dict(enumerate(iid))), 1
  )
  expected = stats.ttest_rel(asm, iid).confidence_interval(0.95)
  np.testing.assert_allclose(difference.interval, expected, rtol=1e-12)
  np.testing.assert_allclose(difference.mean, asm.mean() - iid.mean(), rtol=1e-12)
  assert difference.ahead == sum(a > b for a, b in zip(asm, iid, strict=True))


def test_subtract_baseline_interval_covers_the_truth_in_95_of_100_samples():
  rng = np.random.default_rng(0)
  hits, samples = 0, 4000
  for asm, iid in rng.normal((0.5, 0.4), 0.1, (samples, 3, 2)).transpose(0, 2, 1):
    difference = subtract_baseline(
      SeedSummary(dict(enumerate(asm))), SeedSummary(dict(enumerate(iid))), 1
    )
    low, high = difference.interval
    hits += low <= 0.1 <= high
  assert abs(hits / samples - 0.95) < 0.012


def test_compare_pairs_seeds_of_both_groups_and_prefers_smaller_errors(tmp_path):
  asm = group(tmp_path, "A", {0: ((0.5, 0.3), 60), 2: ((0.6, 0.1), 120), 3: ((0.9, 0.9), 1)})
  base = group(tmp_path, "B", {2: ((0.5, 0.2), 60), 1: ((0.4, 0.1), 60), 0: ((0.5, 0.2), 30)})
  comparison = compare([base, asm], METRICS, "B")
  iou, rel = (comparison.differences["A"][name] for name in METRICS)
  assert iou.values == {0: 0.0, 2: pytest.approx(0.1)} and iou.ahead == 1
  assert rel.values == {0: pytest.approx(0.1), 2: pytest.approx(-0.1)} and rel.ahead == 1
  assert set(comparison.differences) == {"A"} and comparison.cost == {"B": 1.0, "A": 2.0}
  assert comparison.summaries["A"][METRICS[0]].mean == pytest.approx(2 / 3)
  assert comparison.summaries["A"][METRICS[0]].std == pytest.approx(np.std([0.5, 0.6, 0.9], ddof=1))


def test_compare_leaves_out_runs_without_a_value(tmp_path):
  asm = group(tmp_path, "A", {0: ((None, 0.1), None), 1: ((0.6, 0.1), None)})
  base = group(tmp_path, "B", {0: ((0.4, 0.1), None), 1: ((0.5, 0.1), None)})
  comparison = compare([asm, base], METRICS, "B")
  assert comparison.summaries["A"][METRICS[0]].values == {1: 0.6}
  assert comparison.differences["A"][METRICS[0]].values == {1: pytest.approx(0.1)}
  assert np.isnan(comparison.differences["A"][METRICS[0]].interval).all()
  assert "minutes" not in comparison.to_markdown()


def test_markdown_has_means_spreads_differences_and_cost(tmp_path):
  base = group(tmp_path, "B", {0: ((0.40, 0.2), 60), 1: ((0.50, 0.3), 60)})
  asm = group(tmp_path, "A", {0: ((0.42, 0.1), 90), 1: ((0.54, 0.1), 90)})
  comparison = compare([base, asm], METRICS, "B")
  lines = [line.strip("| ").split(" | ") for line in comparison.to_markdown().splitlines()]
  assert lines[0] == ["runs", "mean IoU", "against B", "rel", "against B", "minutes"]
  # t of one degree of freedom is 12.706; the half width is 12.706 * 1.414 / 1.414 for the IoU.
  assert lines[2] == [
    "B",
    "**45.00** ± 7.07 (40.00, 50.00)",
    "",
    "**0.250** ± 0.071 (0.200, 0.300)",
    "",
    "1.0 (1.00x)",
  ]
  assert lines[3] == [
    "A",
    "**48.00** ± 8.49 (42.00, 54.00)",
    "+3.00 [-9.71, +15.71], 2 of 2",
    "**0.100** ± 0.000 (0.100, 0.100)",
    "-0.150 [-0.785, +0.485], 2 of 2",
    "1.5 (1.50x)",
  ]
  assert "cats val, 7 examples" in comparison.caption() and "95%" in comparison.caption()
  row = json.loads(json.dumps(comparison.to_dict()))["rows"][1]
  difference = row["metrics"][METRICS[0]]["difference"]
  assert difference["values"] == {"0": pytest.approx(0.02), "1": pytest.approx(0.04)}
  assert (difference["low"], difference["ahead"]) == (pytest.approx(-0.0971, abs=1e-4), 2)
  assert row["seconds"]["ratio"] == 1.5


def test_markdown_of_single_runs_has_no_deviations(tmp_path):
  runs = {"A": (0.5, 0.1), "B": (0.4, 2)}
  groups = [group(tmp_path, label, {0: (values, None)}) for label, values in runs.items()]
  comparison = compare(groups, METRICS, "B")
  assert "deviation" not in comparison.caption()
  lines = comparison.to_markdown().splitlines()
  assert lines[2:] == [
    "| A | 50.00 | +10.00, 1 of 1 | 0.100 | -1.90, 1 of 1 |",
    "| B | 40.00 |  | 2.00 |  |",
  ]


def test_metric_parse_reads_titles_scales_and_directions():
  metric = MetricColumn.parse("segmentation/mean_iou")
  assert (metric.title, metric.scale, metric.direction) == ("mean IoU", 100, 1)
  assert MetricColumn.parse("depth/rms").direction == -1
  metric = MetricColumn.parse(
    {"name": "a/b", "title": "B in mm", "scale": 1000, "direction": "lower"}
  )
  assert metric == MetricColumn("a/b", "B in mm", 1000, -1) and metric.format(0.0123) == "12.30"
  with pytest.raises(ValueError, match="direction 'up' of a/b; known: higher, lower, none"):
    MetricColumn.parse({"name": "a/b", "direction": "up"})
  with pytest.raises(ValueError, match="expected name and any of title"):
    MetricColumn.parse({"name": "a/b", "factor": 2})


def test_compare_refuses_equal_seeds_and_labels_and_an_unknown_baseline(tmp_path):
  one = group(tmp_path, "A", {0: ((0.5, 0.1), None)})
  write(tmp_path / "twin", 0, (0.5, 0.1))
  twins = Group("T", (*one.workdirs, tmp_path / "twin"))
  with pytest.raises(ValueError, match=r"runs of T have the seeds \[0, 0\]"):
    compare([one, twins], METRICS, "A")
  assert len(compare([one, twins], METRICS).summaries["T"][METRICS[0]].values) == 2
  with pytest.raises(ValueError, match="baseline 'C' is none of the groups: A"):
    compare([one], METRICS, "C")
  with pytest.raises(ValueError, match="labels A, A; expected different ones"):
    compare([one, one], METRICS)
