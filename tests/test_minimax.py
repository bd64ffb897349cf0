"""Gradient reversal, turns, and the joint scalar."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.minimax import PREDICTOR, Critique, Summand, Term, Turns, ascend, gauged, joint_value
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


def read(tree, cotangent, gauge=0.0):
  """What `gauged` gives for `tree`, sends back for `cotangent`, and reads."""
  found, back = jax.vjp(gauged, tree, gauge)
  sent, reading = back(cotangent)
  return found, sent, reading


@pytest.mark.parametrize("gauge", [0.0, -7.0, jnp.array(3.0)])
def test_gauged_is_the_identity_and_reads_the_norm_of_what_comes_back(gauge):
  rng = np.random.default_rng(0)
  draw = lambda: {
    "a": jnp.array(rng.normal(size=(2, 3)), jnp.float32),
    "b": [jnp.array(rng.normal(), jnp.float32), jnp.array(rng.normal(size=5), jnp.float32)],
  }
  tree, cotangent = draw(), draw()
  found, sent, reading = read(tree, cotangent, gauge)
  jax.tree.map(np.testing.assert_array_equal, found, tree)
  jax.tree.map(np.testing.assert_array_equal, sent, cotangent)
  squares = sum(np.sum(np.square(leaf, dtype=float)) for leaf in jax.tree.leaves(cotangent))
  np.testing.assert_allclose(reading, squares, rtol=1e-6)


def test_gauged_adds_up_half_precision_in_single():
  """bfloat16 knows no number between 4096 and 4128."""
  tree = {"half": jnp.zeros(4099, jnp.bfloat16), "single": jnp.zeros(3)}
  found, sent, reading = read(tree, jax.tree.map(jnp.ones_like, tree))
  assert found["half"].dtype == sent["half"].dtype == jnp.bfloat16
  assert reading.dtype == jnp.float32 and reading == 4099 + 3


def test_gauges_read_what_each_branch_sends_and_several_add_up():
  def value(x, gauges):
    one, two = (gauged(x, gauge) for gauge in gauges)
    return jnp.sum(3 * one) + jnp.sum(two**2)

  x = jnp.array([1.0, -2.0])
  slope, readings = jax.jit(jax.grad(value, (0, 1)))(x, (0.0, 0.0))
  np.testing.assert_allclose(slope, 3 + 2 * x)
  assert readings == (18, 20)


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


def test_turns_are_parsed_with_pretraining():
  assert Turns.parse("alternate(500, 500)", 1000) == Turns(500, 500, 1000)
  assert Turns.parse("joint", 3) == Turns(0, 0, 3)
  with pytest.raises(ValueError, match="-1 steps of pretraining"):
    Turns.parse("joint", -1)


@pytest.mark.parametrize("text", [
  "", "jointly", "alternate(1)", "alternate(0,1)", "alternate(00,1)", "alternate(500, 0)",
  "alternate(500, 500", "alternate(5, 5) ", "alternate(-1, 2)", "alternate(1, 2, 3)",
])
def test_unknown_turns_are_refused_and_the_known_listed(text):
  with pytest.raises(ValueError, match="known: 'joint', 'alternate'"):
    Turns.parse(text)


def test_movers_follow_the_scheme_with_the_critics_first():
  players = (PREDICTOR, "structure", "adversarial")
  assert Turns().movers(7, players) == players
  critics, predictor = players[1:], (PREDICTOR,)
  seen = [Turns(2, 1).movers(step, players) for step in range(6)]
  assert seen == [critics, critics, predictor] * 2


@pytest.mark.parametrize("text, after", [
  ("joint", ["both"] * 6), ("alternate(2, 1)", ["critic", "critic", "predictor"] * 2),
])
def test_pretraining_moves_critics_alone_and_the_scheme_begins_after_it(text, after):
  names = {("adversarial",): "critic", (PREDICTOR,): "predictor"}
  turns, players = Turns.parse(text, 4), (PREDICTOR, "adversarial")
  seen = [names.get(turns.movers(step, players), "both") for step in range(10)]
  assert seen == ["critic"] * 4 + after


@pytest.mark.parametrize("text", [
  "joint", "alternate", "alternate(500, 500)", "alternate(3, 2)", "alternate(1, 7)",
])
@pytest.mark.parametrize("pretraining", [0, 1, 60])
@pytest.mark.parametrize("steps", [0, 1, 40, 1003])
def test_every_scheme_gives_the_predictor_just_its_steps(text, pretraining, steps):
  turns, players = Turns.parse(text, pretraining), (PREDICTOR, "adversarial")
  moves = [PREDICTOR in turns.movers(step, players) for step in range(turns.total(steps))]
  assert sum(moves) == steps and (not moves or moves[-1])
  counted = np.cumsum([0, *moves])
  assert [turns.taken(step) for step in range(len(counted))] == counted.tolist()
  compiled = jax.jit(turns.taken)(jnp.arange(len(counted), dtype=jnp.int32))
  assert compiled.dtype == jnp.int32
  np.testing.assert_array_equal(compiled, counted)


def test_a_slow_scheme_changes_sides_every_500_steps():
  turns, players = Turns.parse("alternate(500, 500)", 100), (PREDICTOR, "adversarial")
  moves = [PREDICTOR in turns.movers(step, players) for step in range(2200)]
  changes = [step for step in range(1, 2200) if moves[step] != moves[step - 1]]
  assert changes == [600, 1100, 1600, 2100] and not moves[0]


def test_a_game_names_its_players_and_prefixes_their_summands():
  players = games.game(**(games.METHODS["iid"] | games.METHODS["asm"]))
  params, stats = games.variables(players)
  assert set(params) == {PREDICTOR, "structure"} and players.critics == ("structure",)
  played = players.play(params, stats, games.batch(2), rng=jax.random.key(0))
  assert set(played.summands) == {
    "pixel/segmentation", "structure/conv1", "structure/conv2",
    "structure/reconstruction_segmentation",
  }


def test_only_free_weights_and_networks_are_players():
  critics = {
    "iid": (), "affinity": (), "embedding": (), "aaf": ("affinity",), "cgan": ("adversarial",),
    "asm_aaf": ("structure", "affinity"),
  }
  assert {name: games.of_method(name).critics for name in critics} == critics


def test_a_term_must_judge_and_one_with_a_critic_must_initialise_it():
  with pytest.raises(TypeError, match="abstract"):
    Term()

  class Mute(Term):
    """Says nothing."""

    critic = object()

    def __call__(self, critic, tasks, outputs, truth, *, progress, rng):
      return Critique({})

  assert Mute().symptoms({"a": 1.0}, {}) == {}
  with pytest.raises(NotImplementedError, match="Mute has a critic, but does not initialise it"):
    Mute().init(jax.random.key(0), games.TASKS, games.SIZE)
