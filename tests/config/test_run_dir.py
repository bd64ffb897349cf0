import json
import pathlib

import jax
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.config.data_facts import write_facts
from asmjax.config.run_dir import find_checkpoint, read_config, read_descriptor, read_state, reopen
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
