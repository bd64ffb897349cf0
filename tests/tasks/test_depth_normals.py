"""Depth and normals: losses against oracles, starts with a slope, and what is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import negative_cosine, squared_error
from asmjax.tasks import Depth, Normals
from tests.helpers import tiny_games as games
from tests.oracles import dense as reference

BATCH = games.batch(3)
RNG = np.random.default_rng(5)
DEPTHS = jnp.array(RNG.normal(size=(3, *games.SIZE, 1)), jnp.float32)
VECTORS = jnp.array(RNG.normal(size=(3, *games.SIZE, 3)), jnp.float32)


def mean_over_mask(values, mask):
  return np.mean([values[index] for index in np.ndindex(mask.shape) if mask[index]])


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_depth_losses_are_squared_errors_of_meters_and_of_logarithms():
  depth, mask = BATCH["depth"].astype(np.float64), BATCH["depth"] > 0
  meters = np.maximum(np.float64(DEPTHS[..., 0]) + 1, 0)
  expected = mean_over_mask((meters - depth) ** 2, mask)
  np.testing.assert_allclose(Depth().pixel_loss(DEPTHS, BATCH).mean(), expected, rtol=1e-5)
  released = Depth(released=True).reconstruction_loss(DEPTHS, BATCH).mean()
  np.testing.assert_allclose(released, expected, rtol=1e-5)
  logs = (DEPTHS[..., 0] - np.log(np.where(mask, depth, 1))) ** 2
  loss = Depth().reconstruction_loss(DEPTHS, BATCH).mean()
  np.testing.assert_allclose(loss, mean_over_mask(logs, mask), rtol=1e-5)


def test_depth_is_evaluated_up_to_its_cap():
  task = Depth(cap=3.0)
  sums = jax.device_get(task.metric_sums(DEPTHS, BATCH))
  meters = np.asarray(task.predict(DEPTHS, games.SIZE))
  expected = reference.depth_scores(BATCH["depth"], meters, 3.0)
  scores = task.compute_metrics(sums)
  for name, value in expected.items():
    np.testing.assert_allclose(scores[name], value, rtol=1e-5, err_msg=name)
  assert np.any(BATCH["depth"] > 3) and Depth().compute_metrics(
    jax.device_get(Depth().metric_sums(DEPTHS, BATCH))
  ) != pytest.approx(scores)


def test_normals_losses_are_distances_of_unit_vectors_and_cosines():
  mask = (BATCH["normals"] != 0).any(-1)
  vectors = unit(np.float64(VECTORS) + [0, 0, 1])
  cosine = (vectors * BATCH["normals"]).sum(-1)
  expected = mean_over_mask(cosine, mask)
  loss = lambda task, name: getattr(task, name)(VECTORS, BATCH).mean()
  np.testing.assert_allclose(loss(Normals(), "pixel_loss"), 2 - 2 * expected, rtol=1e-5)
  np.testing.assert_allclose(loss(Normals(released=True), "pixel_loss"), -10 * expected, rtol=1e-4)
  for task, rebuilt in ((Normals(), 2 - 2 * expected), (Normals(released=True), -expected)):
    np.testing.assert_allclose(loss(task, "reconstruction_loss"), rebuilt, rtol=1e-4)


@pytest.mark.parametrize("task", [Depth(), Normals()], ids=["depth", "normals"])
def test_task_structure_of_a_true_prediction_is_that_of_the_truth(task):
  """And the least pixel loss; structures are 0 where the truth is missing."""
  if task.truth_key == "depth":
    output = jnp.array(BATCH["depth"][..., None] - 1)
  else:
    output = jnp.array(BATCH["normals"] - np.array([0, 0, 1], np.float32))
  mask = np.asarray(task.mask(BATCH)) > 0
  true, structure = task.true_structure(BATCH), task.structure(output)
  close = np.abs(true - structure).max(-1, keepdims=True) < 1e-5
  assert close[mask].all() and not np.any(np.where(mask, 0, true))
  assert abs(task.pixel_loss(output, BATCH).mean()) < 1e-6
  scores = task.compute_metrics(jax.device_get(task.metric_sums(jnp.asarray(output), BATCH)))
  perfect = {"depth": ("delta_1.25^0.125", "rel"), "normals": ("within_2.82", "mean")}[
    task.truth_key
  ]
  assert scores[perfect[0]] == 1 and scores[perfect[1]] < 0.05


@pytest.mark.parametrize("task", [Depth(), Normals()], ids=["depth", "normals"])
def test_task_losses_have_a_gradient_at_an_output_of_zeros(task):
  """A network that starts at zero is neither stuck nor thrown off."""
  zeros = jnp.zeros((3, *games.SIZE, task.channels))
  for of in (
    task.pixel_loss,
    lambda x, b: squared_error(task.structure(x), task.true_structure(b), mask=task.mask(b)),
  ):
    slope = jax.grad(lambda x, of=of: of(x, BATCH).total)(zeros)
    mask = np.asarray(task.mask(BATCH))[..., 0] > 0
    steepest = np.abs(slope).max(-1)
    assert (steepest[mask] > 0).mean() > 0.95 and steepest.max() < 50
    assert not steepest[~mask].any()


def test_task_losses_and_metrics_ignore_truths_that_are_not_finite():
  bad = {"depth": BATCH["depth"].copy(), "normals": BATCH["normals"].copy()}
  bad["depth"][0, 0, :3] = [np.nan, np.inf, -1]
  bad["normals"][0, 0, 0] = np.nan
  for task, output in ((Depth(), DEPTHS), (Normals(), VECTORS)):
    value, slope = jax.value_and_grad(lambda x, t=task: t.pixel_loss(x, bad).mean())(output)
    assert np.isfinite(value) and np.isfinite(slope).all() and not slope[0, 0, 0].any()
    assert np.isfinite(task.true_structure(bad)).all()
    assert np.isfinite(
      list(task.compute_metrics(jax.device_get(task.metric_sums(output, bad))).values())
    ).all()


def test_squared_error_and_negative_cosine_are_zero_where_nothing_counts():
  mask = np.zeros((3, *games.SIZE, 1), np.float32)
  for loss in (squared_error, negative_cosine):
    assert loss(VECTORS, VECTORS[::-1], mask=mask) == (0, 0)


@pytest.mark.parametrize("task", [Depth(), Normals()], ids=["depth", "normals"])
def test_draw_comparison_draws_missing_truth_black_and_its_error_gray(task):
  output = jnp.zeros((3, 4, 6, task.channels))
  pictures = task.draw_comparison(output, BATCH, np.zeros((0, 3), np.uint8))
  assert set(pictures) == {"truth", "prediction", "error"}
  missing = np.asarray(task.mask(BATCH))[..., 0] == 0
  assert all(picture.shape == (3, *games.SIZE, 3) for picture in pictures.values())
  assert not pictures["truth"][missing].any() and (pictures["error"][missing] == 128).all()
  assert pictures["truth"][~missing].any(-1).all() and pictures["prediction"].any(-1).all()
