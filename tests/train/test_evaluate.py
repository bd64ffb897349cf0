"""Evaluation with further metrics: of all examples, however they come in batches."""

import dataclasses

import jax
import numpy as np
import pytest

from asmjax.config import experiment
from asmjax.metrics import InstanceIou
from asmjax.tasks import Depth
from asmjax.train.evaluate import make_evaluate
from tests import small

DETAILS = {
  "tasks.segmentation.details": ("instance", "boundary", "bf", "boundary_iou", "davis"),
  "tasks.depth.details": ("class", "instance"),
  "tasks.normals.details": ("image",),
}


@pytest.fixture(scope="module")
def evaluated():
  """A run whose 21 examples fill batches of 8 and 16 to different degrees, and its scores."""
  found = {}
  for size in (8, 16):
    changes = {"data.options.length": 21, "eval.batch_size": size, **DETAILS}
    run = experiment(small.config("iid,all", **changes))
    variables = run.init_state().variables()
    found[size] = make_evaluate(run.game)(variables, run.eval_batches())
  return run, variables, found


def test_batches_and_padding_change_nothing(evaluated):
  _, _, found = evaluated
  assert found[8].examples == found[16].examples == 21
  assert found[8].protocols == found[16].protocols
  assert found[8].metrics.keys() == found[16].metrics.keys()
  for key, value in found[8].metrics.items():
    np.testing.assert_allclose(value, found[16].metrics[key], rtol=1e-4, err_msg=key)


def test_details_are_those_of_the_predictions(evaluated):
  run, variables, found = evaluated
  predict = jax.jit(run.game.predict)
  task = run.game.tasks["segmentation"]
  state = InstanceIou.empty(task.channels)
  for index in range(21):
    example = run.held_out[index]
    logits = predict(variables, example["image"][None])["segmentation"]
    guess = np.asarray(task.prediction(logits, example["label"].shape)[0])
    state = state.merge(
      InstanceIou.of(example["label"], guess, example["instance"], classes=task.channels)
    )
  expected = state.compute()
  assert {f"segmentation/instance/{key}" for key in expected} <= found[8].metrics.keys()
  for key, value in expected.items():
    np.testing.assert_allclose(found[8].metrics[f"segmentation/instance/{key}"], value, rtol=1e-6)


def test_every_metric_says_how_it_was_computed(evaluated):
  _, _, found = evaluated
  protocols = found[8].protocols
  assert {key.rpartition("/")[0].partition("/iou")[0] for key in found[8].metrics} == set(protocols)
  assert "each class" in protocols["depth/class"] and "instance" in protocols["depth/instance"]


def test_a_run_loads_only_the_truths_that_it_needs():
  run = experiment(small.config("iid,depth"))
  assert set(run.source[0]) == set(run.held_out[0]) == {"image", "depth"}
  run = experiment(small.config("iid,depth", **{"tasks.depth.details": ("instance",)}))
  assert set(run.source[0]) == {"image", "depth"}
  assert set(run.held_out[0]) == {"image", "depth", "label", "instance"}


def test_unknown_details_are_refused_and_the_known_listed():
  with pytest.raises(ValueError, match="unknown details 'instances'; known: class, image, inst"):
    dataclasses.replace(Depth(), details=("instances",))
