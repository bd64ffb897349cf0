"""What a sweep is read from, and when a run of it is finished."""

import json
import re

import pytest

from asmjax.analysis.comparison import MetricColumn
from asmjax.config.build import build_game
from asmjax.data.scenes import Scenes
from asmjax.sweep.plan import Row, Sweep, parse_pairs, read_sweep
from asmjax.terms.weight import Ramp
from tests.helpers.small_configs import ROOT

SECTION = {
  "runs": {
    "IID": "configs/scenes.py:iid",
    "LoAd": {"config": "configs/scenes.py:load", "start": "IID", "overrides": {"train.steps": 9}},
  },
  "overrides": {"train.steps": 7, "tasks.segmentation.extra_metrics": ("boundary",)},
  "seeds": (0, 3),
  "baseline": "IID",
  "metrics": ["segmentation/mean_iou"],
}


def finish(run, step=None, split="", **changes):
  """Writes what a run leaves that has come to its end."""
  run.workdir.mkdir(parents=True, exist_ok=True)
  (run.workdir / "config.json").write_text(json.dumps(run.config.to_dict()))
  name = f"results.{split}.json" if split else "results.json"
  results = {
    "step": run.config.train.steps if step is None else step,
    "data_set": "scenes",
    "split": split or "val",
    "examples": 8,
    "metrics": {},
    **changes,
  }
  (run.workdir / name).write_text(json.dumps(results))


def test_from_dict_creates_a_run_of_each_row_and_seed(tmp_path):
  runs = Sweep.from_dict(SECTION).runs(tmp_path)
  assert [run.name for run in runs] == ["IID seed 0", "LoAd seed 0", "IID seed 3", "LoAd seed 3"]
  assert [run.config.seed for run in runs] == [0, 0, 3, 3]
  assert [run.config.train.steps for run in runs] == [7, 9, 7, 9]  # A row's own come first.
  assert all(run.config.tasks.segmentation.extra_metrics == ("boundary",) for run in runs)
  last = runs[-1]
  assert (last.workdir, last.log) == (tmp_path / "LoAd" / "3", tmp_path / "LoAd" / "3.log")
  assert last.start == "IID seed 3" and last.config.init.path == str(tmp_path / "IID" / "3")
  assert last.config.init.format == "orbax" and runs[0].start == runs[0].config.init.path == ""


def test_runs_start_where_their_row_says_whatever_all_rows_begin_with(tmp_path):
  sweep = Sweep.from_dict(SECTION).override({"init.path": "weights.safetensors"})
  first, second = sweep.runs(tmp_path)[:2]
  assert first.config.init.path == "weights.safetensors"
  assert second.config.init.path == str(first.workdir)


def test_runs_have_arguments_that_give_their_configs(tmp_path):
  (run,) = Sweep(
    (
      Row(
        "A/b",
        "configs/scenes.py:asm",
        {
          "data.size": (32, 48),
          "data.cache": False,
          "train.dtype": "bfloat16",
          "optimizer.critic.learning_rate": 1e-4,
          "data.split": "train[:80%]",
          "data.classes": {"wall": 0, "floor": 1},
        },
      ),
    )
  ).runs(tmp_path)
  assert run.workdir == tmp_path / "A_b" / "0" and run.arguments[0].endswith("scenes.py:asm")
  assert "--config.data.size=(32, 48)" in run.arguments
  config = run.config
  assert (config.data.size, config.data.cache, config.train.dtype) == ((32, 48), False, "bfloat16")
  assert config.optimizer.critic.learning_rate == 1e-4 and config.data.split == "train[:80%]"
  assert config.data.classes.to_dict() == {"wall": 0, "floor": 1}


def test_runs_override_weights_by_schedules_and_numbers(tmp_path):
  schedules = {
    "terms.structure.weight": "linear(0.02, 1)",
    "terms.structure.critic_weight": "exponential(1, 0.1)",
  }
  rows = (
    Row("schedules", "configs/scenes.py:iid_asm_released", schedules),
    Row("numbers", "configs/scenes.py:iid_asm_released", {"terms.structure.critic_weight": 0.5}),
  )
  first, second = Sweep(rows).override({"terms.pixel.weight": "linear(1, 0)"}).runs(tmp_path)
  terms = build_game(first.config, Scenes.descriptor).terms
  assert terms["structure"].weight == Ramp(0.02, 1.0, "linear")
  assert terms["structure"].critic_weight == Ramp(1.0, 0.1)
  assert terms["pixel"].weight == Ramp(1.0, 0.0, "linear")
  assert "--config.terms.structure.weight=linear(0.02, 1)" in first.arguments
  assert second.config.terms.structure.critic_weight == 0.5


def test_only_keeps_rows_and_those_they_start_from():
  sweep = Sweep.from_dict(SECTION)
  assert [row.label for row in sweep.only(["LoAd"]).rows] == ["IID", "LoAd"]
  alone = Sweep.from_dict({**SECTION, "baseline": "LoAd"}).only(["IID"])
  assert [row.label for row in alone.rows] == ["IID"] and alone.baseline == ""
  with pytest.raises(ValueError, match="no row is called 'ASM'; known: IID, LoAd"):
    sweep.only(["ASM"])


def test_override_has_priority_over_rows(tmp_path):
  runs = Sweep.from_dict(SECTION).override({"train.steps": "5"}).runs(tmp_path)
  assert [run.config.train.steps for run in runs] == [5] * 4


def test_is_finished_at_the_last_step_of_the_same_config_alone(tmp_path):
  run, load, *_ = Sweep.from_dict(SECTION).runs(tmp_path)
  assert not run.is_finished()
  finish(run, step=6)
  assert not run.is_finished()
  finish(run)
  assert run.is_finished()
  run.config.train.log_every = 3  # Changes nothing that is computed.
  assert run.is_finished()
  run.config.train.batch_size = 16
  assert not run.is_finished()
  run.check()  # Without a checkpoint there is nothing to protect.
  (run.workdir / "checkpoints" / "7").mkdir(parents=True)
  with pytest.raises(ValueError, match="another config; .* Differing: train.batch_size: 8 -> 16$"):
    run.check()
  finish(load, step=3)  # How many steps LoAd takes is found out on the way.
  assert not load.is_finished()
  finish(load, step=3, lookahead={})
  assert load.is_finished()


def test_is_finished_where_the_split_is_scored_too(tmp_path):
  run, *_ = Sweep.from_dict({**SECTION, "split": "test"}).runs(tmp_path)
  finish(run)
  assert run.is_trained() and not run.is_finished()
  finish(run, step=6, split="test")
  assert not run.is_finished()
  finish(run, split="test")
  assert run.is_finished()


def test_read_sweep_calls_get_sweep_with_the_argument(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "def get_sweep(steps='2'):\n"
    "  return {'runs': {'A': 'configs/scenes.py:iid'},\n"
    "          'overrides': {'train.steps': int(steps)}}\n"
  )
  assert read_sweep(str(path)) == Sweep(
    (Row("A", "configs/scenes.py:iid"),), (0,), {"train.steps": 2}
  )
  assert read_sweep(f"{path}:5").overrides == {"train.steps": 5}
  assert Sweep.from_dict(SECTION).metrics == (MetricColumn.parse("segmentation/mean_iou"),)
  with pytest.raises(FileNotFoundError, match="none.py does not exist"):
    read_sweep("none.py")
  path.write_text("")
  with pytest.raises(ValueError, match="mine.py has no get_sweep"):
    read_sweep(str(path))


@pytest.mark.parametrize(
  "change, message",
  [
    ({"runs": {}}, "at least one row"),
    ({"seeds": ()}, "at least one row and one seed"),
    ({"seeds": (1, 1)}, "expected different ones"),
    (
      {"seed": 1},
      "unknown key sweep.seed; .*known: baseline, metrics, overrides, runs, seeds, split",
    ),
    ({"baseline": "AAF"}, "no row is called 'AAF'; known: IID, LoAd"),
    ({"runs": {"IID": {"config": "a", "overides": {}}}}, "unknown key sweep.runs.IID.overides"),
    ({"runs": {"IID": "a", "B b": "a", "B_b": "a"}}, "expected names of different folders"),
    ({"metrics": [{"title": "x"}]}, "expected name and any of"),
    (
      {"runs": {x: {"config": "a", "start": y} for x, y in ("AB", "BC", "CB")}, "baseline": "A"},
      "rows start from each other: (B from C from B|C from B from C)",
    ),
  ],
)
def test_from_dict_refuses_invalid_sweeps(change, message):
  with pytest.raises(ValueError, match=message):
    Sweep.from_dict({**SECTION, **change})


@pytest.mark.parametrize(
  "config, overrides, message",
  [
    ("configs/scene.py", {}, "A: config file configs/scene.py does not exist"),
    ("configs/scenes.py", {"train.step": 3}, "A: unknown key train.step; .*known: .*steps"),
    ("configs/scenes.py", {"seed": 1}, "A: seed is an override"),
  ],
)
def test_runs_refuse_wrong_configs_with_their_row(config, overrides, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    Sweep((Row("A", config, overrides),)).runs(tmp_path)


def test_parse_pairs_splits_at_the_first_sign():
  assert parse_pairs(["a=b=c", "d=1"], "set") == {"a": "b=c", "d": "1"}
  for texts in (["a"], ["=b"], ["a="], ["a=1", "a=2"]):
    with pytest.raises(ValueError, match="--run=.*expected NAME=VALUE"):
      parse_pairs(texts, "run")


SWEEPS = [
  *sorted(path.stem for path in (ROOT / "configs" / "sweeps").glob("*.py")),
  "lookahead:horse",
  "lookahead:voc_animals",
  "scenes_geometry:normals",
]


@pytest.mark.parametrize("path", SWEEPS)
def test_read_sweep_reads_shipped_sweeps(path, tmp_path):
  runs = read_sweep(path).runs(tmp_path)
  assert len(runs) >= 9 and len({run.workdir for run in runs}) == len(runs)


@pytest.mark.parametrize("path", ["lookahead:kitchen", "scenes_geometry:kitchen"])
def test_read_sweep_lists_the_arguments_of_shipped_sweeps(path):
  with pytest.raises(ValueError, match="unknown argument 'kitchen'; known: "):
    read_sweep(path)


def test_from_dict_takes_the_example_of_the_docs(tmp_path):
  (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S)
  scope = {}
  exec(compile(example, "sweeps.md", "exec"), scope)
  assert len(Sweep.from_dict(scope["get_sweep"]()).runs(tmp_path)) == 9
