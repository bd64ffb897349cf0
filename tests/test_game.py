"""Turns, the joint scalar, and what a game makes of its terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR, Critique, Summand, Term, Turns, joint_value
from asmjax.gradients import Probe
from asmjax.losses import cross_entropy
from asmjax.models.input_transform import IMAGENET, SYMMETRIC
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms import Pixel
from tests.helpers import tiny_games as games


def test_a_game_balances_a_term_against_its_pixel_loss_alone():
  terms = lambda **settings: {"pixel": Pixel(), "structure": games.structure(**settings)}
  players = games.game(**terms(weight=50.0, balance=0.2))
  params, stats = games.variables(players)
  probes = {name: Probe(jnp.zeros(()), jnp.zeros(())) for name in players.terms}

  @jax.jit
  def read(probes):
    played = players.play(params, stats, games.batch(2), rng=jax.random.key(0), probes=probes)
    return joint_value(played.summands)

  found = jax.grad(read)(probes)
  assert found["structure"].raw > found["pixel"].raw == found["pixel"].sent > 0
  np.testing.assert_allclose(found["structure"].sent, 0.2**2 * found["pixel"].sent, rtol=1e-5)
  for wrong in (
    {"structure": games.structure(balance=0.2)},
    terms(balance=-1.0),
    {"pixel": Pixel(balance=0.2)},
  ):
    with pytest.raises(ValueError, match=r"terms\.\w+: balance=.*beside a pixel loss"):
      games.game(**wrong)


def test_joint_value_divides_last_and_an_empty_mean_is_zero():
  summands = {
    "a": Summand(2.0, MaskedMean(jnp.array(6.0), jnp.array(3.0))),
    "b": Summand(1.0, MaskedMean(jnp.array(0.0), jnp.array(0.0))),
    "c": Summand(-1.0, MaskedMean(jnp.array([1.0, 8.0]), jnp.array([1.0, 4.0]))),
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


@pytest.mark.parametrize(
  "text",
  [
    "",
    "jointly",
    "alternate(1)",
    "alternate(0,1)",
    "alternate(00,1)",
    "alternate(500, 0)",
    "alternate(500, 500",
    "alternate(5, 5) ",
    "alternate(-1, 2)",
    "alternate(1, 2, 3)",
  ],
)
def test_unknown_turns_are_refused_and_the_known_listed(text):
  with pytest.raises(ValueError, match="known: 'joint', 'alternate'"):
    Turns.parse(text)


def test_movers_follow_the_scheme_with_the_critics_first():
  players = (PREDICTOR, "structure", "adversarial")
  assert Turns().movers(7, players) == players
  critics, predictor = players[1:], (PREDICTOR,)
  seen = [Turns(2, 1).movers(step, players) for step in range(6)]
  assert seen == [critics, critics, predictor] * 2


@pytest.mark.parametrize(
  "text, after",
  [("joint", ["both"] * 6), ("alternate(2, 1)", ["critic", "critic", "predictor"] * 2)],
)
def test_pretraining_moves_critics_alone_and_the_scheme_begins_after_it(text, after):
  names = {("adversarial",): "critic", (PREDICTOR,): "predictor"}
  turns, players = Turns.parse(text, 4), (PREDICTOR, "adversarial")
  seen = [names.get(turns.movers(step, players), "both") for step in range(10)]
  assert seen == ["critic"] * 4 + after


@pytest.mark.parametrize(
  "text", ["joint", "alternate", "alternate(500, 500)", "alternate(3, 2)", "alternate(1, 7)"]
)
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
    "pixel/segmentation",
    "structure/conv1",
    "structure/conv2",
    "structure/reconstruction_segmentation",
    "structure/smallest_conv1",
    "structure/smallest_conv2",
  }


def test_input_transform_is_what_the_predictor_sees_and_discriminators_do_not():
  made = games.game("none", **games.gan(inputs="concatenated"))
  params, stats = games.variables(made)
  examples, means = games.batch(2), {}
  for transform in (IMAGENET, SYMMETRIC):
    played = dataclasses.replace(made, input_transform=transform).play(
      params, stats, examples, rng=jax.random.key(0)
    )
    means[transform] = {name: part.moments.mean() for name, part in played.summands.items()}
    said = made.predictor.apply(
      {"params": params[PREDICTOR]}, transform(examples["image"]), train=True
    )["segmentation"]
    expected = cross_entropy(said, examples["label"]).mean()
    np.testing.assert_allclose(means[transform]["pixel/segmentation"], expected, rtol=1e-5)
  one, other = means.values()
  assert one["adversarial/judge_real"] == other["adversarial/judge_real"]
  assert abs(one["pixel/segmentation"] - other["pixel/segmentation"]) > 1e-4


def test_only_free_weights_and_networks_are_players():
  critics = {
    "iid": (),
    "affinity": (),
    "embedding": (),
    "aaf": ("affinity",),
    "cgan": ("adversarial",),
    "asm_aaf": ("structure", "affinity"),
  }
  assert {name: games.of_method(name).critics for name in critics} == critics


def test_a_term_must_judge_and_one_with_a_critic_must_initialize_it():
  with pytest.raises(TypeError, match="abstract"):
    Term()

  class Mute(Term):
    """Says nothing."""

    critic = object()

    def __call__(self, critic, tasks, outputs, truth, *, progress, rng):
      return Critique({})

  assert Mute().symptoms({"a": 1.0}, {}) == {}
  with pytest.raises(NotImplementedError, match="Mute has a critic, but does not initialize it"):
    Mute().init(jax.random.key(0), games.TASKS, games.SIZE)
