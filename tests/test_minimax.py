"""Gradient reversal, turns, and the joint scalar."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.minimax import PREDICTOR, Summand, Turns, ascend, joint_value
from asmjax.moments import Moments
from tests import games


def test_ascend_is_the_identity_and_reverses_the_gradient():
  tree = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
  value = lambda tree, weight: sum(jnp.sum(x**2) for x in jax.tree.leaves(ascend(tree, weight)))
  assert value(tree, 0.5) == value(tree, -4.0) == 14.0
  for weight in (1.0, 0.25, -3.0, 0.0):
    grads = jax.grad(value)(tree, weight)
    np.testing.assert_allclose(grads["a"], -weight * 2 * tree["a"])
    np.testing.assert_allclose(grads["b"], -weight * 2 * tree["b"])


def test_ascend_takes_a_traced_weight_and_gives_it_no_gradient():
  slope = jax.jit(jax.grad(lambda w: jnp.sum(ascend(jnp.ones(3), w))))(2.0)
  assert slope == 0
  reverse = jax.jit(jax.grad(lambda x, w: jnp.sum(ascend(x, w) ** 2)))
  np.testing.assert_allclose(reverse(jnp.array([1.0, 2.0]), 0.5), [-1.0, -2.0])


def test_ascend_keeps_the_dtype_of_the_cotangent():
  x = jnp.ones(2, jnp.bfloat16)
  assert jax.grad(lambda x: jnp.sum(ascend(x, jnp.float32(2.0))))(x).dtype == jnp.bfloat16


def test_a_bilinear_saddle_is_descended_by_one_and_climbed_by_the_other():
  value = lambda p: jnp.sum(p["x"] * ascend(p["y"]))
  grads = jax.grad(value)({"x": jnp.array(2.0), "y": jnp.array(3.0)})
  assert grads == {"x": 3.0, "y": -2.0}


def test_joint_value_divides_last_and_an_empty_mean_is_zero():
  summands = {
    "a": Summand(2.0, Moments(jnp.array(6.0), jnp.array(3.0))),
    "b": Summand(1.0, Moments(jnp.array(0.0), jnp.array(0.0))),
    "c": Summand(-1.0, Moments(jnp.array([1.0, 8.0]), jnp.array([1.0, 4.0]))),
  }
  assert joint_value(summands) == 2 * 2 + 0 - (1 + 2)
  counts = {"a": jnp.array(1.5), "b": jnp.array(1.0), "c": jnp.array([1.0, 4.0])}
  assert joint_value(summands, counts) == 2 * 4 - 3


@pytest.mark.parametrize(
  "text, turns", [("joint", (0, 0)), ("alternate", (1, 1)), ("alternate(500, 3)", (500, 3))]
)
def test_turns_are_parsed(text, turns):
  assert Turns.parse(text) == Turns(*turns)


@pytest.mark.parametrize("text", ["", "jointly", "alternate(1)", "alternate(0,1)"])
def test_unknown_turns_are_refused_and_the_known_listed(text):
  with pytest.raises(ValueError, match="known: 'joint', 'alternate'"):
    Turns.parse(text)


def test_movers_follow_the_scheme_with_the_critics_first():
  players = (PREDICTOR, "structure", "adversarial")
  assert Turns().movers(7, players) == players
  critics, predictor = players[1:], (PREDICTOR,)
  seen = [Turns(2, 1).movers(step, players) for step in range(6)]
  assert seen == [critics, critics, predictor] * 2
  assert Turns(2, 1).movers(0, (PREDICTOR,)) == predictor


def test_a_game_names_its_players_and_prefixes_their_summands():
  players = games.game(**(games.METHODS["iid"] | games.METHODS["asm"]))
  params, stats = games.variables(players)
  assert set(params) == {PREDICTOR, "structure"} and players.critics == ("structure",)
  played = players.play(params, stats, games.batch(2), rng=jax.random.key(0))
  assert set(played.summands) == {
    "pixel/segmentation", "structure/conv1", "structure/conv2",
    "structure/reconstruction_segmentation",
  }
