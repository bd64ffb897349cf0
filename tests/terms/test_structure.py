"""Adversarial structure matching: signs, gradients, masks, and the theory in numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asmjax.batch import normalise
from asmjax.losses import layer_distances, matching_hinge
from asmjax.losses.matching import pooled_valid
from asmjax.minimax import PREDICTOR
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.terms import Structure
from asmjax.terms.weight import Exponential
from tests import games

WITH_CRITIC = [method for method, terms in games.METHODS.items() if "structure" in terms]
CLIMBING = [
  method for method in WITH_CRITIC if not games.METHODS[method]["structure"].reconstruction
]


def own_values(players, params, stats, examples):
  """Each player's own value, written down without `ascend`, and V as the critic sees it."""
  term = players.terms["structure"]
  outputs, _ = players.predictor.apply(
    {"params": params[PREDICTOR], "batch_stats": stats[PREDICTOR]},
    normalise(examples["image"]), train=True, mutable=["batch_stats"],
  )
  logits = outputs["segmentation"]
  valid = games.TASK.valid(examples)
  critic = lambda x: term.critic.apply({"params": params["structure"]}, x * valid)
  truth, rebuilt = critic(games.TASK.true_structure(examples))
  soft, _ = critic(jax.nn.softmax(logits))
  shown, _ = critic(games.TASK.binarised(logits)) if term.binarise else (soft, None)
  cells = {
    layer: pooled_valid(valid, truth[layer].shape[1:3], partly=term.partly) for layer in term.layers
  }
  distance = lambda features: sum(moments.mean() for moments in layer_distances(
    features, truth, term.layers, valid=cells, normalise=term.normalise
  ).values())
  hinge = sum(
    matching_hinge(shown[layer], truth[layer], margin=term.margin, valid=cells[layer]).mean()
    for layer in term.layers
  )
  iid = games.TASK.pixel_loss(logits, examples).mean()
  pixel = players.terms["pixel"].weight * iid if "pixel" in players.terms else 0.0
  rebuilding = games.TASK.reconstruction_loss(rebuilt, examples).mean()
  climbed = hinge if term.margin else -distance(shown)
  return {
    PREDICTOR: term.weight * distance(soft) + pixel,
    "structure": term.ascent * climbed + term.reconstruction * rebuilding,
    "seen": distance(shown),
  }


@functools.cache
def compiled(method):
  """The values, each player's own gradient, and the joint gradient, in double precision."""
  players = games.game(**games.METHODS[method])

  @jax.jit
  def everything(params, stats, examples):
    def own(player):
      return jax.grad(
        lambda mine: own_values(players, {**params, player: mine}, stats, examples)[player]
      )(params[player])

    return {
      "values": own_values(players, params, stats, examples),
      "own": {player: own(player) for player in (PREDICTOR, "structure")},
      "joint": games.joint_gradients(players, params, stats, examples),
    }

  params, stats = games.double(games.variables(players))
  return lambda **moved: everything({**params, **moved}, stats, games.batch()), params


@pytest.mark.parametrize("method", WITH_CRITIC)
def test_the_joint_gradient_is_that_of_each_players_own_value(method, float64):
  play, _ = compiled(method)
  played = play()
  for player, own in played["own"].items():
    scale = float(optax.tree.norm(own))
    assert scale > 0
    jax.tree.map(
      lambda a, b, s=scale: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * s),
      played["joint"][player], own,
    )


def moved(params, direction, length):
  return jax.tree.map(lambda p, d: p + length * d, params, direction)


@pytest.mark.parametrize("method", WITH_CRITIC)
def test_gradients_agree_with_finite_differences(method, float64):
  play, params = compiled(method)
  gradients = play()["joint"]
  rng = np.random.default_rng(0)
  for player, gradient in gradients.items():
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params[player])
    ends = [
      play(**{player: moved(params[player], direction, length)})["values"][player]
      for length in (1e-6, -1e-6)
    ]
    expected = optax.tree.vdot(gradient, direction)
    np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-5)


@pytest.mark.parametrize("method", WITH_CRITIC)
def test_each_player_lowers_its_own_value(method, float64):
  play, params = compiled(method)
  before = play()
  for player, gradient in before["joint"].items():
    length = -1e-3 / float(optax.tree.norm(gradient))
    after = play(**{player: moved(params[player], gradient, length)})
    assert after["values"][player] < before["values"][player]


@pytest.mark.parametrize("method", CLIMBING)
def test_the_critic_raises_the_distance_it_sees(method, float64):
  assert change_of_distance(method, "structure") > 0


@pytest.mark.parametrize("method", ["asm", "asm_no_rec", "asm_released"])
def test_the_predictor_lowers_the_distance(method, float64):
  assert change_of_distance(method, PREDICTOR) < 0


def change_of_distance(method, player):
  play, params = compiled(method)
  before = play()
  gradient = before["joint"][player]
  length = -1e-3 / float(optax.tree.norm(gradient))
  after = play(**{player: moved(params[player], gradient, length)})
  return after["values"]["seen"] - before["values"]["seen"]


@pytest.mark.parametrize("method", ["asm", "asm_released", "asm_binarised"])
def test_ignored_pixels_have_exactly_no_gradient_in_predictor_and_critic(method):
  term = games.METHODS[method]["structure"]
  examples = games.batch(4)
  rng = np.random.default_rng(1)
  logits = jnp.array(rng.normal(size=(4, *games.SIZE, 3)), jnp.float32)
  tasks = {"segmentation": games.TASK}
  params = term.init(jax.random.key(0), tasks, games.SIZE)["params"]

  @jax.jit
  def gradients(params, logits):
    def value(params, logits):
      critique = term(
        {"params": params}, tasks, {"segmentation": logits}, examples, progress=0.0,
        rng=jax.random.key(0),
      )
      return sum(s.weight * s.moments.mean() for s in critique.summands.values())
    return jax.grad(value, (0, 1))(params, logits)

  of_critic, of_logits = gradients(params, logits)
  ignored = examples["label"] == 255
  assert np.all(of_logits[ignored] == 0) and np.any(of_logits[~ignored] != 0)
  elsewhere = jnp.where(ignored[..., None], rng.normal(size=logits.shape), logits)
  jax.tree.map(np.testing.assert_array_equal, of_critic, gradients(params, elsewhere)[0])


def value_of(term, params, predicted, truth):
  """V for structures given directly, all valid."""
  features = [term.critic.apply({"params": params}, x)[0] for x in (predicted, truth)]
  valid = {layer: jnp.ones((*features[0][layer].shape[:3], 1)) for layer in term.layers}
  layers = layer_distances(*features, term.layers, valid=valid, normalise=term.normalise)
  return sum(moments.mean() for moments in layers.values())


def test_the_value_is_zero_where_the_prediction_is_true():
  for method in ("asm", "asm_released"):
    term = games.METHODS[method]["structure"]
    truth = games.TASK.true_structure(games.batch())
    for seed in range(3):
      params = term.critic.init(jax.random.key(seed), truth)["params"]
      assert value_of(term, params, truth, truth) == 0
      assert value_of(term, params, truth[:, ::-1], truth) > 0


@pytest.fixture(scope="module")
def climb():
  """V after n ascents of an analyzer that is linear: one convolution, tapped before its ReLU."""
  term = Structure(layers=("conv1",), critic=StructureAutoencoder(filters=(4,)))
  truth = games.TASK.true_structure({"label": jnp.array(games.batch()["label"])})
  wrong = truth[:, :, ::-1]
  start = term.critic.init(jax.random.key(0), truth)["params"]

  def run(tx, steps=100):
    def body(carry, _):
      params, state = carry
      value, grads = jax.value_and_grad(lambda p: value_of(term, p, wrong, truth))(params)
      updates, state = tx.update(jax.tree.map(jnp.negative, grads), state, params)
      return (optax.apply_updates(params, updates), state), value
    return jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), length=steps)[1])()

  return run


def test_a_free_linear_analyzer_grows_without_bound(climb):
  values = climb(optax.sgd(0.5))
  assert np.all(np.diff(values) > 0) and values[-1] > 1e6 * values[0]
  # Geometric, hence without bound: the factor from step to step does not fall.
  factors = values[1:] / values[:-1]
  assert factors[-1] >= factors[20] > 1.05


def test_capping_makes_the_growth_polynomial_and_decay_bounds_it(climb):
  capped = climb(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5)))
  free = climb(optax.sgd(0.5))
  assert capped[-1] < 1e-3 * free[-1]
  # |W| grows by at most 0.5 a step: the root of V settles to linear growth.
  paces = np.diff(np.sqrt(capped))
  np.testing.assert_allclose(paces[-1], paces[-20], rtol=2e-2)
  decayed = climb(
    optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.5), optax.sgd(0.5)),
    steps=400,
  )
  np.testing.assert_allclose(decayed[-1], decayed[-100], rtol=1e-4)


def test_the_hinge_stops_the_climb_at_the_margin():
  term = games.structure(**games.RELEASED)
  truth = games.TASK.true_structure({"label": jnp.array(games.batch()["label"] % 3)})
  params = term.critic.init(jax.random.key(0), truth)["params"]
  far = StructureAutoencoder(filters=(4, 6)).apply({"params": params}, truth)[0]
  hinge = lambda x: matching_hinge(x, far["conv1"], margin=0.8).mean()
  value, slope = jax.value_and_grad(hinge)(-far["conv1"])
  assert value == 0 and np.all(slope == 0)


def test_the_weights_of_both_players_follow_their_schedules(float64):
  falling = games.structure(
    reconstruction=0.0, weight=Exponential(3.0, 0.3), ascent=Exponential(0.5, 0.05)
  )
  players = games.game(structure=falling)
  params, stats = games.double(games.variables(players))
  gradients = jax.jit(
    lambda progress: games.joint_gradients(players, params, stats, games.batch(), progress=progress)
  )
  plain, _ = compiled("asm_no_rec")
  for progress, factor in ((0.0, 1.0), (0.5, 0.1**0.5), (1.0, 0.1)):
    scaled = gradients(progress)
    for player, weight in ((PREDICTOR, 3.0), ("structure", 0.5)):
      jax.tree.map(
        lambda a, b, w=weight * factor: np.testing.assert_allclose(a, w * b, rtol=1e-6, atol=1e-12),
        scaled[player], plain()["joint"][player],
      )


def test_an_unknown_layer_is_refused_and_the_known_listed():
  with pytest.raises(ValueError, match=r"conv9.*known: \('conv1', 'conv2', 'conv3'\)"):
    games.structure(layers=("conv1", "conv9"))
  with pytest.raises(ValueError, match="positive"):
    Exponential(1.0, 0.0)
