"""Predictors of runs, opened without anything that they were trained with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from asmjax.config.data_facts import DATA_SET
from asmjax.data.descriptor import Descriptor
from asmjax.game import PREDICTOR
from asmjax.inference.trained import TrainedPredictor
from asmjax.utils.files import write_json
from tests.helpers import inference_runs
from tests.helpers import small_configs as small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return folder, *inference_runs.run(
    folder,
    "iid,all",
    **{
      "data.eval_size": (24, 32),
      "data.eval_resize": "letterbox",
      "data.scale_depth": False,
      "optimizer.predictor.ema_decay": 0.9,
    },
  )


@pytest.mark.parametrize(("which", "index"), [("best", 0), ("last", 1)])
def test_trained_predictor_has_the_predictor_of_a_checkpoint_alone(run, which, index):
  folder, experiment, states = run
  trained = TrainedPredictor.open(folder, which)
  jax.tree.map(np.testing.assert_array_equal, trained.variables, states[index].variables())
  # Of the parameters the moving average.
  kernel = states[index].players[PREDICTOR].params["head_depth"]["kernel"]
  assert (trained.variables["params"]["head_depth"]["kernel"] != kernel).any()
  assert (
    trained.game.predictor == experiment.game.predictor
    and trained.game.tasks == experiment.game.tasks
  )
  assert not trained.game.terms and experiment.game.terms
  assert dataclasses.replace(trained.prepare, keep_size=True) == experiment.prepare
  assert not trained.scale_depth
  assert trained.descriptor.classes == experiment.descriptor.classes


def test_trained_predictor_needs_no_data_set(run, tmp_path):
  folder, _, states = run
  (tmp_path / "checkpoints").symlink_to(folder / "checkpoints")
  config = json.loads((folder / "config.json").read_text())
  config["data"] |= {"source": "folder", "root": "/nowhere", "options": {}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  names = TrainedPredictor.open(folder).descriptor.classes
  metadata = Descriptor(
    "gone",
    names[::-1],
    ((1, 2, 3),) * len(names),
    ("train",),
    frozenset({"label", "depth", "normals"}),
  )
  write_json(tmp_path / DATA_SET, metadata.to_dict())
  trained = TrainedPredictor.open(tmp_path)
  assert (
    trained.descriptor == metadata and trained.game.tasks["segmentation"].classes == names[::-1]
  )
  jax.tree.map(np.testing.assert_array_equal, trained.variables, states[0].variables())


def test_trained_predictor_names_arrays_that_do_not_fit(run, tmp_path):
  folder, _, _ = run
  (tmp_path / "checkpoints").symlink_to(folder / "checkpoints")
  config = json.loads((folder / "config.json").read_text())
  config["predictor"]["width"] = small.SMALL["predictor.width"] + 1
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match=r"of another shape(.|\n)*params/down1_1/kernel: found"):
    TrainedPredictor.open(tmp_path)
  config["predictor"]["width"] -= 1
  config["predictor"]["levels"] += 1
  del config["tasks"]["normals"]
  (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError) as error:
    TrainedPredictor.open(tmp_path)
  assert "missing" in str(error.value) and "params/down3_1/kernel" in str(error.value)
  assert "unused" in str(error.value) and "params/head_normals/bias" in str(error.value)


def test_trained_predictor_names_missing_files(run, tmp_path):
  with pytest.raises(FileNotFoundError, match="expected the workdir of a run"):
    TrainedPredictor.open(tmp_path)
  with pytest.raises(ValueError, match="unknown checkpoint 'first'"):
    TrainedPredictor.open(run[0], "first")
