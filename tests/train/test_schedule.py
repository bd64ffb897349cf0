"""Schedules within complete runs: steps in one call, resuming, an early end."""

import functools

import jax
import numpy as np
import pytest

from asmjax.config.build import build_experiment, build_schedule
from asmjax.train.loop import open_checkpoints, train
from asmjax.train.schedule import FixedSteps, restore_state
from tests.helpers import small_configs as small


class Counting(FixedSteps):
  """Notes how many steps each call takes."""

  def __init__(self, experiment, on_skip, counts):
    super().__init__(experiment, on_skip)
    self._counts = counts

  def after_steps(self, state, count):
    self._counts.append(count)
    return super().after_steps(state, count)


def test_train_takes_steps_together_where_nothing_is_due_between_them(tmp_path, compiled_once):
  runs = {}
  for name, at_once in (("single", 1), ("joined", 2)):
    changes = {"train.steps_per_call": at_once, "train.updates": "alternate(1, 2)"}
    run, counts = build_experiment(small.config(**changes)), []
    train(run, tmp_path / name, lambda run, _, on_skip, to=counts: Counting(run, on_skip, to))
    with open_checkpoints(run, tmp_path / name) as checkpoints:
      state = restore_state(run, checkpoints, checkpoints.latest_step())
    runs[name] = small.logged(tmp_path / name), jax.device_get(state)
  # Of all players' 18 steps, the predictor's are 1 and 2, 4 and 5, and so on. Logs are due after 5,
  # 10 and 15, checkpoints after 4, 8, 12 and 16, evaluations after 9 and 18.
  assert counts == [1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 2, 1, 2]
  for single, joined in zip(runs["single"][0], runs["joined"][0], strict=True):
    assert joined == pytest.approx(single, rel=1e-4, nan_ok=True)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, runs["joined"][1], runs["single"][1])


class Killed(Exception):
  """Ends a run between two steps."""


class Mortal(FixedSteps):
  """Ends after some steps of all players."""

  def __init__(self, *arguments, after):
    super().__init__(*arguments)
    self._life = after

  def after_steps(self, state, count):
    if self.done == self._life:
      raise Killed
    return super().after_steps(state, count)


def test_train_resumes_with_all_options_together(tmp_path, compiled_once):
  """The predictor takes 6 steps, and is evaluated after 3 and 6, whatever the critic does."""
  run = build_experiment(
    small.config(
      "iid_asm",
      **{
        "train.updates": "alternate(1, 2)",
        "train.critic_warmup_steps": 1,
        "train.batch_size": 16,
        "train.grad_accum_steps": 2,
        "train.dtype": "bfloat16",
        "train.steps": 6,
        "train.log_every": 1,
        "predictor.levels": 1,
        "predictor.norm.kind": "sync_batch",
        "optimizer.predictor.ema_decay": 0.9,
        "optimizer.predictor.warmup_steps": 2,
        "optimizer.critic.warmup_steps": 2,
        "optimizer.predictor.lr_multipliers": {"^head": 10.0},
        "eval.every": 3,
        "checkpoint.every": 4,
        "data.scale": (0.5, 2.0),
        "data.random_crop": True,
      },
    )
  )
  results = train(run, tmp_path / "complete")
  lines = small.logged(tmp_path / "complete")
  moved = [
    [name.removeprefix("gradient_norm/") for name in line if name.startswith("gradient_norm/")]
    for line in lines
  ]
  assert moved == [["structure"], *[["structure"], ["predictor"], ["predictor"]] * 3]
  evaluated = [line["step"] for line in lines if "segmentation/mean_iou" in line]
  assert evaluated == [6, 10] and results["step"] == 6
  assert all(np.isfinite(line["structure/conv1"]) for line in lines)
  for step in (5, 9):  # They go on from 4, after the predictor's turn, and 8, after the critic's.
    mortal = lambda run, _, on_skip, at=step: Mortal(run, on_skip, after=at)
    with pytest.raises(Killed):
      train(run, tmp_path / "killed", mortal)
  assert train(run, tmp_path / "killed") == results
  assert small.logged(tmp_path / "killed") == lines
  states = []
  for name in ("complete", "killed"):
    with open_checkpoints(run, tmp_path / name) as checkpoints:
      states.append(jax.device_get(restore_state(run, checkpoints, 10)))
  jax.tree.map(np.testing.assert_array_equal, *states)
  player = states[0].players["predictor"]
  assert {leaf.dtype for leaf in jax.tree.leaves(player.params)} == {np.dtype("float32")}
  averaged = states[0].variables()["params"]["head_segmentation"]["kernel"]
  assert not np.array_equal(averaged, player.params["head_segmentation"]["kernel"])


def test_train_ends_early_without_a_better_metric_and_resumes_its_patience(tmp_path, compiled_once):
  """A predictor that stands still is best at its first evaluation."""
  changes = {"optimizer.predictor.learning_rate": 0.0, "eval.every": 2, "eval.patience": 2}
  changes |= {"predictor.levels": 1, "predictor.norm.frozen": True}
  run = build_experiment(small.config("iid", **changes))
  mortal = lambda run, _, on_skip: Mortal(run, on_skip, after=5)
  with pytest.raises(Killed):
    train(run, tmp_path, mortal)
  results = train(run, tmp_path)
  best = results["metrics"]["segmentation/mean_iou"]
  assert results["step"] == 6 < run.training.steps
  assert results["early_stop"] == {"best": best, "evals_without_gain": 2}
  lines = [line["step"] for line in small.logged(tmp_path) if "segmentation/mean_iou" in line]
  assert lines == [2, 4, 6]
  again = train(run, tmp_path)  # There is nothing left to train.
  assert (again["step"], again["early_stop"]) == (6, results["early_stop"])


def test_fixed_steps_count_evaluations_since_the_last_better_metric():
  """NaN, of a metric without truth, is never better, and anything is better than NaN."""
  run = build_experiment(small.config("iid", **{"eval.every": 2, "eval.patience": 3}))
  schedule, counts = FixedSteps(run, print), []
  for value in (np.nan, 0.3, 0.2, 0.4, np.nan, 0.4, 0.1):
    assert not schedule.finished
    schedule.after_evaluation({"segmentation/mean_iou": value})
    counts.append(schedule.extra_state().fields)
  assert [each["evals_without_gain"] for each in counts] == [1, 0, 1, 0, 1, 2, 3]
  assert [each["best"] for each in counts] == [None, 0.3, 0.3, 0.4, 0.4, 0.4, 0.4]
  assert schedule.finished


def test_train_of_no_steps_has_its_patience_in_the_checkpoint(tmp_path):
  changes = {"train.steps": 0, "eval.every": 2, "eval.patience": 2, "predictor.levels": 1}
  run = build_experiment(small.config("iid", **changes))
  assert train(run, tmp_path)["metrics"] == train(run, tmp_path)["metrics"]


def test_evaluation_refuses_patience_without_evaluations():
  with pytest.raises(ValueError, match="eval.patience=2 counts evaluations, and eval.every=0"):
    build_experiment(small.config(**{"eval.patience": 2, "eval.every": 0}))
  with pytest.raises(ValueError, match="lookahead ends by rules of its own"):
    config = small.config("load", **small.AHEAD, **{"eval.patience": 2})
    config.eval.every = 2
    build_schedule(config, build_experiment(config))
