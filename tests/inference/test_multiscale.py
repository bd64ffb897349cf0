"""Averages over scales, flipped images and windows, against evaluation and single views."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.data.transforms import pad, resize_image
from asmjax.game import Game
from asmjax.inference.multiscale import make_predict
from asmjax.inference.views import Inference
from asmjax.metrics.confusion import ConfusionMatrix
from asmjax.tasks import Segmentation
from asmjax.train.evaluate import make_evaluate
from tests.helpers import inference_runs
from tests.helpers import tiny_games as games

# Predictors of one network, compiled once.
predictor = functools.lru_cache(
  lambda network=inference_runs.Local, resize="none", divide=True, **settings: make_predict(
    inference_runs.trained(network, resize=resize, scale_depth=divide), Inference(**settings)
  )
)


def estimates(predict, *images):
  """Of each image, in their order."""
  by_index = dict(predict(enumerate(images)))
  assert sorted(by_index) == list(range(len(images)))
  return [by_index[index] for index in range(len(images))]


def conclusions(soft_predictions):
  return {name: games.TASKS[name].postprocess(values) for name, values in soft_predictions.items()}


def evaluated(image):
  """Soft predictions of evaluation for a padded image, and its classes."""
  batch = pad({"image": image}, inference_runs.USUAL, inference_runs.FILL)["image"][None]
  results = evaluation()(batch)
  return {name: np.asarray(values)[0] for name, values in results.items()}


@functools.cache
def evaluation():
  trained = inference_runs.trained(inference_runs.Strided)

  def judge(images):
    outputs = trained.game.predict(trained.variables, images)
    soft_predictions = {
      n: task.soft_prediction(outputs[n], inference_runs.USUAL)
      for n, task in trained.game.tasks.items()
    }
    return soft_predictions | {
      "label": games.TASK.predict(outputs["segmentation"], inference_runs.USUAL)
    }

  return jax.jit(judge)


def flipped(soft_predictions):
  """Of all predictions, as a flip would show them."""
  turned = {name: values[:, ::-1] for name, values in soft_predictions.items()}
  return turned | {"normals": turned["normals"] * np.array([-1, 1, 1], np.float32)}


@pytest.mark.parametrize("size", [inference_runs.USUAL, (11, 24), (13, 7)])
def test_make_predict_of_a_single_view_is_the_evaluation(size):
  image = inference_runs.image(*size)
  (actual,) = estimates(predictor(inference_runs.Strided), image)
  expected = {name: values[: size[0], : size[1]] for name, values in evaluated(image).items()}
  for name in games.TASKS:
    np.testing.assert_allclose(actual[name], expected[name], atol=1e-6)
  np.testing.assert_array_equal(conclusions(actual)["segmentation"], expected["label"])


def test_make_predict_scores_as_the_evaluation_does():
  trained = inference_runs.trained(inference_runs.Strided)
  sizes = [(16, 24), (9, 24), (16, 5), (12, 12), (3, 20), (1, 1), (16, 23), (8, 8)]
  rng, images = (
    np.random.default_rng(0),
    [inference_runs.image(*size, seed=sum(size)) for size in sizes],
  )
  labels = [rng.integers(0, 3, size).astype(np.int32) for size in sizes]
  batch = games.batch(len(sizes), size=inference_runs.USUAL) | {
    "image": np.stack(
      [
        pad({"image": image}, inference_runs.USUAL, inference_runs.FILL)["image"]
        for image in images
      ]
    ),
    "label": np.stack(
      [
        np.pad(
          label, [(0, 16 - label.shape[0]), (0, 24 - label.shape[1])], constant_values=UNLABELED
        )
        for label in labels
      ]
    ),
  }
  scores = make_evaluate(trained.game)(trained.variables, [batch])
  matrix = np.zeros((3, 3), np.int64)
  for label, soft_predictions in zip(
    labels, estimates(predictor(inference_runs.Strided), *images), strict=True
  ):
    np.add.at(matrix, (label, conclusions(soft_predictions)["segmentation"]), 1)
  np.testing.assert_array_equal(matrix, scores.sums["segmentation"]["confusion"])
  assert scores.metrics["segmentation/mean_iou"] == ConfusionMatrix(matrix).mean_iou()


@pytest.mark.parametrize(("resize", "inner"), [("letterbox", (16, 20)), ("stretch", (16, 24))])
def test_make_predict_returns_the_size_of_the_image(resize, inner):
  image = inference_runs.image(32, 40)
  (actual,) = estimates(predictor(inference_runs.Strided, resize), image)
  small = evaluated(resize_image(image, inner))
  for name in games.TASKS:
    expected = resize_image(small[name][: inner[0], : inner[1]], (32, 40)).reshape(32, 40, -1)
    np.testing.assert_allclose(actual[name], expected, atol=1e-5)


def test_make_predict_averages_views():
  image = inference_runs.image(14, 20)
  both = estimates(predictor(scales=(0.5, 1.5)), image)[0]
  views = [estimates(predictor(scales=(scale,)), image)[0] for scale in (0.5, 1.5)]
  for name in games.TASKS:
    np.testing.assert_allclose(both[name], (views[0][name] + views[1][name]) / 2, atol=1e-5)
    assert np.abs(views[0][name] - views[1][name]).max() > 1e-2


@pytest.mark.parametrize("window", [0, 10])
def test_make_predict_undoes_flips_exactly(window):
  image = inference_runs.image(12, 20)
  predict = predictor(inference_runs.Strided, flip=True, window=window)
  upright, turned = estimates(predict, image, image[:, ::-1])
  for name, values in flipped(upright).items():
    np.testing.assert_allclose(turned[name], values, atol=1e-6)
  actual, expected = conclusions(turned), conclusions(flipped(upright))
  np.testing.assert_array_equal(actual["segmentation"], expected["segmentation"])
  # A network that sees one side of a pixel only says something else of the flipped image.
  without_flip = predictor(inference_runs.Strided, window=window)
  upright, turned = estimates(without_flip, image, image[:, ::-1])
  assert all(np.abs(turned[n] - values).max() > 1e-2 for n, values in flipped(upright).items())


@pytest.mark.parametrize(
  "flip, resize, scale, size",
  [
    (False, "none", 1.0, (37, 20)),
    (True, "none", 1.0, (37, 20)),
    # A view of another scale than the evaluation's may have the size of the image.
    (False, "stretch", 2.0, (32, 48)),
  ],
)
def test_make_predict_passes_on_rows_that_are_those_of_the_image(flip, resize, scale, size):
  image = inference_runs.image(*size)
  settings = Inference(window=10, overlap=4, scales=(scale,), flip=flip, batch_size=8)
  trained, rows = inference_runs.trained(resize=resize), []
  ((_, expected),) = make_predict(trained, settings)([("a", image)])
  predict = make_predict(trained, settings, on_rows=lambda *each: rows.append(each))
  assert list(predict([("a", image)])) == [("a", {})]
  assert len(rows) > 4 and {key for key, _ in rows} == {"a"}
  for name in games.TASKS:
    actual = np.concatenate([part[name] for _, part in rows])
    np.testing.assert_allclose(actual, expected[name], atol=1e-6)


def test_make_predict_passes_on_no_rows_of_several_scales_or_one_window():
  image, trained = inference_runs.image(37, 20), inference_runs.trained()
  # Several scales need all of it, and a single window is all of it.
  for inference in (Inference(window=10, scales=(1.0, 1.5)), Inference(window=50)):
    predict = make_predict(trained, inference, on_rows=lambda *_: pytest.fail("rows"))
    ((_, actual),) = predict([("a", image)])
    assert actual["segmentation"].shape[:2] == (37, 20)


@pytest.mark.parametrize("wrong", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)])
def test_make_predict_refuses_what_is_no_image(wrong):
  with pytest.raises(ValueError, match=r"expected \(h, w, 3\) uint8"):
    estimates(predictor(), wrong)


def test_make_predict_in_windows_agrees_within_the_receptive_field():
  """Their overlap has four times the network's reach: beyond that they show all that counts."""
  image, reach = inference_runs.image(*inference_runs.USUAL), inference_runs.REACH
  (complete,) = estimates(predictor(), image)
  (windowed,) = estimates(predictor(window=12, overlap=4 * reach), image)
  for name in games.TASKS:
    np.testing.assert_allclose(windowed[name], complete[name], atol=1e-5)
  # With less, seams show.
  (windowed,) = estimates(predictor(window=12, overlap=1), image)
  assert np.abs(windowed["segmentation"] - complete["segmentation"]).max() > 1e-2


@pytest.mark.parametrize("divide", [True, False])
def test_make_predict_rescales_depths_and_normals_of_a_fixed_camera(divide):
  """What looks twice as large is half as far."""
  image = inference_runs.image(8, 12)
  one, two = (
    estimates(predictor(inference_runs.Constant, divide=divide, scales=(scale,)), image)[0]
    for scale in (1.0, 2.0)
  )
  np.testing.assert_allclose(two["segmentation"], one["segmentation"], atol=1e-6)
  np.testing.assert_allclose(two["depth"], one["depth"] * (2 if divide else 1), rtol=1e-5)
  expected = one["normals"] / np.array([1, 1, 2 if divide else 1])
  expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
  np.testing.assert_allclose(conclusions(two)["normals"], expected, atol=1e-5)


def test_make_predict_compiles_few_shapes(monkeypatch):
  """And images that share batches with others get what they get alone."""
  traced, estimate = [], Segmentation.soft_prediction
  monkeypatch.setattr(
    Segmentation,
    "soft_prediction",
    lambda *args, **options: traced.append(args[2]) or estimate(*args, **options),
  )
  predict = make_predict(
    inference_runs.trained(tasks=("segmentation",)), Inference(scales=(1.0, 1.5), batch_size=3)
  )
  sizes = [(height, width) for height in (3, 9, 14, 16) for width in (5, 12, 19, 24)]
  images = [inference_runs.image(*size, seed=index) for index, size in enumerate(sizes)]
  predictions = estimates(predict, *images)
  assert [prediction["segmentation"].shape[:2] for prediction in predictions] == sizes
  assert sorted(set(traced)) == [inference_runs.USUAL, (32, 64)] and len(traced) == 2
  for index in (0, 7, 15):
    (alone,) = estimates(predict, images[index])
    np.testing.assert_allclose(predictions[index]["segmentation"], alone["segmentation"], atol=1e-6)
  assert len(traced) == 2
  estimates(
    predict, inference_runs.image(17, 30), inference_runs.image(30, 20)
  )  # Too large for the evaluation.
  assert sorted(traced[2:]) == [(32, 32), (64, 32)]


def test_make_predict_bounds_the_images_that_wait():
  """Some go ahead in part of a batch, before the last one is asked for."""
  asked, sizes = [], [(32 * (1 + index // 12), 32 * (1 + index % 12)) for index in range(70)]

  def images():
    for index, size in enumerate(sizes):
      asked.append(index)
      yield index, np.zeros((*size, 3), np.uint8)

  predict = make_predict(
    inference_runs.trained(inference_runs.Constant, tasks=("depth",)), Inference(batch_size=1)
  )
  predictions = predict(images())
  first, estimate = next(predictions)
  assert len(asked) < len(sizes) and estimate["depth"].shape[:2] == sizes[first]


def test_make_predict_resizes_any_number_of_classes():
  classes = tuple(map(str, range(130)))
  network = inference_runs.Constant({"segmentation": len(classes)})
  variables = network.init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), train=False)
  trained = dataclasses.replace(
    inference_runs.trained(inference_runs.Constant),
    variables=variables,
    game=Game(network, {"segmentation": Segmentation(classes)}, {}),
  )
  predict = make_predict(trained, Inference(scales=(0.7, 1.3)))
  (actual,) = estimates(predict, inference_runs.image(14, 21))
  expected = jax.nn.softmax(variables["params"]["segmentation"])
  expected = np.broadcast_to(expected, (14, 21, len(classes)))
  np.testing.assert_allclose(actual["segmentation"], expected, rtol=1e-4)


def test_make_predict_predicts_selected_tasks_alone():
  (actual,) = estimates(predictor(tasks=("depth",)), inference_runs.image(8, 12))
  assert list(actual) == ["depth"]
  with pytest.raises(ValueError, match="unknown task 'dept'; .*known: depth, normals"):
    make_predict(inference_runs.trained(), Inference(tasks=("dept",)))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"scales": ()}, "scales"),
    ({"scales": (1.0, 0.0)}, "scales"),
    ({"window": -1}, "window=-1"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"overlap": 3}, "overlap=3 of windows of 0"),
    ({"overlap": 8, "window": 8}, "overlap=8 of windows of 8"),
  ],
)
def test_inference_refuses_invalid_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    Inference(**settings)
