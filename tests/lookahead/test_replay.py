"""Critics that are trained on earlier predictions in place of the predictor's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.batch import REPLAY, check
from asmjax.game import PREDICTOR, joint_objective
from asmjax.ops.masked_mean import MaskedMean
from tests.helpers import tiny_games as games

# One method of every form that a critic's loss has.
CRITICS = (
  "asm",
  "asm_released",
  "asm_binarized",
  "asm_normals",
  "gan_product",
  "gan_joint_batch",
  "gan_penalty",
  "gan_all",
  "aaf",
)


def with_predictions(players, seed=1):
  """A batch with random earlier predictions of what is trained."""
  examples, others = games.batch(4), games.batch(4, seed=seed)
  keys = [task.truth_key for task in players.tasks.values()]
  return examples | {REPLAY + key: np.where(others[key] == 255, 0, others[key]) for key in keys}


@functools.cache
def played(method):
  """The game, its parameters, and its joint gradients and means, in double precision."""
  players = games.of_method(method, levels=1)
  params, stats = games.double(games.variables(players))

  @jax.jit
  def everything(params, examples):
    def objective(params):
      losses = players.compute_losses(params, stats, examples, rng=jax.random.key(0)).losses
      return joint_objective(losses), losses

    gradients, losses = jax.grad(objective, has_aux=True)(params)
    means = {name: loss.value.mean() for name, loss in losses.items()}
    return gradients, means, {name: critic_objective(name, losses) for name in players.critics}

  return players, params, everything


def critic_objective(name, losses):
  """What a critic descends: the means of its term's losses, times their critic weights."""
  own = [loss for key, loss in losses.items() if key.startswith(f"{name}/")]
  return sum(jnp.sum(loss.critic_weight * loss.value.mean()) for loss in own)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", CRITICS)
def test_replay_gives_critics_their_objective_and_the_predictor_no_gradient(method):
  players, params, everything = played(method)
  examples = with_predictions(players)
  check(examples)
  gradients, means, _ = everything(params, examples)
  for leaf in jax.tree.leaves(gradients[PREDICTOR]):
    assert np.all(leaf == 0)
  assert {name.partition("/")[0] for name in means} == set(players.critics)
  for name in players.critics:
    square = sum(float(np.sum(np.square(each))) for each in jax.tree.leaves(gradients[name]))
    length = 1e-6 / square**0.5
    losses = []
    for sign in (1, -1):
      step = lambda p, g, s=sign * length: p + s * g
      moved = {**params, name: jax.tree.map(step, params[name], gradients[name])}
      losses.append(float(everything(moved, examples)[2][name]))
    # The slope of the loss along its own gradient is the gradient's square.
    np.testing.assert_allclose((losses[0] - losses[1]) / (2 * length), square, rtol=2e-3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", ["gan_product", "asm", "gan_all", "aaf"])
def test_replay_equals_outputs_of_a_predictor(method):
  players, params, everything = played(method)
  examples = with_predictions(players)
  outputs = {
    name: task.from_prediction(examples[REPLAY + task.truth_key])
    for name, task in players.tasks.items()
  }
  truth = {key: value for key, value in examples.items() if not key.startswith(REPLAY)}
  _, means, _ = everything(params, examples)
  for name in players.critics:
    term = players.terms[name]
    # The same key as the game's: it splits one for the predictor and each term in turn.
    keys = jax.random.split(jax.random.key(0), 1 + len(players.terms))
    key = keys[1 + list(players.terms).index(name)]
    critic = {"params": params[name], "batch_stats": {}}
    losses = jax.jit(
      lambda outputs, term=term, critic=critic, key=key: (
        games.evaluate(term, players.tasks, outputs, truth, critic=critic, rng=key).losses
      )
    )(outputs)
    for summand, expected in losses.items():
      np.testing.assert_allclose(
        means[f"{name}/{summand}"], MaskedMean(*expected.value).mean(), rtol=1e-5, atol=1e-6
      )


@pytest.mark.parametrize("name", list(games.TASKS))
def test_from_prediction_is_inverted_by_predict(name):
  task, truth = games.TASKS[name], games.batch(4)
  known = np.asarray(task.mask(truth))[..., 0] > 0
  prediction = truth[task.truth_key]
  recovered = np.asarray(task.predict(task.from_prediction(prediction), games.SIZE))
  np.testing.assert_allclose(recovered[known], prediction[known], rtol=1e-5, atol=1e-6)
  structure = np.asarray(task.structure(task.from_prediction(prediction)))
  np.testing.assert_allclose(
    structure[known], np.asarray(task.true_structure(truth))[known], rtol=1e-5, atol=1e-6
  )
