"""The criterion by which LoAd ends a training of the critics."""

import types

import jax
import numpy as np
import optax
import pytest

from asmjax.game import PREDICTOR
from asmjax.lookahead.critic_evaluation import make_critic_evaluation
from asmjax.train.parallel import replicate, shard_batch
from asmjax.train.state import init_state
from tests.helpers import tiny_games as games


def test_critic_evaluation_adds_up_what_the_critics_descend():
  """V, which the analyzer ascends, counts against it, and its reconstruction twice."""
  players = games.game("none", levels=1)
  tx = dict.fromkeys((PREDICTOR, "structure"), optax.sgd(0.1))
  state = init_state(players, tx, seed=0, image_size=games.SIZE)
  parts = [games.batch(seed=seed) for seed in range(2)]
  evaluate = make_critic_evaluation(types.SimpleNamespace(game=players))
  found = evaluate(replicate(state), [shard_batch(part) for part in parts])
  compute = jax.jit(
    lambda batch: {
      name: loss.value.mean()
      for name, loss in players.compute_losses(
        state.params, state.batch_stats, batch, rng=jax.random.key(0)
      ).losses.items()
    }
  )
  losses = [compute(part) for part in parts]
  weights = {"conv1": -1, "conv2": -1, "reconstruction_segmentation": 2}
  expected = sum(
    weight * np.mean([of_batch[f"structure/{name}"] for of_batch in losses])
    for name, weight in weights.items()
  )
  assert found == pytest.approx(expected, rel=1e-5)
