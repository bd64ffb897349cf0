"""Evaluation of the critics on examples that they were not trained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asmjax.train.experiment import Experiment
from asmjax.train.health import of_term
from asmjax.train.parallel import pmap_step
from asmjax.train.state import TrainState
from asmjax.train.step import make_step

EvaluateCritics = Callable[[TrainState, Sequence[Mapping[str, Array]]], float]


def make_critic_evaluation(experiment: Experiment) -> EvaluateCritics:
  """Compiles the loss that the critics minimize.

  Args:
    experiment: Experiment with the game.

  Returns:
    `evaluate(state, batches)`, which returns the sum of all critics' losses, a mean over batches
    on the devices that hold earlier predictions. The randomness and the schedules are always those
    of step 0, so that losses can be compared.
  """
  game = experiment.game
  fixed_step = make_step(game, {}, movers=(), steps=experiment.training.steps)
  compute_losses = pmap_step(lambda state, batch: fixed_step(state, batch)[1])

  def evaluate(state: TrainState, batches: Sequence[Mapping[str, Array]]) -> float:
    state = dataclasses.replace(state, step=jnp.zeros_like(state.step))
    losses = jax.device_get([compute_losses(state, batch) for batch in batches])
    means = {name: float(np.mean([of_batch[name] for of_batch in losses])) for name in losses[0]}
    return sum(
      game.terms[name].critic_loss(of_term(name, means), game.tasks) for name in game.critics
    )

  return evaluate
