"""Evaluation of the critics on examples that they were not trained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asmjax.train.experiment import Experiment
from asmjax.train.parallel import pmap_step
from asmjax.train.state import TrainState
from asmjax.train.step import make_critic_losses

EvaluateCritics = Callable[[TrainState, Sequence[Mapping[str, Array]]], float]


def make_critic_evaluation(experiment: Experiment) -> EvaluateCritics:
  """Compiles the loss that the critics minimize.

  Returns:
    `evaluate(state, batches)`, which returns the sum of all critics' losses, a mean over batches
    on the devices that hold earlier predictions. The randomness and the schedules are always those
    of step 0, so that losses can be compared.
  """
  critic_losses = pmap_step(make_critic_losses(experiment.game))

  def evaluate(state: TrainState, batches: Sequence[Mapping[str, Array]]) -> float:
    state = dataclasses.replace(state, step=jnp.zeros_like(state.step))
    losses = jax.device_get([critic_losses(state, batch) for batch in batches])
    total = 0.0
    for name, (_, weight) in losses[0].items():
      if weight != 0:
        total += float(weight) * float(np.mean([of_batch[name][0] for of_batch in losses]))
    return total

  return evaluate
