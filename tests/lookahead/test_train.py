"""Complete runs of LoAd: stepped back, killed, resumed."""

import shutil

import jax
import numpy as np
import pytest

from asmjax.analysis.lookahead import History
from asmjax.config.build import build_experiment, build_schedule
from asmjax.lookahead.train import LookaheadSchedule
from asmjax.train.loop import train
from asmjax.utils.checkpoint_folder import read_arrays
from tests.helpers import damage, lookahead_runs
from tests.helpers import small_configs as small

POLY = {"optimizer.predictor.schedule": "poly"}
# What may stand on a command line.
AHEAD = {key: value for key, value in small.AHEAD.items() if "adversarial" not in key}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run on eight devices, two steps a call, whose steps back were all compared with copies."""
  workdir = tmp_path_factory.mktemp("lookahead_runs")
  return workdir, *lookahead_runs.run(workdir, **POLY, **{"train.steps_per_call": 2})


def test_schedule_steps_the_predictor_back_to_the_best_and_no_critic(finished):
  _, schedule, _ = finished
  assert jax.device_count() == 8
  assert (
    schedule.num_step_backs == schedule.progress.num_cycles >= 3
    and schedule.num_returns == schedule.progress.num_retrainings >= 3
  )


def test_schedule_takes_any_game_with_a_critic_and_one_device():
  code, output = small.launch("../tests/helpers/lookahead_runs.py", devices=1)
  assert code == 0 and "1 device: " in output, output


def test_schedule_ends_with_the_best_model(finished):
  workdir, schedule, results = finished
  lines = small.logged(workdir)
  best = max(line["lookahead/miou"] for line in lines if "lookahead/miou" in line)
  assert results["lookahead"]["decision"]["end"] == best == schedule.progress.cycle.best
  assert results["examples"] == 24
  assert [results["lookahead"][part]["examples"] for part in ("decision", "rest")] == [7, 17]
  history = History.read(workdir)
  assert history.best.miou == best and len(history.cycles) == schedule.progress.num_cycles


def test_schedule_logs_the_predictors_epochs_and_rate(finished):
  """Critics have steps of their own; a step back takes the rate back, but no minibatch."""
  workdir, schedule, _ = finished
  run = schedule._experiment
  lines = [line for line in small.logged(workdir) if "epoch" in line]
  epochs = [line["epoch"] for line in lines]
  assert epochs == sorted(epochs)
  assert epochs[-1] == schedule.progress.predictor_steps * run.training.batch_size / len(run.source)
  backs = [line for line in lines if "lookahead/back_to" in line]
  assert len(backs) == schedule.progress.num_cycles
  for line in backs:
    last = max(line["lookahead/back_to"] - 1, 0)
    expected = run.optimizers["predictor"].learning_rate_at(last, run.training.steps)
    assert line["learning_rate/predictor"] == pytest.approx(float(expected))


def test_schedule_of_no_steps_evaluates_the_start(tmp_path):
  run = build_experiment(small.config("load", **small.AHEAD | {"train.steps": 0}))
  make_schedule = build_schedule(small.config("load", **small.AHEAD), run)
  results = train(run, tmp_path, make_schedule)
  (line,) = small.logged(tmp_path)
  assert line["lookahead/miou"] == results["lookahead"]["decision"]["start"]
  assert train(run, tmp_path, make_schedule)["metrics"] == results["metrics"]
  summary = results["lookahead"]
  assert results["step"] == summary["cycles"] == summary["critic_steps"] == 0
  assert summary["decision"]["start"] == summary["decision"]["end"]


def test_schedule_keeps_maps_and_previews_of_the_buffers_models(finished):
  workdir, schedule, _ = finished
  kept = {int(folder.name) for folder in (workdir / "maps").iterdir()}
  assert {each.model for each in schedule.progress.sets[:-1]} <= kept and len(kept) <= 5
  with np.load(workdir / "previews" / "0.npz") as album:
    assert len(album["segmentation/prediction"]) == 4


def test_schedule_goes_on_from_an_older_checkpoint_to_the_very_same_end(finished, tmp_path, capsys):
  """The maps of the buffer that it had then are still there."""
  workdir, schedule, results = finished
  copy = tmp_path / "run"
  shutil.copytree(workdir, copy)
  steps = sorted(int(path.name) for path in (copy / "checkpoints").iterdir())
  damage.empty_folder(copy / "checkpoints" / str(steps[-1]) / "manifest", None)
  # One that checks cannot go on: it has no copy of the best model.
  again, results_again = lookahead_runs.run(copy, schedule=LookaheadSchedule, **POLY)
  assert f"checkpoints/{steps[-1]}/manifest" in capsys.readouterr().err
  assert results_again == results and small.logged(copy) == small.logged(workdir)
  ends = [
    read_arrays(folder / "checkpoints" / str(steps[-1]), "state") for folder in (workdir, copy)
  ]
  jax.tree.map(np.testing.assert_array_equal, *ends)
  assert again.progress == schedule.progress


def test_schedule_ends_a_critics_training_with_its_patience(finished):
  workdir, schedule, _ = finished
  losses, rounds = [], []
  for line in small.logged(workdir):
    if "lookahead/miou" in line and "lookahead/critic_loss" in line:
      losses = [line["lookahead/critic_loss"]]
      rounds.append(losses)
    elif "lookahead/critic_loss" in line:
      losses.append(line["lookahead/critic_loss"])
  assert len(rounds) >= 3
  # Of 24 maps a set half are replayed, at most: two to four steps of 8, evaluated every other one.
  most = [-(-limit // 2) for limit in schedule.limits]
  assert set(schedule.limits) <= {2, 3, 4} and len(set(schedule.limits)) > 1
  for losses, limit in zip(rounds, most, strict=True):
    assert len(losses) == 1 + limit or (len(losses) <= limit and not losses[-1] < min(losses[:-1]))
    assert len(losses) > 1 and losses[1:-1] == sorted(losses[1:-1], reverse=True)


def test_train_indices_are_of_drawn_images_and_of_some_of_them(tmp_path):
  def indices(*models, **changes):
    config = small.config("load", **{f"lookahead.{key}": value for key, value in changes.items()})
    run = build_experiment(config)
    schedule = build_schedule(config, run)(run, tmp_path, print)
    return run, [list(schedule._buffer.train_indices(model)) for model in models]

  run, (of_start, of_second, of_third) = indices(0, 2, 3, only_seen=True)
  assert of_start == of_third == list(range(len(run.source)))
  drawn = {index for _, index in (run.sampler().locate(position) for position in range(16))}
  assert of_second == sorted(drawn) and len(drawn) == 16

  _, some = indices(0, 2, 3, 3, maps_per_model=5)
  assert [len(each) for each in some] == [5] * 4 and all(each == sorted(set(each)) for each in some)
  assert some[0] != some[1] != some[2] == some[3]
  _, (first, second) = indices(0, 2, only_seen=True, maps_per_model=15)
  assert len(first) == len(second) == 15 and set(second) < drawn
  assert indices(2, maps_per_model=10**6)[1] == [of_start]


@pytest.mark.parametrize(
  "variant, changes, message",
  [
    ("load", {"train.updates": "alternate"}, "an order of its own"),
    ("load", {"train.critic_warmup_steps": 3}, "an order of its own"),
    ("load", {"optimizer.critic.schedule": "poly"}, "'adversarial' has the schedule 'poly'"),
    ("load", {"lookahead.buffer_size": 1}, "lookahead: a buffer of 1 sets"),
    ("load", {"lookahead.rules.max_drop": 0.0}, r"lookahead\.rules\.max_drop=0\.0"),
    ("load", {"lookahead.steps_per_propagation": 0}, "steps_per_propagation=0"),
    ("load", {"lookahead.maps_per_model": -1}, "maps_per_model=-1; expected at least 0"),
    ("load", {"lookahead.decision_fraction": 1.5}, r"decision_fraction=1\.5"),
    ("load", {"lookahead.retraining.batch_size": 7}, "no multiple of 8"),
    ("load", {"lookahead.retraining.patience": 0}, r"lookahead\.retraining\.patience=0"),
    ("load", {"lookahead.retraining.epochs": 0.0}, r"epochs=0\.0; expected a number above 0"),
    ("load", {"lookahead.retraining.epochs": float("nan")}, "epochs is nan; expected a finite"),
  ],
)
def test_build_schedule_refuses_wrong_settings(variant, changes, message):
  config = small.config(variant, **changes)
  with pytest.raises(ValueError, match=message):
    build_schedule(config, build_experiment(config))


def test_build_schedule_refuses_a_game_without_a_critic():
  config = small.config("iid")
  config.lookahead = small.config("load").lookahead
  with pytest.raises(ValueError, match="needs a term with a critic"):
    build_schedule(config, build_experiment(config))


def test_schedule_in_two_processes_gives_the_numbers_of_one(tmp_path):
  arguments = [
    "--config=configs/scenes.py:load_asm",
    *small.flags(**AHEAD | {"train.steps": 4, "predictor.norm.kind": "sync_batch"}),
  ]
  code, output = small.launch("main.py", *arguments, f"--workdir={tmp_path / 'one'}", devices=4)
  assert code == 0, output
  small.launch_two("main.py", *arguments, f"--workdir={tmp_path / 'two'}")
  shards = {path.name for path in (tmp_path / "two" / "maps").glob("*/*")}
  assert shards == {f"{part}.{k}-of-2.zip" for part in ("train", "decision") for k in range(2)}
  for one, two in zip(*(small.logged(tmp_path / name) for name in ("one", "two")), strict=True):
    assert one == pytest.approx(two, rel=1e-3, nan_ok=True)
