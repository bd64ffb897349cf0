"""Soft predictions: what may be averaged, and how a flip or another scale is undone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.data.transforms import flip, rescale_depth_and_normals
from tests.helpers import tiny_games as games

SIZE = (10, 18)
TRUTH = {key: value[0] for key, value in games.batch(1).items()}
named = pytest.mark.parametrize("name", list(games.TASKS))


def output(task):
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.normal(size=(1, 5, 9, task.channels)), jnp.float32)


@named
def test_postprocess_of_the_soft_prediction_is_the_prediction(name):
  task = games.TASKS[name]
  soft = np.asarray(task.soft_prediction(output(task), SIZE))[0]
  predicted = np.asarray(task.predict(output(task), SIZE))[0]
  processed = task.postprocess(soft)
  if name == "normals":
    predicted = predicted / np.linalg.norm(predicted, axis=-1, keepdims=True)
    np.testing.assert_allclose(processed, predicted, atol=1e-6)
  else:
    np.testing.assert_array_equal(processed, predicted)
  assert processed.dtype == predicted.dtype


def test_soft_prediction_of_segmentation_is_the_softmax_of_upscaled_logits():
  logits = output(games.TASK)
  upscaled = np.float64(jax.image.resize(logits, (1, *SIZE, 3), "bilinear"))
  powers = np.exp(upscaled)
  np.testing.assert_allclose(
    games.TASK.soft_prediction(logits, SIZE), powers / powers.sum(-1, keepdims=True), rtol=1e-5
  )


@named
def test_flip_undoes_the_flip_of_an_example(name):
  """A perfect prediction of the flipped image becomes the truth."""
  task = games.TASKS[name]
  truth = np.atleast_3d(TRUTH[task.truth_key]).astype(np.float32)
  flipped = np.atleast_3d(flip({task.truth_key: truth})[task.truth_key])
  np.testing.assert_array_equal(task.flip(flipped), truth)
  assert (flipped != truth).any()


@pytest.mark.parametrize("factor", [0.5, 1.7])
@pytest.mark.parametrize("name", ["depth", "normals"])
def test_unscale_undoes_the_rescaling_of_depth_and_normals(name, factor):
  task = games.TASKS[name]
  rescaled = rescale_depth_and_normals({task.truth_key: TRUTH[task.truth_key]}, factor)[
    task.truth_key
  ]
  shape = (*games.SIZE, task.channels)
  np.testing.assert_allclose(
    task.unscale(rescaled.reshape(shape), factor), TRUTH[task.truth_key].reshape(shape), atol=1e-6
  )
  # Half as sure of a direction before, half as sure afterwards.
  half = task.unscale(rescaled.reshape(shape) / 2, factor)
  np.testing.assert_allclose(half, TRUTH[task.truth_key].reshape(shape) / 2, atol=1e-6)


def test_unscale_keeps_probabilities():
  soft = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
  np.testing.assert_array_equal(games.TASK.unscale(soft, 2.0), soft)
