"""Numbers that are not finite, injected through the truth, the learning rate and checkpoints."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.config.run_dir import read_state
from asmjax.inference.trained import TrainedPredictor
from asmjax.train.experiment import Checkpointing
from asmjax.train.loop import open_checkpoints, train
from asmjax.train.nonfinite import POLICIES
from asmjax.train.replay import read_step, replay_step
from asmjax.train.schedule import restore_state
from asmjax.utils.files import write_json
from tests.helpers import small_configs as small

STEPS = 7
RARE = Checkpointing(metric="depth/delta_1.25")


def config(**changes):
  return small.config(
    "iid,depth",
    **{
      "predictor.levels": 1,
      "train.steps": STEPS,
      "train.log_every": 3,
      "eval.every": 0,
      "checkpoint.every": 0,
      "checkpoint.metric": "depth/delta_1.25",
    }
    | changes,
  )


class VeryFar:
  """Source in which one example is so far away that the square of it is infinite."""

  def __init__(self, source, index):
    self.descriptor, self.split, self._source, self._index = (
      source.descriptor,
      source.split,
      source,
      index,
    )

  def __len__(self):
    return len(self._source)

  def __getitem__(self, index):
    example = self._source[index]
    far = {"depth": np.full_like(example["depth"], 1e30)} if index == self._index else {}
    return {**example, **far}

  def files(self, index):
    return self._source.files(index)


def steps_with(run, index):
  """The steps whose batches hold an example."""
  sampler, size = run.sampler(), run.training.batch_size
  at = [n // size for n in range(STEPS * size) if sampler.locate(n)[1] == index]
  return sorted(set(at))


def state_at(run, workdir, step):
  with open_checkpoints(run, workdir) as checkpoints:
    return jax.device_get(restore_state(run, checkpoints, step))


def assert_same(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(actual), jax.device_get(expected))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, compiled_once):
  """A run without faults, whose checkpoints are all kept."""
  workdir = tmp_path_factory.mktemp("healthy")
  settings = config(**{"checkpoint.every": 1, "checkpoint.keep": 99})
  run = build_experiment(settings)
  write_json(workdir / "config.json", settings.to_dict())
  train(run, workdir)
  return run, workdir


def test_train_stops_at_the_step_that_is_not_finite(healthy, tmp_path, injections):
  """What it leaves is the state before that very step, its batch, and the names of both."""
  run, workdir = healthy
  rng = np.random.default_rng()
  for injection in range(injections(1)):
    index, folder = int(rng.integers(len(run.source))), tmp_path / str(injection)
    far = dataclasses.replace(run, source=VeryFar(run.source, index), checkpointing=RARE)
    step = steps_with(run, index)[0]
    with pytest.raises(FloatingPointError, match=rf"step {step} is not finite .*pixel/depth inf"):
      train(far, folder)
    assert not any(path.name.isdigit() for path in (folder / "checkpoints").iterdir())
    assert not (folder / "results.json").exists()
    stored = read_step(folder, far)
    assert stored.step == step and f"train[{index}]" in stored.examples
    if step:
      assert_same(stored.state, state_at(run, workdir, step))
    assert_same(stored.batch, next(far.train_batches(step)))
    finite = [line["loss"] for line in small.logged(workdir)][: step - step % 3]
    means = [line["loss"] for line in small.logged(folder)]
    np.testing.assert_allclose(means, np.mean(np.reshape(finite, (-1, 3)), -1), rtol=1e-5)


def test_replay_step_names_what_is_not_finite(healthy, tmp_path):
  run, _ = healthy
  far = dataclasses.replace(run, source=VeryFar(run.source, 0), checkpointing=RARE)
  with pytest.raises(FloatingPointError):
    train(far, tmp_path)
  stored = read_step(tmp_path, far)
  replayed = replay_step(far, stored)
  assert replayed.modules == []  # The truth is at fault, and no module sees it.
  # Squares overflow, in the norm and in Adam's second moment; the gradient itself is finite.
  assert replayed.gradients == [] and "gradient_norm/predictor inf" in stored.nonfinite
  assert replayed.updated and all("/nu/" in name for name in replayed.updated)
  faults = {name for name, value in replayed.metrics.items() if not np.isfinite(value)}
  assert faults == {name.split()[0] for name in stored.nonfinite if "update" not in name}
  # With the weights at fault, it is the first module that has them.
  params = stored.state.players["predictor"].params
  broken = {**params, "down1_1": jax.tree.map(lambda x: x * np.nan, params["down1_1"])}
  player = dataclasses.replace(stored.state.players["predictor"], params=broken)
  state = dataclasses.replace(stored.state, players={"predictor": player})
  replayed = replay_step(far, stored._replace(state=state))
  assert replayed.modules[0] == "UNet/down1_1"
  assert any(name.startswith("predictor/head_depth/kernel") for name in replayed.gradients)


def test_train_skips_steps_that_are_not_finite(healthy, tmp_path):
  run, workdir = healthy
  (step, *others) = steps_with(run, 5)
  far = dataclasses.replace(
    run,
    source=VeryFar(run.source, 5),
    training=dataclasses.replace(run.training, on_nonfinite="skip"),
  )
  assert train(far, tmp_path)["step"] == STEPS
  lines = small.logged(tmp_path)
  assert [line["step"] for line in lines if line["nonfinite_steps"]] == [
    done + 1 for done in (step, *others)
  ]
  assert all(np.isfinite(value) for line in lines for value in line.values() if value is not None)
  texts = [json.loads(line) for line in (tmp_path / "warnings.jsonl").read_text().splitlines()]
  assert [text["step"] for text in texts] == [done + 1 for done in (step, *others)]
  assert all(
    "pixel/depth inf" in text["warning"] and "train[5]" in text["warning"] for text in texts
  )
  before, after = state_at(run, workdir, step) if step else None, state_at(far, tmp_path, step + 1)
  assert after.step == step + 1
  if before:
    assert_same(after.players, before.players)
  last, expected = state_at(far, tmp_path, STEPS), state_at(run, workdir, STEPS)
  assert not np.array_equal(
    last.players["predictor"].params["head_depth"]["kernel"],
    expected.players["predictor"].params["head_depth"]["kernel"],
  )


def test_train_stops_where_all_steps_are_not_finite(healthy, tmp_path, monkeypatch):
  run, _ = healthy
  monkeypatch.setitem(POLICIES, "skip", 2)
  optimizers = {
    name: dataclasses.replace(optimizer, learning_rate=1e38, lr_multipliers={"": 100.0})
    for name, optimizer in run.optimizers.items()
  }
  training = dataclasses.replace(run.training, on_nonfinite="skip")
  rapid = dataclasses.replace(run, optimizers=optimizers, training=training, checkpointing=RARE)
  with pytest.raises(FloatingPointError, match="step 1 is not finite .predictor after the update"):
    train(rapid, tmp_path)
  assert read_step(tmp_path, rapid).state.step == 1  # The first was skipped.


def test_commands_refuse_networks_that_are_not_finite(healthy, tmp_path):
  run, workdir = healthy
  with open_checkpoints(run, workdir) as checkpoints:
    state = jax.device_get(checkpoints.restore(run.random_state(), STEPS))
  kernel = state.players["predictor"].params["head_depth"]["kernel"]
  kernel[..., 0] = np.nan
  write_json(tmp_path / "config.json", config().to_dict())
  with open_checkpoints(run, tmp_path) as checkpoints:
    checkpoints.save(state)
  message = rf"checkpoints/{STEPS} is not finite: .*params/head_depth/kernel \(4 of 4\)$"
  with pytest.raises(ValueError, match=message):
    read_state(run, tmp_path)
  with pytest.raises(ValueError, match=message):
    TrainedPredictor.open(tmp_path, "last")
  with pytest.raises(ValueError, match=message):
    train(run, tmp_path)
  init = dataclasses.replace(run.init, path=str(tmp_path), format="orbax")
  with pytest.raises(ValueError, match=r"head_depth/kernel \(4 of 4\)"):
    train(dataclasses.replace(run, init=init), tmp_path / "next")
