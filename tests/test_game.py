"""Games: the joint scalar, players, and what a game makes of its terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR, joint_objective
from asmjax.gradients import Probe
from asmjax.losses import cross_entropy
from asmjax.models.input_transform import IMAGENET, SYMMETRIC
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms import Pixel
from asmjax.terms.base import LossTerm, Term, TermOutput
from tests.helpers import tiny_games as games


def test_game_balances_a_term_against_its_pixel_loss_alone():
  terms = lambda **settings: {"pixel": Pixel(), "structure": games.structure(**settings)}
  players = games.game(**terms(weight=50.0, balance=0.2))
  params, stats = games.variables(players)
  probes = {name: Probe(jnp.zeros(()), jnp.zeros(())) for name in players.terms}

  @jax.jit
  def read(probes):
    output = players.compute_losses(
      params, stats, games.batch(2), rng=jax.random.key(0), probes=probes
    )
    return joint_objective(output.losses)

  squares = jax.grad(read)(probes)
  assert squares["structure"].unscaled > squares["pixel"].unscaled == squares["pixel"].scaled > 0
  np.testing.assert_allclose(
    squares["structure"].scaled, 0.2**2 * squares["pixel"].scaled, rtol=1e-5
  )
  for wrong in ({"structure": games.structure(balance=0.2)}, {"pixel": Pixel(balance=0.2)}):
    with pytest.raises(ValueError, match=r"terms\.\w+: balance=.*beside a pixel loss"):
      games.game(**wrong)
  with pytest.raises(ValueError, match="balance=-1.0; expected at least 0"):
    games.structure(balance=-1.0)


def test_joint_objective_divides_last_and_an_empty_mean_is_zero():
  losses = {
    "a": LossTerm(MaskedMean(jnp.array(6.0), jnp.array(3.0)), predictor_weight=2.0),
    "b": LossTerm(MaskedMean(jnp.array(0.0), jnp.array(0.0)), critic_weight=1.0),
    "c": LossTerm(MaskedMean(jnp.array([1.0, 8.0]), jnp.array([1.0, 4.0])), 3.0, 4.0, -1.0),
    "d": LossTerm(MaskedMean(jnp.array(5.0), jnp.array(1.0))),
  }
  assert joint_objective(losses) == 2 * 2 + 0 - (1 + 2)
  counts = {
    "a": jnp.array(1.5),
    "b": jnp.array(1.0),
    "c": jnp.array([1.0, 4.0]),
    "d": jnp.array(1.0),
  }
  assert joint_objective(losses, counts) == 2 * 4 - 3


def test_game_names_players_and_prefixes_losses():
  players = games.game(**(games.METHODS["iid"] | games.METHODS["asm"]))
  params, stats = games.variables(players)
  assert set(params) == {PREDICTOR, "structure"} and players.critics == ("structure",)
  output = jax.eval_shape(
    lambda: players.compute_losses(params, stats, games.batch(2), rng=jax.random.key(0))
  )
  assert set(output.losses) == {
    "pixel/segmentation",
    "structure/conv1",
    "structure/conv2",
    "structure/reconstruction_segmentation",
    "structure/smallest_norm_conv1",
    "structure/smallest_norm_conv2",
  }


def test_input_transform_is_applied_for_the_predictor_alone():
  players = games.game("none", **games.gan(inputs="concatenated"))
  params, stats = games.variables(players)
  examples, means = games.batch(2), {}
  for transform in (IMAGENET, SYMMETRIC):
    transformed = dataclasses.replace(players, input_transform=transform)

    @jax.jit
    def compute(transformed=transformed, transform=transform):
      output = transformed.compute_losses(params, stats, examples, rng=jax.random.key(0))
      logits = players.predictor.apply(
        {"params": params[PREDICTOR]}, transform(examples["image"]), train=True
      )["segmentation"]
      expected = cross_entropy(logits, examples["label"]).mean()
      return {name: part.value.mean() for name, part in output.losses.items()}, expected

    means[transform], expected = compute()
    np.testing.assert_allclose(means[transform]["pixel/segmentation"], expected, rtol=1e-5)
  a, b = means.values()
  assert a["adversarial/discriminator_loss_real"] == b["adversarial/discriminator_loss_real"]
  assert abs(a["pixel/segmentation"] - b["pixel/segmentation"]) > 1e-4


def test_game_critics_are_free_weights_and_networks():
  critics = {
    "iid": (),
    "affinity": (),
    "embedding": (),
    "aaf": ("affinity",),
    "cgan": ("adversarial",),
    "asm_aaf": ("structure", "affinity"),
  }
  assert {name: games.of_method(name).critics for name in critics} == critics


def test_term_must_compute_losses_and_initialize_its_critic():
  with pytest.raises(TypeError, match="abstract"):
    Term()

  class Mute(Term):
    """Says nothing."""

    critic = object()

    def __call__(self, context):
      return TermOutput({})

  assert Mute().diagnose({"a": 1.0}, {}) == {}
  with pytest.raises(NotImplementedError, match="Mute has a critic, but does not initialize it"):
    Mute().init(jax.random.key(0), games.TASKS, games.SIZE)
