"""Affinity fields: who descends, who ascends, and where the weights of the sizes go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR
from asmjax.losses.affinity import SizeWeights, affinity_loss
from asmjax.models.input_transform import IMAGENET
from asmjax.terms.weight import Ramp
from tests.helpers import tiny_games as games

METHODS = games.with_term("affinity")
ADAPTIVE = [method for method in METHODS if method != "affinity"]


def fields(term, probabilities, label, weights):
  """The loss, over all sizes and both kinds."""
  moments = affinity_loss(
    probabilities,
    label,
    sizes=term.sizes,
    neighbors=term.neighbors,
    ignore=term.ignore,
    margin=term.margin,
    weights=weights,
    weight_by=term.weight_by,
  )
  return sum(jnp.sum(each.mean()) for each in moments)


def simplex(params):
  return SizeWeights(
    *(
      jnp.exp(free) / jnp.sum(jnp.exp(free), axis=1, keepdims=True)
      for free in (params["edge"], params["non_edge"])
    )
  )


def own_values(players, params, stats, examples):
  """The predictor descends the weighted loss, and the weights its negative."""
  term = players.terms["affinity"]
  outputs, _ = players.predictor.apply(
    {"params": params[PREDICTOR], "batch_stats": stats[PREDICTOR]},
    IMAGENET(examples["image"]),
    train=True,
    mutable=["batch_stats"],
  )
  weights = simplex(params["affinity"]) if term.adaptive else None
  probabilities = jax.nn.softmax(outputs["segmentation"])
  value = fields(term, probabilities, examples["label"], weights)
  iid = games.TASK.pixel_loss(outputs["segmentation"], examples).mean()
  return {
    PREDICTOR: iid + term.weight * value,
    "affinity": -term.critic_weight * term.weight * value,
  }


@pytest.mark.parametrize("method", METHODS)
def test_affinity_is_descended_by_the_predictor_and_ascended_by_the_weights(method, float64):
  players = games.of_method(method, levels=1, norm="none")
  assert ("affinity" in players.critics) == (method in ADAPTIVE)
  games.assert_joint_gradients_are_own(*games.compile_players_alone(players, own_values))


@pytest.mark.parametrize("method", METHODS)
def test_affinity_ignores_missing_pixels(method):
  games.assert_missing_pixels_are_ignored(games.of_method(method, levels=1), "affinity")


def test_affinity_gradients_add_up_with_those_of_structure(float64):
  both = games.of_method("asm_aaf", levels=1, norm="none")
  params, stats = games.double(games.variables(both))
  gradients = {}
  for names in (("pixel", "structure", "affinity"), ("structure",), ("pixel", "affinity")):
    terms = {name: both.terms[name] for name in names}
    players = games.game("none", levels=1, **terms)
    some = lambda tree, players=players: {k: tree[k] for k in (PREDICTOR, *players.critics)}
    gradients[names[-1], len(names)] = jax.jit(
      lambda params, players=players: games.joint_gradients(players, params, stats, games.batch())
    )(some(params))
  joint, asm, aaf = gradients.values()
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
  jax.tree.map(lambda w, a, b: close(w, a + b), *(g[PREDICTOR] for g in (joint, asm, aaf)))
  for name, alone in (("structure", asm), ("affinity", aaf)):
    jax.tree.map(close, joint[name], alone[name])


@pytest.mark.parametrize("method", ADAPTIVE)
def test_affinity_weights_choose_the_size_with_the_largest_loss(method):
  players = games.of_method(method, levels=1)
  judge, critic, outputs = games.compile_term(players, "affinity")
  term, examples = players.terms["affinity"], games.batch(4)
  params = critic["params"]
  even = SizeWeights(*(jnp.full((3, 2), 1.0),) * 2)
  losses = jax.jit(
    jax.grad(
      lambda weights: fields(
        term, jax.nn.softmax(outputs["segmentation"]), examples["label"], weights
      )
    )
  )(even)
  before = simplex(params)
  np.testing.assert_allclose(before.edge, 0.5)
  for _ in range(40):
    _, (gradients, _) = judge({"params": params}, outputs, examples)
    params = jax.tree.map(lambda p, g: p - 5000.0 * g, params, gradients)
    for weights in simplex(params):
      np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
      assert np.all(weights >= 0)
  for weights, loss in zip(simplex(params), losses, strict=True):
    apart = np.abs(np.diff(loss, axis=1))[:, 0] > 1e-4
    assert apart.any()
    largest = np.argmax(loss, axis=1)
    assert np.all(np.argmax(weights, axis=1)[apart] == largest[apart])
    assert np.all(np.max(weights, axis=1)[apart] > 0.9)
  means, _ = judge({"params": params}, outputs, examples)
  weights = simplex(params)
  for kind in SizeWeights._fields:
    expected = np.mean(np.max(getattr(weights, kind), axis=1))
    np.testing.assert_allclose(means[f"max_weight_{kind}"], expected, rtol=1e-5)


def test_affinity_weight_decays_and_losses_are_reported_by_size():
  term = games.METHODS["affinity"]["affinity"]
  term = type(term)(weight=Ramp(1.0, 0.1), sizes=(3, 5))
  outputs = {"segmentation": jnp.zeros((4, *games.SIZE, 3))}
  ends = [
    games.evaluate(
      term, {"segmentation": games.TASK}, outputs, games.batch(4), progress=progress
    ).losses
    for progress in (0.0, 0.5, 1.0)
  ]
  assert set(ends[0]) == {"edge_3", "edge_5", "non_edge_3", "non_edge_5"}
  for name in ends[0]:
    np.testing.assert_allclose(
      [end[name].predictor_weight for end in ends], [1, 0.1**0.5, 0.1], rtol=1e-6
    )
  # The same everywhere: no divergence, so that every edge costs the full margin.
  assert ends[0]["edge_3"].value.mean() == 3 and ends[0]["non_edge_5"].value.mean() == 0


@pytest.mark.parametrize("method", ["affinity", "aaf"])
def test_affinity_refuses_games_without_segmentation(method):
  with pytest.raises(ValueError, match="need the task segmentation; trained: depth"):
    games.game(tasks=("depth",), **games.METHODS[method])
