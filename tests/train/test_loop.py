"""Complete runs: a shipped config made small, killed and resumed, evaluated again."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from asmjax.config.build import build_experiment
from asmjax.config.run_dir import check_same_config
from asmjax.train.evaluate import make_evaluate
from asmjax.train.loop import make_draw_predictions, open_checkpoints, train
from asmjax.train.schedule import restore_state
from tests.helpers import documented_commands as documented
from tests.helpers import small_configs as small

DETAILS = {"tasks.segmentation.extra_metrics": "('boundary',)"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The workdir of a run that was never killed, in a process of its own."""
  workdir = tmp_path_factory.mktemp("finished")
  code, output = small.launch(
    "main.py", "--config=configs/scenes.py:asm", f"--workdir={workdir}", *small.flags(**DETAILS)
  )
  assert code == 0, output
  return workdir, output


def test_train_writes_all_files_of_a_run(finished):
  workdir, output = finished
  results = json.loads((workdir / "results.json").read_text())
  assert results["step"] == 12 and results["split"] == "val" and results["data_set"] == "scenes"
  assert results["examples"] == 24 and "confusion" in results["protocol"]["segmentation"]
  assert 0 < results["metrics"]["segmentation/mean_iou"] < 1
  assert [line["step"] for line in small.logged(workdir)] == [4, 5, 6, 8, 10, 12]
  last = small.logged(workdir)[-1]
  assert last["segmentation/mean_iou"] == results["metrics"]["segmentation/mean_iou"]
  assert {"structure/conv1", "structure/conv2", "gradient_norm/structure", "loss"} <= set(last)
  assert last["epoch"] == 12 * 8 / 24
  for name, optimizer in build_experiment(small.config("asm")).optimizers.items():
    assert last[f"learning_rate/{name}"] == optimizer.learning_rate_at(11, 12)
  assert 0 < last["gradient_norm_from/structure"] and not (workdir / "warnings.jsonl").exists()
  assert json.loads((workdir / "config.json").read_text())["train"]["steps"] == 12
  assert list((workdir / "tensorboard").glob("events*"))
  assert "step 10/12" in output and "steps/s" in output and "left" in output


def test_train_logs_no_extra_metrics_of_classes(finished):
  workdir, output = finished
  metrics = json.loads((workdir / "results.json").read_text())["metrics"]
  last = small.logged(workdir)[-1]
  precision, mean = "segmentation/boundary/precision/", "segmentation/boundary/boundary_f"
  assert {f"{precision}wheel", mean} <= set(metrics)
  assert {"segmentation/iou/wheel", mean} <= set(last)
  assert not [name for name in last if name.startswith(precision)]
  assert f"{mean} " in output and precision not in output


def best_of(workdir):
  return json.loads((workdir / "results.json").read_text())["best"]


def test_checkpoints_keep_the_best_and_the_last(finished):
  workdir, _ = finished
  kept = {int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()}
  name = "segmentation/mean_iou"
  scored = {line["step"]: line[name] for line in small.logged(workdir) if name in line}
  step = max(scored, key=scored.get)
  assert set(scored) == {6, 12} and kept == {6, 8, 12}  # The two best, and the two latest.
  assert best_of(workdir) == {"step": step, "metric": name, "value": scored[step]}


def test_evaluate_command_gives_the_results_of_the_training(finished):
  workdir, _ = finished
  before = (workdir / "results.json").read_text()
  course = {"lookahead": {"cycles": 2}}  # Only the training knows it.
  (workdir / "results.json").write_text(json.dumps(json.loads(before) | course))
  flags = (f"--workdir={workdir}", "--checkpoint=last")
  code, output = small.launch("evaluate.py", *flags, devices=1)
  assert code == 0, output
  again = json.loads((workdir / "results.json").read_text())
  assert json.loads(before)["metrics"] == pytest.approx(again["metrics"], nan_ok=True)
  assert again["lookahead"] == course["lookahead"]
  assert "segmentation/mean_iou" in output and "/wheel" not in output
  rows = [line.split()[1:] for line in output.splitlines() if line.startswith("wheel ")]
  names = ("iou", "boundary/precision", "boundary/recall", "boundary/f")
  expected = [json.loads(before)["metrics"][f"segmentation/{name}/wheel"] for name in names]
  assert [len(row) for row in rows] == [1, 3]
  np.testing.assert_allclose(np.float64(sum(rows, [])), np.float64(expected), atol=1e-4)
  (workdir / "results.json").write_text(before)


def test_evaluate_command_takes_the_best_checkpoint_another_split_and_other_metrics(finished):
  workdir, trained = finished
  before = (workdir / "results.json").read_text()
  flags = (f"--workdir={workdir}", "--split=test", "--extra_metrics=instance")
  code, output = small.launch("evaluate.py", *flags, devices=1)
  assert code == 0, output
  assert (workdir / "results.json").read_text() == before
  results, best = json.loads((workdir / "results.test.best.json").read_text()), best_of(workdir)
  assert results["split"] == "test" and results["step"] == best["step"]
  kinds = {name.split("/")[1] for name in results["metrics"] if name.count("/") == 2}
  assert "instance" in kinds and "boundary" not in kinds
  assert f"best checkpoint: step {best['step']}, segmentation/mean_iou" in trained


def test_train_evaluates_a_finished_run_without_training_again(finished):
  workdir, _ = finished
  before = (workdir / "metrics.jsonl").read_text()
  run = build_experiment(json.loads((workdir / "config.json").read_text()))
  results = train(run, workdir)
  assert results["step"] == 12 and (workdir / "metrics.jsonl").read_text() == before


def test_check_same_config_refuses_another_config_and_names_the_keys(finished):
  workdir, _ = finished
  own = {"tasks.segmentation.extra_metrics": ("boundary",)}
  with pytest.raises(ValueError, match=r" --config.init.path=.*Differing: train\.steps: 12 -> 13$"):
    check_same_config(workdir, small.config(**own, **{"train.steps": 13}).to_dict())
  check_same_config(workdir, small.config(**own, **{"data.root": "/elsewhere"}).to_dict())


def test_restore_state_refuses_the_checkpoint_of_another_game(finished):
  workdir, _ = finished
  run = build_experiment(small.config(**{"predictor.width": 6}))
  with open_checkpoints(run, workdir) as checkpoints:
    with pytest.raises(ValueError, match=r"checkpoint 12 .*does not fit.*; expected float32"):
      restore_state(run, checkpoints, 12)


def test_init_state_starts_from_the_weights_of_another_run(finished, tmp_path):
  workdir, _ = finished
  begin = {"init.path": str(workdir), "init.format": "orbax", "optimizer.predictor.ema_decay": 0.9}
  reports = []
  state = build_experiment(small.config("iid", **begin)).init_state(reports.append)
  expected = small.last_state(workdir).variables()
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.variables()), expected)
  assert state.step == 0 and len(reports) == 1 and f"{workdir}: loaded " in reports[0]
  lost = begin | {"init.path": str(tmp_path / "gone")}
  with pytest.raises(FileNotFoundError, match="gone is no folder of a run"):
    build_experiment(small.config("iid", **lost))
  # As a run keeps it.
  gone = build_experiment(small.config("iid", **lost, **{"predictor.input_transform": "imagenet"}))
  with pytest.raises(FileNotFoundError, match="gone"):
    gone.init_state(reports.append)
  with open_checkpoints(gone, tmp_path / "run") as checkpoints:
    checkpoints.save(state)
  with open_checkpoints(gone, tmp_path / "run") as checkpoints:
    resumed = restore_state(
      gone, checkpoints, checkpoints.latest_step()
    )  # Which needs the file no more.
  jax.tree.map(np.testing.assert_array_equal, resumed.variables(), expected)


def test_init_state_of_a_second_stage_takes_the_predictor_alone(tmp_path):
  """Ke et al. 2018, Sec. 5.1: the sizes' weights start anew, and so do optimizers and schedules."""
  first = build_experiment(small.config("aaf"))
  moved = jax.tree.map(lambda x: x + np.ones_like(x), first.random_state())
  with open_checkpoints(first, tmp_path) as checkpoints:
    checkpoints.save(moved, step=12)
  config = small.config(
    "aaf",
    **{
      "seed": 1,
      "init.path": str(tmp_path),
      "init.format": "orbax",
      "init.part": "",
      "predictor.input_transform": "imagenet",  # There is no config of a run to say so.
      "optimizer.predictor.learning_rate": 1e-4,
    },
  )
  second, reports = build_experiment(config), []
  state = jax.device_get(second.init_state(reports.append))
  jax.tree.map(np.testing.assert_array_equal, state.variables(), moved.variables())
  fresh = jax.device_get(second.random_state())
  assert state.step == 0 and all(
    (leaf == 0).all() for leaf in jax.tree.leaves(state.players["affinity"].params)
  )
  jax.tree.map(np.testing.assert_array_equal, state.players["affinity"], fresh.players["affinity"])
  jax.tree.map(
    np.testing.assert_array_equal,
    state.players["predictor"].opt_state,
    fresh.players["predictor"].opt_state,
  )
  assert {each.learning_rate for each in second.optimizers.values()} == {1e-4}


def test_train_without_steps_evaluates_the_initial_weights(finished, tmp_path):
  workdir, _ = finished
  begin = {"init.path": str(workdir), "init.format": "orbax", "train.steps": 0}
  begin["tasks.segmentation.extra_metrics"] = ("boundary",)
  run = build_experiment(small.config("iid", **begin))
  results = train(run, tmp_path)
  expected = json.loads((workdir / "results.json").read_text())["metrics"]
  expected = {name: np.nan if value is None else value for name, value in expected.items()}
  assert results["step"] == 0
  assert results["metrics"] == pytest.approx(expected, nan_ok=True)
  with open_checkpoints(run, tmp_path) as checkpoints:
    assert checkpoints.latest_step() == checkpoints.best_step() == 0
  again = train(run, tmp_path)
  assert again.pop("metrics") == pytest.approx(results.pop("metrics"), nan_ok=True)
  assert again == results


def test_evaluate_masks_padding_and_adds_up_over_devices_and_batches():
  run = build_experiment(small.config(**{"data.options.length": 21, "eval.batch_size": 8}))
  variables = run.init_state().variables()
  scores = make_evaluate(run.game)(variables, run.eval_batches())
  predict = jax.jit(run.game.predict)
  counts = np.zeros((len(run.descriptor.classes),) * 2, np.int64)
  for i in range(21):
    example = run.validation[i]
    guess = np.argmax(predict(variables, example["image"][None])["segmentation"][0], -1)
    np.add.at(counts, (example["label"].ravel(), guess.ravel()), 1)
  expected = run.game.tasks["segmentation"].compute_metrics(
    {"confusion": counts, "calibration": (np.zeros(15), np.zeros(15), np.zeros(15))}
  )
  del expected["calibration_error"], scores.metrics["segmentation/calibration_error"]
  assert scores.num_examples == 21
  assert scores.metrics == pytest.approx(
    {f"segmentation/{name}": value for name, value in expected.items()}, nan_ok=True
  )
  assert counts.sum() == 21 * 16 * 16


@pytest.fixture
def photos(tmp_path):
  """Eight photos to train on and three to evaluate, of which one each is broken."""
  for split, count in (("train", 8), ("val", 3)):
    for kind in ("images", "masks"):
      (tmp_path / kind / split).mkdir(parents=True)
    for index in range(count):
      rng = np.random.default_rng(index)
      for kind, shape, high in (("images", (16, 16, 3), 256), ("masks", (16, 16), 2)):
        picture = Image.fromarray(rng.integers(0, high, shape, np.uint8))
        picture.save(tmp_path / kind / split / f"{index}.png")
  for path in ("images/train/3.png", "masks/val/1.png"):
    (tmp_path / path).write_bytes((tmp_path / path).read_bytes()[:60])
  (tmp_path / "classes.yaml").write_text("classes: [{name: ground}, {name: thing}]")
  return tmp_path


def test_train_skips_broken_files_and_lists_them(photos, tmp_path):
  config = small.config(
    "folder,iid",
    "any",
    **{"data.root": str(photos), "data.options": {}, "train.steps": 3, "eval.batch_size": 8},
  )
  with pytest.raises(ValueError, match=r"(3|1)\.png cannot be decoded"):
    train(build_experiment(config), tmp_path / "run")
  config.data.loader.on_error = "skip"
  results = train(build_experiment(config), tmp_path / "run")
  assert results["examples"] == 2 and results["split"] == "val"
  (skipped,) = results["skipped"]
  assert "masks/val/1.png" in skipped
  listed = (tmp_path / "run" / "skipped.0.jsonl").read_text().splitlines()
  assert len(listed) == 2 and any("images/train/3.png" in line for line in listed)


@pytest.mark.parametrize("count", [2, 18, 99])
def test_draw_predictions_takes_examples_that_are_evenly_spread(count):
  run = build_experiment(small.config("iid"))
  pictures = make_draw_predictions(run, count=count)(run.init_state())
  expected = min(count, len(run.validation))
  assert {len(each) for each in pictures.values()} == {expected}
  for picture, index in zip(pictures["input"][[0, -1]], (0, len(run.validation) - 1), strict=True):
    np.testing.assert_array_equal(picture, run.validation[index]["image"])


def test_draw_predictions_leaves_padding_white():
  run = build_experiment(
    small.config("iid", **{"data.eval_size": (16, 24), "data.resize": "letterbox"})
  )
  pictures = make_draw_predictions(run, count=2)(run.init_state())
  assert set(pictures) == {
    "input",
    *(f"segmentation/{k}" for k in ("truth", "prediction", "error", "overlay")),
  }
  for name, drawn in pictures.items():
    assert drawn.shape == (2, 16, 24, 3) and (drawn[:, :, 16:] == 255).all(), name
    assert not (drawn[:, :, :16] == 255).all(), name


def test_evaluate_refuses_a_split_without_batches():
  run = build_experiment(small.config())
  with pytest.raises(ValueError, match="nothing to evaluate"):
    make_evaluate(run.game)(run.init_state().variables(), [])


def test_train_in_two_processes_gives_the_numbers_of_one_and_goes_on_in_one(tmp_path):
  arguments = [
    "--config=configs/scenes.py:asm",
    *small.flags(
      **{
        "predictor.norm.kind": "sync_batch",
        "train.steps": 4,
        "checkpoint.every": 2,
        "tasks.segmentation.extra_metrics": "('boundary', 'davis', 'instance')",
      }
    ),
  ]
  code, output = small.launch("main.py", *arguments, f"--workdir={tmp_path / 'one'}", devices=4)
  assert code == 0, output
  small.launch_two("main.py", *arguments, f"--workdir={tmp_path / 'two'}")
  one, two = (small.logged(tmp_path / name) for name in ("one", "two"))
  assert two == [pytest.approx(line, rel=1e-3, nan_ok=True) for line in one]
  # Half of the training goes on in one process of another number of devices.
  shutil.rmtree(tmp_path / "two" / "checkpoints" / "4")
  (tmp_path / "two" / "results.json").unlink()
  code, output = small.launch("main.py", *arguments, f"--workdir={tmp_path / 'two'}", devices=2)
  assert code == 0 and "finished before" not in output, output
  assert small.logged(tmp_path / "two") == [
    pytest.approx(line, rel=1e-3, nan_ok=True) for line in one
  ]


@pytest.mark.parametrize(
  "flag, message",
  [
    ("--config.train.step=3", "unknown key train.step; did you mean 'steps'? known: allow_fast_"),
    ("--config.terms.pixel.weight=2", "unknown key terms.pixel; known: structure"),
    ("--config.train.steps=many", "train.steps=many; expected a whole number"),
    ("--config.terms.structure.layers=('conv8',)", "conv8"),
  ],
)
def test_train_command_refuses_wrong_flags_before_it_writes(tmp_path, capsys, flag, message):
  words = ["--config=scenes:asm", f"--workdir={tmp_path / 'run'}", *small.flags(), flag]
  code = documented.call_asmjax("train", words)
  assert code and message in f"{code} {capsys.readouterr().err}"
  assert not (tmp_path / "run").exists()
