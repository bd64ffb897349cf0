"""Scores of estimates from scales, flipped images and windows, against the evaluation itself."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.inference import evaluation
from asmjax.inference.evaluation import InferenceViews
from asmjax.inference.multiscale import make_predict
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import Inference
from asmjax.metrics.confusion import ConfusionMatrix
from asmjax.train.loop import make_eval_results, open_checkpoints
from asmjax.utils.files import write_json
from tests.helpers import small_configs as small

# Photos of 16 x 16 become 20 x 20 in a canvas of 24 x 20; the last batch is not full.
FITTED = {
  "data.resize": "letterbox",
  "data.eval_size": (24, 20),
  "data.options.length": 11,
  "eval.batch_size": 8,
  "tasks.segmentation.extra_metrics": ("bf",),
}
THOROUGH = Inference(scales=(0.5, 1.0, 1.5), flip=True, window=16, overlap=4, batch_size=8)


@functools.cache
def run(variant="iid,all", fitted=True):
  """An experiment and a state with random weights."""
  changes = FITTED if fitted else {"data.options.length": 11, "eval.batch_size": 8}
  experiment = build_experiment(small.config(variant, **changes))
  return experiment, experiment.random_state()


def score_views(experiment, state, **views):
  return make_eval_results(experiment, print, InferenceViews(experiment, **views))(state)


def test_inference_views_of_a_single_view_have_the_scores_of_the_evaluation():
  experiment, state = run()
  evaluated, viewed = (
    make_eval_results(experiment)(state),
    score_views(experiment, state, inference=Inference()),
  )
  assert viewed["metrics"] == pytest.approx(evaluated["metrics"], rel=1e-4, abs=1e-6, nan_ok=True)
  assert {"depth/rel", "normals/mean", "segmentation/bf/bf"} <= set(viewed["metrics"])
  assert "views" not in evaluated["protocol"]
  assert viewed["protocol"] == evaluated["protocol"] | {"views": "averaged over scales 1"}
  assert {key: viewed[key] for key in ("examples", "split", "step", "skipped")} == {
    key: evaluated[key] for key in ("examples", "split", "step", "skipped")
  }


def test_inference_views_have_the_scores_of_the_predictions():
  experiment, state = run("iid", fitted=False)
  predict = make_predict(TrainedPredictor.from_state(experiment, state), THOROUGH)
  task, classes = experiment.game.tasks["segmentation"], len(experiment.descriptor.classes)
  matrix = ConfusionMatrix.empty(classes)
  images = (
    (example, example["image"]) for example in map(experiment.validation.__getitem__, range(11))
  )
  for example, estimates in predict(images):
    prediction = task.postprocess(estimates["segmentation"])
    matrix = matrix.merge(
      ConfusionMatrix.from_batch(prediction, example["label"], num_classes=classes)
    )
  results = score_views(experiment, state, inference=THOROUGH)
  metrics = results["metrics"]
  assert results["examples"] == 11 and metrics["segmentation/mean_iou"] == matrix.mean_iou()
  assert metrics["segmentation/pixel_accuracy"] == matrix.pixel_accuracy()
  assert results["protocol"]["views"] == (
    "averaged over scales 0.5, 1, 1.5 and flipped images, in windows of 16 that share 4 pixels at "
    "least"
  )
  evaluated = make_eval_results(experiment)(state)["metrics"]
  assert metrics["segmentation/pixel_accuracy"] != evaluated["segmentation/pixel_accuracy"]


def test_inference_views_refine_by_the_crf(monkeypatch):
  """One that sees walls alone, and photos at the size of the evaluation."""
  experiment, state = run()
  wall = experiment.descriptor.classes.index("wall")

  def refine(probabilities, image):
    assert image.shape == (20, 20, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-4)
    return np.broadcast_to(np.eye(probabilities.shape[-1])[wall], probabilities.shape)

  monkeypatch.setattr(evaluation, "make_crf_refinement", lambda: refine)
  results = score_views(experiment, state, inference=Inference(), crf=True)
  truth = np.concatenate([batch["label"].ravel() for batch in experiment.eval_batches()])
  expected = (truth == wall).sum() / (truth < 255).sum()
  assert results["metrics"]["segmentation/pixel_accuracy"] == pytest.approx(expected)
  assert results["protocol"]["views"] == "averaged over scales 1; refined by a dense CRF"


class Torn:
  """A source whose examples 2 and 10 cannot be read."""

  def __init__(self, source):
    self.source, self.descriptor, self.split = source, source.descriptor, source.split

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    if index in (2, 10):
      raise ValueError(f"{index} is torn")
    return self.source[index]


def test_inference_views_skip_unreadable_examples_if_asked():
  experiment, state = run()
  torn = dataclasses.replace(experiment, validation=Torn(experiment.validation))
  with pytest.raises(ValueError, match="2 is torn"):
    score_views(torn, state, inference=Inference())
  options = dataclasses.replace(experiment.loader_options, on_error="skip")
  lenient = dataclasses.replace(torn, loader_options=options)
  viewed, evaluated = (
    score_views(lenient, state, inference=Inference()),
    make_eval_results(lenient)(state),
  )
  assert viewed["skipped"] == ["2 is torn", "10 is torn"] and viewed["examples"] == 9
  assert viewed["metrics"] == pytest.approx(evaluated["metrics"], rel=1e-4, abs=1e-6, nan_ok=True)


def test_inference_views_refuse_a_crf_without_segmentation_and_missing_tasks():
  with pytest.raises(
    ValueError, match="crf needs a task with class probabilities; predicted: depth"
  ):
    InferenceViews(run("iid,depth", fitted=False)[0], Inference(), crf=True)
  with pytest.raises(ValueError, match=r"tasks=\('depth',\); expected all: segmentation, depth"):
    InferenceViews(run()[0], Inference(tasks=("depth",)))


def test_from_soft_prediction_inverts_soft_prediction():
  """Scoring an estimate is scoring the outputs that mean it."""
  experiment, _ = run()
  rng = np.random.default_rng(0)
  for task in experiment.game.tasks.values():
    outputs = jnp.array(rng.normal(size=(2, 5, 6, task.channels)), jnp.float32)
    estimate = task.soft_prediction(outputs, (5, 6))
    again = task.soft_prediction(task.from_soft_prediction(estimate), (5, 6))
    np.testing.assert_allclose(again, estimate, atol=1e-6)


@pytest.mark.parametrize(
  "inference, expected",
  [
    (Inference(), True),
    (Inference(batch_size=3), True),
    (Inference(flip=True), False),
    (Inference(scales=(1.0, 1.0)), False),
    (Inference(window=9), False),
  ],
)
def test_is_single_view_of_the_defaults_alone(inference, expected):
  assert inference.is_single_view is expected


def test_evaluate_names_the_views_in_the_protocol(tmp_path):
  experiment, state = run("iid", fitted=False)
  config = small.config("iid", **{"data.options.length": 11, "eval.batch_size": 8})
  (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
  with open_checkpoints(experiment, tmp_path) as checkpoints:
    checkpoints.save(state, {"segmentation/mean_iou": 0.5})
  path = tmp_path / "results.json"

  def evaluate(*options):
    which = (f"--workdir={tmp_path}", "--checkpoint=last")
    code, output = small.launch("evaluate.py", *which, *options, devices=8)
    assert code == 0, output
    return output, json.loads(path.read_text())

  write_json(path, make_eval_results(experiment)(jax.device_get(state)))
  before = path.read_text()
  output, results = evaluate(
    "--scales=0.5,1,1.5", "--flip", "--window=16", "--overlap=4", "--batch_size=8"
  )
  assert results["protocol"]["views"] == THOROUGH.protocol and THOROUGH.protocol in output
  expected = score_views(experiment, state, inference=THOROUGH)
  assert results["metrics"] == pytest.approx(expected["metrics"], nan_ok=True)
  output, _ = evaluate("--scales=1", "--noflip")
  assert "step 0, each image once" in output
  assert path.read_text() == before  # Digit for digit.
