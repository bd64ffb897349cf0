"""Terms that are a loss on class maps: what they hand to the loss, and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax import terms
from asmjax.losses import (
  boundary_loss,
  cl_dice_loss,
  dice_loss,
  generalized_dice_loss,
  lovasz_softmax,
  region_mutual_information_loss,
  tversky_loss,
)
from asmjax.terms.weight import Ramp
from tests.helpers import tiny_games as games

TERMS = {
  "dice": (
    terms.Dice(squared=True, smooth=0.5, classes="all"),
    functools.partial(dice_loss, squared=True, smooth=0.5, classes="all"),
  ),
  "generalized_dice": (
    terms.GeneralizedDice(smooth=0.1),
    functools.partial(generalized_dice_loss, smooth=0.1),
  ),
  "tversky": (
    terms.Tversky(alpha=0.2, beta=0.9, gamma=0.75),
    functools.partial(tversky_loss, alpha=0.2, beta=0.9, gamma=0.75),
  ),
  "lovasz": (terms.Lovasz(classes="all"), functools.partial(lovasz_softmax, classes="all")),
  "boundary": (terms.Boundary(), boundary_loss),
  "cl_dice": (terms.ClDice(iterations=1), functools.partial(cl_dice_loss, iterations=1)),
  "region_mutual_information": (
    terms.RegionMutualInformation(stride=2, epsilon=1e-3),
    functools.partial(region_mutual_information_loss, stride=2, epsilon=1e-3),
  ),
}


@pytest.mark.parametrize("name", TERMS)
def test_region_loss_is_the_loss_of_the_probabilities_with_its_options(name):
  term, loss = TERMS[name]
  rng = np.random.default_rng(0)
  logits = jnp.array(rng.normal(size=(4, *games.SIZE, 3)), jnp.float32)
  tasks, truth = {"segmentation": games.TASK}, games.batch(4)
  (found,) = games.evaluate(term, tasks, {"segmentation": logits}, truth).losses.values()
  expected = loss(jax.nn.softmax(logits), truth["label"])
  jax.tree.map(np.testing.assert_array_equal, found.value, expected)
  assert (found.predictor_weight, found.critic_weight) == (1.0, 0.0)


@pytest.mark.parametrize("name", TERMS)
def test_region_loss_ignores_missing_pixels(name):
  players = games.game("none", levels=1, pixel=terms.Pixel(), **{name: TERMS[name][0]})
  games.assert_missing_pixels_are_ignored(players, name)


def test_region_loss_has_a_weight_that_may_grow():
  term = terms.Boundary(weight=Ramp(0.0, 2.0, shape="linear"))
  outputs = {"segmentation": jnp.zeros((2, *games.SIZE, 3))}
  at = lambda progress: float(
    games.evaluate(term, {"segmentation": games.TASK}, outputs, games.batch(2), progress=progress)
    .losses["segmentation"]
    .predictor_weight
  )
  assert [at(0.0), at(0.5), at(1.0)] == [0.0, 1.0, 2.0]


def test_region_loss_refuses_other_tasks_and_impossible_options():
  with pytest.raises(ValueError, match="Dice needs the task segmentation; trained: depth"):
    games.game(tasks=("depth",), dice=terms.Dice())
  with pytest.raises(ValueError, match="unknown classes 'some'; known: present, all"):
    terms.Lovasz(classes="some")
  with pytest.raises(ValueError, match="gamma=0.0; expected a number above 0"):
    terms.Tversky(gamma=0.0)
