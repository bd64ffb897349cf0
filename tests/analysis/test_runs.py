"""Results and logs of finished runs."""

import json

import numpy as np
import pytest

from asmjax.analysis.runs import (
  Group,
  check_comparable,
  format_results,
  locate_results,
  make_file_name,
  select_main_metrics,
)


@pytest.fixture
def runs(tmp_path):
  """Two runs that were evaluated at steps 2 and 4, one of them at 3 too."""
  for name, curve in (("a_0", {2: 0.2, 3: 0.25, 4: 0.3}), ("a_1", {2: 0.4, 4: 0.5})):
    folder = tmp_path / name
    folder.mkdir()
    lines = [json.dumps({"step": step, "miou": value}) for step, value in curve.items()]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 5, "loss": 1.0}']) + "\n")
    results = {
      "step": 4,
      "data_set": "cats",
      "split": "val",
      "examples": 7,
      "metrics": {"miou": curve[4], "lost": None},
    }
    (folder / "results.json").write_text(json.dumps(results))
  return tmp_path


def test_group_final_and_curve_have_values_at_the_steps_that_all_runs_share(runs):
  group = Group.parse(f"A={runs / 'a_0'},{runs / 'a_1'}")
  np.testing.assert_allclose(group.read_final("miou"), [0.3, 0.5])
  assert np.all(np.isnan(group.read_final("lost")))
  steps, values = group.read_curve("miou")
  assert steps.tolist() == [2, 4]
  np.testing.assert_allclose(values, [[0.2, 0.3], [0.4, 0.5]])


def test_group_seeds_and_seconds_are_read_from_the_runs(runs):
  group = Group.parse(f"A={runs / 'a_0'},{runs / 'a_1'}")
  with pytest.raises(ValueError, match="a_0/config.json is missing"):
    group.read_seeds()
  for name, seed in (("a_0", 3), ("a_1", 5)):
    (runs / name / "config.json").write_text(json.dumps({"seed": seed, "eval": {"split": "val"}}))
  assert group.read_seeds() == (3, 5)
  (runs / "a_1" / "wall_time.jsonl").write_text(
    '{"step": 2, "seconds": 1.0}\n{"step": 4, "seconds": 2.5}\n'
  )
  np.testing.assert_array_equal(group.read_seconds(), [np.nan, 2.5])
  with pytest.raises(ValueError, match=r"runs of A have the seeds \[3, 3\]"):
    Group.parse(f"A={runs / 'a_0'},{runs / 'a_0'}").read_seeds()


def test_locate_results_is_of_the_split(runs):
  workdir = runs / "a_0"
  (workdir / "config.json").write_text(json.dumps({"seed": 0, "eval": {"split": "val"}}))
  assert locate_results(workdir) == locate_results(workdir, "val") == workdir / "results.json"
  assert locate_results(workdir, "val", "best").name == "results.best.json"
  assert locate_results(workdir, "test", "best").name == "results.test.best.json"
  path = locate_results(workdir, "train[80%:]")
  assert path.name == "results.train[80%:].json"
  results = json.loads((workdir / "results.json").read_text())
  path.write_text(json.dumps(results | {"metrics": {"miou": 0.7}}))
  assert Group("A", (workdir,), "train[80%:]").read_final("miou") == [0.7]


def test_make_file_name_replaces_special_characters():
  assert make_file_name("ASM w/o adv., λ=2") == "ASM_w_o_adv._λ_2"


def test_select_main_metrics_are_those_that_all_runs_have(runs):
  groups = [Group.parse(f"A={runs / 'a_0'}"), Group.parse(f"B={runs / 'a_1'}")]
  with pytest.raises(ValueError, match="no task is evaluated in all runs; .* lost, miou"):
    select_main_metrics(groups)
  for name, metrics in (
    ("a_0", ("normals/mean", "depth/rel", "depth/rms")),
    ("a_1", ("depth/rel", "normals/mean", "segmentation/mean_iou")),
  ):
    path = runs / name / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"metrics": dict.fromkeys(metrics, 0.5)}))
  assert select_main_metrics(groups) == ["depth/rel", "normals/mean"]


@pytest.mark.parametrize("change", [{"data_set": "dogs"}, {"split": "test"}, {"examples": 6}])
def test_check_comparable_refuses_different_examples(runs, change):
  path = runs / "a_1" / "results.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  groups = [Group.parse(f"A={runs / 'a_0'}"), Group.parse(f"B={runs / 'a_1'}")]
  with pytest.raises(ValueError, match=r"different examples, .*: .*a_0 on cats val, 7 .*a_1 on"):
    check_comparable(groups)


def test_group_names_wrong_texts_runs_and_metrics(runs):
  with pytest.raises(ValueError, match="LABEL=DIR"):
    Group.parse(str(runs / "a_0"))
  with pytest.raises(FileNotFoundError, match="results.json is missing"):
    Group.parse(f"A={runs / 'a_2'}")
  with pytest.raises(ValueError, match="unknown metric 'iou'; known: lost, miou"):
    Group.parse(f"A={runs / 'a_0'}").read_final("iou")


def test_check_comparable_refuses_different_views(runs):
  path = runs / "a_1" / "results.json"
  views = {"protocol": {"views": "scales 0.5, 1"}}
  path.write_text(json.dumps(json.loads(path.read_text()) | views))
  groups = [Group.parse(f"A={runs / 'a_0'}"), Group.parse(f"B={runs / 'a_1'}")]
  with pytest.raises(ValueError, match=r"a_0 on .*, each image once; .*a_1 on .*, scales 0\.5, 1"):
    check_comparable(groups)


@pytest.mark.parametrize(
  "terms, steps",
  [
    ({"structure": {"critic": {}}}, [0, 1, 1]),
    ({"affinity": {"adaptive": True}}, [0, 1, 1]),
    ({"pixel": {}}, [2, 3, 4]),
  ],
)
def test_group_curve_has_the_steps_of_the_predictor(runs, terms, steps):
  train = {"updates": "alternate(2, 1)", "critic_warmup_steps": 0}
  (runs / "a_0" / "config.json").write_text(json.dumps({"terms": terms, "train": train}))
  predictor_steps, values = Group.parse(f"A={runs / 'a_0'}").read_curve("miou")
  assert predictor_steps.tolist() == steps
  np.testing.assert_allclose(values, [[0.2, 0.25, 0.3]])


def test_format_results_has_a_line_for_each_mean_and_a_row_for_each_class():
  metrics = {
    "segmentation/mean_iou": 0.5,
    "segmentation/iou/wall": 0.25,
    "segmentation/iou/floor": None,
    "segmentation/bf/bf": 0.125,
    "segmentation/bf/precision/wall": 0.5,
    "segmentation/bf/precision/floor": 1.0,
    "segmentation/bf/f/wall": 0.75,
    "segmentation/bf/f/floor": 0.0,
  }
  text = format_results(
    {"data_set": "cats", "split": "val", "examples": 7, "step": 3, "metrics": metrics}
  )
  assert [line.split() for line in text.splitlines()] == [
    "cats val, 7 examples, step 3, each image once".split(),
    ["segmentation/mean_iou", "0.5000"],
    ["segmentation/bf/bf", "0.1250"],
    [],
    ["segmentation", "iou"],
    ["wall", "0.2500"],
    ["floor", "nan"],
    [],
    ["segmentation/bf", "precision", "f"],
    ["wall", "0.5000", "0.7500"],
    ["floor", "1.0000", "0.0000"],
  ]
