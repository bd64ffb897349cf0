"""A predictor's convention holds wherever one of its maps meets an image."""

import dataclasses
import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from asmjax.batch import REPLAY
from asmjax.config.build import build_experiment
from asmjax.data.transforms import Augment, pad
from asmjax.data.wrappers import spread_indices
from asmjax.game import Game
from asmjax.inference.multiscale import make_predict
from asmjax.inference.trained import TrainedPredictor
from asmjax.lookahead.generate import make_generate
from asmjax.metrics import BoundaryIoU, DepthErrors, NormalErrors
from asmjax.metrics.confusion import ConfusionMatrix, count_confusions
from asmjax.terms.base import Term, TermOutput
from asmjax.train.evaluate import make_evaluate
from asmjax.train.loop import make_draw_predictions
from tests.helpers import inference_runs
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games

SIZE = (17, 25)
STRIDE = 4
# Variables that are not used.
NOTHING = {"params": {"nothing": np.zeros(())}}


class Sampled(nn.Module):
  """Predicts from every fourth pixel alone."""

  heads: dict
  align_corners: bool = True

  def __call__(self, x, *, train):
    mixed = lambda count: np.random.default_rng(count).normal(size=(3, count)).astype(np.float32)
    return {name: x[:, ::STRIDE, ::STRIDE] @ mixed(count) for name, count in self.heads.items()}


def game(tasks=("segmentation", "depth", "normals"), align_corners=True, terms=None):
  chosen = {name: games.TASKS[name] for name in tasks}
  heads = {name: task.channels for name, task in chosen.items()}
  return Game(Sampled(heads, align_corners), chosen, terms or {})


def predict(players, image, align_corners=True):
  """Predictions of each task, at the size of the images."""
  outputs = players.predict({}, image)
  return {
    name: np.asarray(task.predict(outputs[name], image.shape[1:3], align_corners=align_corners))
    for name, task in players.tasks.items()
  }


def test_make_evaluate_enlarges_with_aligned_corners():
  players, examples = game(("segmentation",)), games.batch(8, size=SIZE)
  scores = make_evaluate(players)({}, [examples])
  predicted = predict(players, examples["image"])["segmentation"]
  expected = count_confusions(predicted, examples["label"], num_classes=3)
  np.testing.assert_array_equal(scores.sums["segmentation"]["confusion"], expected)
  assert scores.metrics["segmentation/mean_iou"] == ConfusionMatrix(np.asarray(expected)).mean_iou()
  assert scores.protocols["segmentation"].endswith(", corners aligned")
  misaligned = predict(players, examples["image"], align_corners=False)["segmentation"]
  assert np.any(count_confusions(misaligned, examples["label"], num_classes=3) != expected)


def test_make_evaluate_enlarges_all_tasks_and_extra_metrics_with_aligned_corners():
  players, examples = game(), games.batch(8, size=SIZE)
  detailed = dataclasses.replace(players.tasks["segmentation"], extra_metrics=("boundary_iou",))
  players = dataclasses.replace(players, tasks={**players.tasks, "segmentation": detailed})
  found = make_evaluate(players)({}, [examples]).metrics
  predicted, misaligned = (
    predict(players, examples["image"], align_corners=aligned) for aligned in (True, False)
  )

  def scores(of):
    depth = DepthErrors.from_batch(of["depth"], examples["depth"]).compute()
    normals = NormalErrors.from_batch(of["normals"], examples["normals"]).compute()
    contours = BoundaryIoU.from_batch(
      of["segmentation"], examples["label"], num_classes=3
    ).compute()
    return {
      "depth/rel": depth["rel"],
      "normals/mean": normals["mean"],
      "segmentation/boundary_iou/boundary_iou": contours["boundary_iou"],
    }

  for name, value in scores(predicted).items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    assert abs(scores(misaligned)[name] - value) > 1e-3 * abs(value), name


@pytest.mark.parametrize("size", [SIZE, (14, 20)])
def test_make_predict_enlarges_with_aligned_corners(size):
  image, trained = (
    inference_runs.image(*size),
    TrainedPredictor(game(), {}, inference_runs.DESCRIPTOR, Augment(SIZE)),
  )
  ((_, estimates),) = make_predict(trained)([(0, image)])
  padded = pad({"image": image}, SIZE)["image"][None]
  tasks = game().tasks
  estimates = {
    name: tasks[name].postprocess(predictions) for name, predictions in estimates.items()
  }
  for name, predictions in predict(game(), padded).items():
    expected = tasks[name].postprocess(predictions[0]) if name == "normals" else predictions[0]
    np.testing.assert_allclose(
      estimates[name], expected[: size[0], : size[1]], atol=1e-5, err_msg=name
    )


def test_make_generate_and_draw_predictions_enlarge_with_aligned_corners():
  run = build_experiment(small.config("iid"))
  tasks = run.game.tasks
  players = Game(Sampled({name: task.channels for name, task in tasks.items()}), tasks, {})
  run = dataclasses.replace(run, game=players)
  indices = spread_indices(len(run.validation), 3)
  image = np.stack([run.validation[index]["image"] for index in indices])
  expected = predict(players, image)["segmentation"]
  assert np.mean(expected != predict(players, image, align_corners=False)["segmentation"]) > 0.01
  generated = dict(make_generate(run, on_skip=print)(NOTHING, run.validation, indices))
  np.testing.assert_array_equal([generated[index]["label"] for index in indices], expected)
  drawn = make_draw_predictions(run, count=3)(types.SimpleNamespace(variables=lambda: NOTHING))
  palette = np.array(run.descriptor.palette, np.uint8)
  np.testing.assert_array_equal(drawn["segmentation/prediction"], palette[expected])


class Spy(Term):
  """Keeps the outputs and the truth that it gets."""

  critic = nn.Dense(1)

  def __init__(self):
    self.outputs = self.truth = None

  def __call__(self, context):
    self.outputs, self.truth = context.outputs, context.truth
    return TermOutput({})


@pytest.mark.parametrize("align_corners", [True, False])
def test_compute_losses_reads_truth_and_replay_where_the_outputs_lie(align_corners):
  spy = Spy()
  players = game(align_corners=align_corners, terms={"spy": spy})
  examples, earlier = games.batch(2, size=SIZE), games.batch(2, seed=1, size=SIZE)
  replay = {
    REPLAY + task.truth_key: np.where(earlier[task.truth_key] == 255, 0, earlier[task.truth_key])
    for task in players.tasks.values()
  }
  params = {"predictor": {}, "spy": {}}
  players.compute_losses(params, params, examples | replay, rng=jax.random.key(0))
  if align_corners:
    rows, columns = (range(0, side, STRIDE) for side in SIZE)
  else:
    rows, columns = (
      (2 * np.arange(-(-side // STRIDE)) + 1) * side // (2 * -(-side // STRIDE)) for side in SIZE
    )
  read = lambda x: x[:, np.array(rows)][:, :, np.array(columns)]
  for name, task in players.tasks.items():
    np.testing.assert_array_equal(spy.truth[task.truth_key], read(examples[task.truth_key]))
    expected = task.from_prediction(read(replay[REPLAY + task.truth_key]))
    np.testing.assert_array_equal(spy.outputs[name], expected)
  assert spy.truth["image"].shape == (2, *(-(-side // STRIDE) for side in SIZE), 3)
