"""Terms that are a loss on the shape of depth and normals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax import terms
from asmjax.losses import (
  edge_aware_smoothness,
  gradient_matching_loss,
  scale_invariant_log_loss,
  ssim_loss,
)
from tests.helpers import tiny_games as games

TASKS = {name: games.TASKS[name] for name in ("depth", "normals")}
TERMS = {
  "scale_invariant_log": terms.ScaleInvariantLog(),
  "gradient_matching": terms.GradientMatching(scales=2),
  "ssim": terms.SSIM(window=3),
}


def outputs(n=4):
  rng = np.random.default_rng(0)
  maps = {
    "depth": rng.uniform(0, 4, (n, *games.SIZE, 1)),
    "normals": rng.normal(size=(n, *games.SIZE, 3)),
  }
  return {name: jnp.array(x, jnp.float32) for name, x in maps.items()}


def evaluate(term, truth):
  losses = games.evaluate(term, TASKS, outputs(), truth).losses
  return {name: float(loss.value.mean()) for name, loss in losses.items()}


def test_geometry_losses_are_those_of_meters_logarithms_and_unit_normals():
  truth = games.batch(4)
  meters, normals = outputs()["depth"] + 1, TASKS["normals"].structure(outputs()["normals"])
  true, mask = truth["depth"][..., None], {k: task.mask(truth) for k, task in TASKS.items()}
  known = np.where(mask["depth"] > 0, true, 1)
  near = lambda expected: pytest.approx(float(expected.mean()), rel=1e-4)
  found = evaluate(terms.ScaleInvariantLog(scale_invariance=0.8), truth)
  assert found == {
    "depth": near(scale_invariant_log_loss(meters, known, mask=mask["depth"], scale_invariance=0.8))
  }
  assert evaluate(TERMS["gradient_matching"], truth) == {
    "depth": near(
      gradient_matching_loss(np.log(meters), np.log(known), mask=mask["depth"], scales=2)
    ),
    "normals": near(
      gradient_matching_loss(normals, truth["normals"], mask=mask["normals"], scales=2)
    ),
  }
  assert evaluate(terms.SSIM(window=3, value_range=5.0, tasks=("depth",)), truth) == {
    "depth": near(ssim_loss(meters, known, mask=mask["depth"], window=3, value_range=5.0))
  }
  assert evaluate(terms.SSIM(window=3, tasks=("normals",)), truth) == {
    "normals": near(
      ssim_loss(normals, truth["normals"], mask=mask["normals"], window=3, value_range=2.0)
    )
  }
  image = np.float32(truth["image"]) / 255
  assert evaluate(terms.Smoothness(sharpness=3.0, tasks=("normals",)), truth) == {
    "normals": near(edge_aware_smoothness(normals, image, sharpness=3.0))
  }


@pytest.mark.parametrize("name", TERMS)
def test_geometry_losses_are_descended_with_the_weights_of_their_tasks(name):
  tasks = {"depth": dataclasses.replace(TASKS["depth"], weight=0.3)}
  term = dataclasses.replace(TERMS[name], weight=0.5)
  (loss,) = games.evaluate(term, tasks, outputs(), games.batch(4)).losses.values()
  assert (loss.predictor_weight, loss.critic_weight) == (pytest.approx(0.15), 0)


def test_smoothness_takes_the_image_at_the_size_of_the_outputs():
  truth = games.batch(4, size=(16, 24))
  truth["depth"] = truth["depth"][:, ::2, ::2]
  term = terms.Smoothness(tasks=("depth",))
  loss = games.evaluate(term, TASKS, outputs(), truth).losses["depth"].value
  image = jax.image.resize(jnp.float32(truth["image"]) / 255, (4, *games.SIZE, 3), "bilinear")
  log = jnp.log(outputs()["depth"] + 1)
  expected = edge_aware_smoothness(log, image, sharpness=10.0)
  np.testing.assert_allclose(loss.mean(), expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("name", TERMS)
def test_geometry_losses_ignore_missing_pixels(name):
  players = games.game("none", ("depth",), levels=1, pixel=terms.Pixel(), **{name: TERMS[name]})
  games.assert_missing_pixels_are_ignored(players, name)


def test_geometry_losses_refuse_other_tasks():
  with pytest.raises(ValueError, match="SSIM needs the task depth or normals; trained: segment"):
    games.game(ssim=terms.SSIM())
  with pytest.raises(ValueError, match="is not defined for normals; known: depth"):
    terms.ScaleInvariantLog(tasks=("normals",))
  with pytest.raises(ValueError, match="GradientMatching needs the task normals; trained: depth"):
    games.game(tasks=("depth",), gradient_matching=terms.GradientMatching(tasks=("normals",)))
