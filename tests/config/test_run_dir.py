import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.config.data_facts import DATA_SET, write_facts
from asmjax.config.run_dir import (
  check_same_config,
  config_differences,
  find_checkpoint,
  read_config,
  read_descriptor,
  read_state,
  reopen,
)
from asmjax.game import PREDICTOR
from asmjax.pretrained import read
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small

METRIC = "segmentation/mean_iou"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Of a run whose first checkpoint is its best."""
  folder = tmp_path_factory.mktemp("run")
  config = small.config("iid")
  run = build_experiment(config)
  state = run.random_state()
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  with open_checkpoints(run, folder) as checkpoints:
    for step, score in ((1, 0.7), (2, 0.4)):
      moved = jax.tree.map(lambda x, step=step: np.full_like(x, step), state.variables())
      player = state.players[PREDICTOR].replace(params=moved["params"])
      checkpoints.save(
        state.replace(players={**state.players, PREDICTOR: player}), {METRIC: score}, step=step
      )
  return folder


@pytest.mark.parametrize(("which", "step"), [("last", 2), ("best", 1)])
def test_read_state_distinguishes_the_last_and_the_best(workdir, which, step):
  run = reopen(workdir)
  for leaf in jax.tree.leaves(read_state(run, workdir, which).variables()["params"]):
    np.testing.assert_array_equal(leaf, step)
  folder = find_checkpoint(workdir, which)
  assert folder == workdir.absolute() / "checkpoints" / str(step)
  weights = read(folder, "orbax")
  assert all((array == step).all() for name, array in weights.items() if "params/" in name)


def test_reopen_takes_another_split(workdir):
  assert reopen(workdir).validation.split == "val"
  assert reopen(workdir, split="train").validation.split == "train"


def test_read_state_leaves_files_that_a_run_is_writing(workdir):
  half = workdir / "checkpoints" / "3.orbax-checkpoint-tmp"
  half.mkdir()
  read_state(reopen(workdir), workdir)
  assert half.is_dir()
  half.rmdir()


def test_read_descriptor_needs_no_data_set(workdir, tmp_path):
  descriptor = reopen(workdir).descriptor
  assert read_descriptor(workdir).classes == descriptor.classes  # The scenes know themselves.
  write_facts(tmp_path, reopen(workdir))
  assert read_descriptor(tmp_path) == descriptor


def test_read_config_takes_another_data_root(workdir):
  assert read_config(workdir, "elsewhere")["data"]["root"] == "elsewhere"
  assert (
    read_config(workdir)["data"]["root"]
    == json.loads(pathlib.Path(workdir, "config.json").read_text())["data"]["root"]
  )


def test_read_config_names_a_missing_run(workdir, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"config\.json does not exist; expected the workdir"):
    read_config(tmp_path)
  with pytest.raises(FileNotFoundError, match="no last checkpoint in"):
    read_state(reopen(workdir), tmp_path)
  with pytest.raises(ValueError, match="unknown checkpoint 'first'; known: best, last"):
    read_state(reopen(workdir), workdir, "first")


@pytest.mark.parametrize(
  "content, message",
  [
    ("[1]", r"config\.json holds list \[1\]; expected an object"),
    ("3", r"config\.json holds int 3; expected an object"),
    ("{}", r"config\.json holds nothing under 'data'; expected a section"),
    ('{"data": 5}', r"config\.json holds 5 under 'data'; expected a section"),
    ('{"data": {', r"config\.json, line 1, is no JSON"),
  ],
)
def test_read_config_refuses_what_is_no_config(content, message, tmp_path):
  (tmp_path / "config.json").write_text(content)
  with pytest.raises(ValueError, match=message) as raised:
    read_config(tmp_path)
  assert "\n" not in str(raised.value)


def test_check_same_config_refuses_checkpoints_without_a_config(workdir, tmp_path):
  shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
  with pytest.raises(
    ValueError, match=r"holds checkpoints but no config\.json; expected the folder"
  ):
    check_same_config(tmp_path, read_config(workdir))
  assert not (tmp_path / "config.json").exists()


def test_check_same_config_gives_advice_and_names_five_differences(workdir):
  config = read_config(workdir)
  assert check_same_config(workdir, config) is None
  config["train"] |= {"steps": config["train"]["steps"] + 1, "log_every": 7}
  config["terms"]["structure"] = {"weight": 1.0, "layers": ["conv1"]}
  config["seed"] += 1
  config["data"]["flip"] = not config["data"]["flip"]
  with pytest.raises(ValueError, match="with another config; give the same settings") as raised:
    check_same_config(workdir, config)
  text = str(raised.value)
  assert text.endswith("; terms.structure: None -> a section; train.steps: 12 -> 13")
  config["optimizer"]["critic"] |= {"name": "sgd", "weight_decay": 0.5, "clip_norm": 9.0}
  with pytest.raises(ValueError, match=r"; and 2 more$") as raised:
    check_same_config(workdir, config)
  assert str(raised.value).count(" -> ") == 5


def test_config_differences_take_settings_that_earlier_versions_lack_for_off():
  now = {"terms": {"a": {"new": 0.0, "more": (), "scale": 1.0}}, "eval": {}}
  before = {"terms": {"a": {}}, "eval": {}}
  assert config_differences(before, now) == ["terms.a.scale: None -> 1.0"]
  assert config_differences(now, before) == [
    "terms.a.more: () -> None",
    "terms.a.new: 0.0 -> None",
    "terms.a.scale: 1.0 -> None",
  ]


@pytest.mark.parametrize(
  "patience, lookahead, differing",
  [
    (0, {}, []),
    (0, {"lookahead": {}}, ["checkpoint.metric"]),
    (2, {}, ["checkpoint.metric", "eval.every"]),
  ],
)
def test_config_differences_are_those_of_settings_that_evaluations_decide_by(
  patience, lookahead, differing
):
  configs = [
    {
      "eval": {"every": every, "batch_size": every, "patience": patience},
      "checkpoint": {"every": every, "keep": every, "metric": metric},
      **lookahead,
    }
    for every, metric in ((2, "depth/rms"), (3, "depth/rel"))
  ]
  assert [text.partition(":")[0] for text in config_differences(*configs)] == differing


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": 3}', '{"sources": 1}'])
def test_read_descriptor_names_a_file_that_describes_no_data(content, workdir, tmp_path):
  (tmp_path / DATA_SET).write_text(content)
  with pytest.raises(ValueError, match=DATA_SET):
    read_descriptor(tmp_path)


def test_find_checkpoint_takes_the_last_of_a_run_that_was_never_evaluated(workdir, tmp_path):
  run = reopen(workdir)
  with open_checkpoints(run, tmp_path) as checkpoints:
    checkpoints.save(run.random_state(), step=3)
  (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
  assert find_checkpoint(tmp_path, "best").name == "3"


def test_reopen_gives_extra_metrics_to_the_tasks_that_have_them(workdir):
  assert reopen(workdir, extra_metrics=["bf"]).game.tasks["segmentation"].extra_metrics == ("bf",)
  with pytest.raises(ValueError, match="unknown extra metric 'edges'; known: .*boundary"):
    reopen(workdir, extra_metrics=["edges"])
