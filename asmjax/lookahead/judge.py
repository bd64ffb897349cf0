"""How good the critics are on examples that they were not trained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asmjax.train.experiment import Experiment
from asmjax.train.health import of_term
from asmjax.train.parallel import spread
from asmjax.train.state import TrainState
from asmjax.train.step import make_step

Judge = Callable[[TrainState, Sequence[Mapping[str, Array]]], float]


def make_judge(experiment: Experiment) -> Judge:
  """What the critics descend, compiled once.

  Args:
    experiment: whose game.

  Returns:
    `judge(state, batches)`: the sum over critics of their loss, a mean over batches on the devices
    that show earlier predictions. Always with the randomness and the schedules of step 0, so that
    losses can be compared.
  """
  game = experiment.game
  still = make_step(game, {}, movers=(), steps=experiment.training.steps)
  play = spread(lambda state, batch: still(state, batch)[1])

  def judge(state: TrainState, batches: Sequence[Mapping[str, Array]]) -> float:
    state = dataclasses.replace(state, step=jnp.zeros_like(state.step))
    played = jax.device_get([play(state, batch) for batch in batches])
    means = {name: float(np.mean([each[name] for each in played])) for name in played[0]}
    return sum(
      game.terms[name].critic_loss(of_term(name, means), game.tasks) for name in game.critics
    )

  return judge
