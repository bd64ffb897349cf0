"""The examples of CONTRIBUTING.md, used as their chapters say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.data.loader import eval_batches
from asmjax.data.transforms import Augment
from asmjax.models.predictors import FCN
from asmjax.tasks import TASKS
from asmjax.terms.base import TermContext
from tests.helpers.small_configs import ROOT

_PAGE = (ROOT / "CONTRIBUTING.md").read_text()
CHAPTERS = dict(re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", _PAGE, re.S | re.M))


def example(chapter, name):
  """Runs a chapter's example and returns the class that it defines."""
  scope = {"__name__": "contributing"}
  exec(compile(CHAPTERS[chapter], f"CONTRIBUTING.md, {chapter}", "exec"), scope)
  return scope[name]


def test_contributing_examples_are_short():
  assert len(CHAPTERS) == 5
  for chapter, text in CHAPTERS.items():
    code = [line for line in text.splitlines() if line.strip()]
    assert len(code) <= 36, (chapter, len(code))


def test_contributing_term_descends_total_variation():
  term = example("A loss term", "TotalVariation")(weight=2.0)
  tasks = {"depth": TASKS["depth"]()}

  def value(output):
    context = TermContext(tasks=tasks, outputs={"depth": output}, truth={}, rng=jax.random.key(0))
    (loss,) = term(context).losses.values()
    return loss.predictor_weight * loss.value.mean()

  output = jnp.array([0.0, 1.0, 1.0, 3.0]).reshape(1, 1, 4, 1)
  # Logarithms of 1, 2, 2 and 4 meters along three edges.
  assert float(value(output)) == pytest.approx(2 * np.log(4) / 3)
  moved = output - 0.01 * jax.grad(value)(output)
  assert value(moved) < value(output)


def test_contributing_metric_adds_up():
  metric = example("A metric", "ExactMatch")
  predictions = np.array([[[0, 1]], [[1, 1]], [[0, 0]]])
  targets = np.array([[[0, 255]], [[1, 0]], [[0, 0]]])
  complete = metric.from_batch(predictions, targets)
  parts = [metric.from_batch(predictions[i : i + 1], targets[i : i + 1]) for i in range(3)]
  total = metric.empty()
  for part in parts:
    total = total.merge(part)
  assert total == complete and complete.compute() == {"exact_match": 2 / 3}
  assert np.isnan(metric.empty().compute()["exact_match"])


def test_contributing_task_ignores_missing_depth_and_is_zero_at_the_truth():
  task = example("A task", "InverseDepth")()
  depth = jnp.array([[[1.0, 0.0], [3.0, 7.0]]])
  output = task.from_prediction(jnp.where(depth > 0, depth, 5.0))
  loss = task.pixel_loss(output, {"depth": depth})
  assert float(loss.mean()) == pytest.approx(0, abs=1e-12)
  assert float(task.pixel_loss(output + 1, {"depth": depth}).mean()) > 0
  np.testing.assert_allclose(task.structure(output)[0, 0, 0, 0], 0.5, rtol=1e-6)


def shapes(module, side):
  """Shapes of a module's outputs for one image, as eval_shape has them."""
  image = jnp.zeros((1, side, side, 3))
  init = lambda x: module.init_with_output(jax.random.key(0), x, train=False)[0]
  return {key: output.shape for key, output in jax.eval_shape(init, image).items()}


def test_contributing_backbone_carries_a_predictor_at_any_output_stride():
  backbone = example("A backbone", "PlainNet")
  for output_stride in (8, 32):
    network = FCN({"segmentation": 2}, backbone=backbone(output_stride=output_stride))
    assert shapes(network, 64) == {"segmentation": (1, 8, 8, 2)}
  sides = {stride: shape[1] for stride, shape in shapes(backbone(output_stride=8), 64).items()}
  assert sides == {2: 32, 4: 16, 8: 8, 16: 8, 32: 8}


def test_contributing_source_is_deterministic_and_loads():
  disks = example("A data source", "Disks")
  source = disks("val")
  np.testing.assert_array_equal(source[3]["image"], source[3]["image"])
  assert not np.array_equal(source[3]["image"], disks("train")[3]["image"])
  with pytest.raises(IndexError):
    source[64]
  batches = list(eval_batches(source, Augment((32, 32)), batch_size=48))
  assert [int(batch["weight"].sum()) for batch in batches] == [48, 16]
  assert batches[0]["label"].shape == (48, 32, 32) and set(np.unique(batches[0]["label"])) == {0, 1}
