"""Evaluation with further metrics: of all examples, however they come in batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.data.descriptor import Source
from asmjax.data.transforms import crop, pad
from asmjax.metrics import BoundaryIoU, InstanceIoU
from asmjax.metrics.names import drop_classes, group_by_class
from asmjax.tasks import Depth, Segmentation
from asmjax.train import evaluate
from asmjax.train.evaluate import make_evaluate
from tests.helpers import small_configs as small
from tests.oracles import boundary as slow

DETAILS = {
  "tasks.segmentation.extra_metrics": ("instance", "boundary", "bf", "boundary_iou", "davis"),
  "tasks.depth.extra_metrics": ("class", "instance"),
  "tasks.normals.extra_metrics": ("image",),
}


@pytest.fixture(scope="module")
def evaluated():
  """A run whose 21 examples fill batches of 8 and 16 to different degrees, and its scores."""
  results = {}
  for size in (8, 16):
    changes = {"data.options.length": 21, "eval.batch_size": size, **DETAILS}
    run = build_experiment(small.config("iid,all", **changes))
    variables = run.init_state().variables()
    results[size] = make_evaluate(run.game)(variables, run.eval_batches())
  return run, variables, results


def test_evaluate_ignores_padding_and_batches(evaluated):
  _, _, results = evaluated
  assert results[8].num_examples == results[16].num_examples == 21
  assert results[8].protocols == results[16].protocols
  assert results[8].metrics.keys() == results[16].metrics.keys()
  for key, value in results[8].metrics.items():
    np.testing.assert_allclose(value, results[16].metrics[key], rtol=1e-4, err_msg=key)


def test_evaluate_adds_up_more_pixels_than_a_device_can_count(monkeypatch):
  monkeypatch.setattr(evaluate, "_MAX_PIXELS", 10)
  sums = evaluate._Sums()
  for count, pixels in ((2**31 - 1, 11), (5, 6), (2**31 - 9, 6), (3, 6)):
    sums.add({"pixels": jnp.int32(count), "errors": jnp.float32(0.5)}, num_pixels=pixels)
  total = sums.read()
  assert (total["pixels"], total["errors"]) == (2**32 - 2, 2.0)


def test_evaluate_computes_extra_metrics_of_the_predictions(evaluated):
  run, variables, results = evaluated
  predict = jax.jit(run.game.predict)
  task = run.game.tasks["segmentation"]
  state = InstanceIoU.empty(task.channels)
  for index in range(21):
    example = run.validation[index]
    logits = predict(variables, example["image"][None])["segmentation"]
    guess = np.asarray(task.predict(logits, example["label"].shape)[0])
    state = state.merge(
      InstanceIoU.from_batch(
        guess, example["label"], instance=example["instance"], num_classes=task.channels
      )
    )
  expected = state.compute()
  assert {f"segmentation/instance/{key}" for key in expected} <= results[8].metrics.keys()
  for key, value in expected.items():
    np.testing.assert_allclose(results[8].metrics[f"segmentation/instance/{key}"], value, rtol=1e-6)


def test_evaluate_computes_metrics_by_class_of_the_predictions(evaluated):
  run, variables, results = evaluated
  predict = jax.jit(run.game.predict)
  examples = [run.validation[index] for index in range(21)]
  outputs = predict(variables, np.stack([example["image"] for example in examples]))
  truth = {key: np.stack([each[key] for each in examples]) for key in ("label", "depth")}
  tasks, values = run.game.tasks, group_by_class(results[8].metrics)
  classes, size = tasks["segmentation"].classes, truth["label"].shape[1:]
  guess = np.asarray(tasks["segmentation"].predict(outputs["segmentation"], size))
  _, scores = slow.bf(truth["label"], guess, len(classes), 5)
  expected = {
    f"segmentation/bf/{name}": [slow.mean(column) for column in scores[:, i].T]
    for i, name in enumerate(("precision", "recall", "f"))
  }
  reach = 0.0075 * np.hypot(*size)
  (matched, predicted, _), _ = slow.contour_benchmark(truth["label"], guess, len(classes), reach)
  expected["segmentation/boundary/precision"] = [
    slow.over(*each) for each in zip(matched, predicted, strict=True)
  ]
  meters = np.asarray(tasks["depth"].predict(outputs["depth"], size))
  wrong = np.abs(meters - truth["depth"]) / truth["depth"]
  expected["depth/class/rel"] = [
    np.mean(wrong[known])
    if (known := (truth["label"] == c) & (truth["depth"] > 0)).any()
    else np.nan
    for c in range(len(classes))
  ]
  for metric, own in expected.items():
    assert tuple(values[metric]) == tuple(classes)
    np.testing.assert_allclose(list(values[metric].values()), own, rtol=1e-4, err_msg=metric)
  assert "depth/instance/rms" in values and "segmentation/instance/iou" in values
  assert not [metric for metric in values if "/image/" in metric]


@dataclasses.dataclass(frozen=True)
class TwoSizes:
  """The examples of a source, every other one cut to 12 x 9 pixels."""

  source: Source

  descriptor = property(lambda self: self.source.descriptor)
  split = property(lambda self: self.source.split)

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    return crop(self.source[index], 0, 0, (12, 9) if index % 2 else (16, 16))


def test_evaluate_takes_boundaries_relative_to_images_without_padding(evaluated):
  run, variables, _ = evaluated
  kinds = ("boundary", "bf", "boundary_iou", "davis")
  task = dataclasses.replace(
    run.game.tasks["segmentation"], extra_metrics=kinds, bf_tolerance=2 / 15
  )
  game = dataclasses.replace(run.game, tasks={**run.game.tasks, "segmentation": task})
  run = dataclasses.replace(run, game=game, validation=TwoSizes(run.validation))
  metrics = make_evaluate(game)(variables, run.eval_batches()).metrics
  images, predict = [], jax.jit(run.game.predict)
  for index in range(21):
    example = pad(run.validation[index], (16, 16), run.prepare.fill)
    height, width = run.validation[index]["label"].shape
    logits = predict(variables, example["image"][None])["segmentation"]
    guess = np.asarray(task.predict(logits, (16, 16)))[0]
    images.append((example["label"][:height, :width], guess[:height, :width]))
  scores = np.concatenate(
    [
      slow.bf([true], [predicted], task.channels, 2 / 15 * np.hypot(*true.shape))[1]
      for true, predicted in images
    ]
  )
  by_image = [slow.mean(each) for each in scores[:, 2]]
  assert metrics["segmentation/bf/bf"] == pytest.approx(slow.mean(by_image), rel=1e-6)
  davis = np.array(
    [
      slow.davis([true], [predicted], task.channels, np.ceil(0.008 * np.hypot(*true.shape)))
      for true, predicted in images
    ]
  )
  for name, column in zip(task.classes, davis.T, strict=True):
    np.testing.assert_allclose(
      metrics[f"segmentation/davis/f/{name}"], slow.mean(column), rtol=1e-6
    )
  bands = sum(
    BoundaryIoU.from_batch(*image[::-1], num_classes=task.channels).intersection for image in images
  ) / sum(BoundaryIoU.from_batch(*image[::-1], num_classes=task.channels).union for image in images)
  np.testing.assert_allclose(
    [metrics[f"segmentation/boundary_iou/iou/{name}"] for name in task.classes], bands
  )


def test_segmentation_refuses_bf_without_a_tolerance():
  label = np.zeros((1, 4, 4), np.int32)
  task = Segmentation(classes=("a", "b"), extra_metrics=("bf",))
  with pytest.raises(
    ValueError, match="bf_tolerance of the segmentation task is 0, so BF has no tol"
  ):
    task.extra_metric_states(label, {"label": label})
  with pytest.raises(
    ValueError, match="bf_tolerance=-1.0; expected a part of the image's diagonal"
  ):
    Segmentation(classes=("a", "b"), bf_tolerance=-1.0)


def test_segmentation_finds_boundaries_within_void_bands():
  label = np.array([[[0, 0, 0, 255, 255, 255, 1, 1, 1]]]).repeat(3, 1)
  kinds = ("boundary", "bf", "boundary_iou", "davis")
  options = {"classes": ("a", "b"), "extra_metrics": kinds, "bf_tolerance": 0.2}
  true_pixels = lambda **more: (
    Segmentation(**options, **more)
    .extra_metric_states(np.repeat([[[0] * 5 + [1] * 4]], 3, 1), {"label": label})["boundary"]
    .true.tolist()
  )
  assert true_pixels() == [0, 0] and true_pixels(void_band=3) == [3, 3]
  with pytest.raises(ValueError, match="void_band=-1; expected a width in pixels"):
    Segmentation(classes=("a", "b"), void_band=-1)


def test_evaluate_returns_the_protocol_of_every_metric(evaluated):
  _, _, results = evaluated
  protocols = results[8].protocols
  assert {name.rpartition("/")[0] for name in drop_classes(results[8].metrics)} == set(protocols)
  assert {name.rpartition("/")[0] for name in group_by_class(results[8].metrics)} <= set(protocols)
  assert "theta = 0.220971 of the image diagonal" in protocols["segmentation/bf"]
  assert "each class" in protocols["depth/class"] and "instance" in protocols["depth/instance"]


def test_build_experiment_loads_only_the_truths_that_are_needed():
  run = build_experiment(small.config("iid,depth"))
  assert set(run.source[0]) == set(run.validation[0]) == {"image", "depth"}
  run = build_experiment(small.config("iid,depth", **{"tasks.depth.extra_metrics": ("instance",)}))
  assert set(run.source[0]) == {"image", "depth"}
  assert set(run.validation[0]) == {"image", "depth", "label", "instance"}


def test_task_refuses_unknown_extra_metrics_and_lists_the_known():
  with pytest.raises(
    ValueError, match="unknown extra_metrics 'instances'; known: class, image, inst"
  ):
    dataclasses.replace(Depth(), extra_metrics=("instances",))
  with pytest.raises(ValueError, match="extra_metrics 'instance' without classes"):
    Depth(extra_metrics=("instance",))
  assert Depth(extra_metrics=("image",)).classes == ()
