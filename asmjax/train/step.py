"""The training step: one scalar, one `value_and_grad`, one update for every active player."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from asmjax.game import PREDICTOR, Game, GameOutput, joint_objective
from asmjax.gradients import Probe
from asmjax.models.layers import DEVICES
from asmjax.ops.masked_mean import MaskedMean
from asmjax.train.state import Player, TrainState, Transformations
from asmjax.train.updates import JOINT, UpdateSchedule

Batch = Mapping[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Float[Array, ""]]]]
_Carry = TypeVar("_Carry")
_Report = TypeVar("_Report")
# Function of differentiated inputs, running statistics, a batch and a key that returns the losses.
ComputeLosses = Callable[[PyTree, PyTree, Batch, Array], GameOutput]


def make_step(
  game: Game,
  transformations: Transformations,
  *,
  active_players: tuple[str, ...],
  steps: int,
  updates: UpdateSchedule = JOINT,
  grad_accum_steps: int = 1,
  stop_frozen: Callable[[str, PyTree], PyTree] = lambda player, params: params,
) -> Step:
  """Makes the step of one device, to be mapped over the axis `DEVICES`.

  Masked means are divided by the counts of the global batch, so that any number of devices, and
  any `grad_accum_steps`, gives the same value and the same gradient (batch statistics, dropout and
  the norms by which terms are balanced are those of the microbatches that are computed at once).

  Args:
    game: Predictor and terms to train.
    transformations: Optax transformation by player; its `update` is given the number of the
      predictor's steps so far as `step`.
    active_players: Players to update; the others are not differentiated and stay as they are.
    steps: Number T of the predictor's steps in the complete run.
    updates: Order of updates; all schedules follow the predictor's steps alone, which it counts.
    grad_accum_steps: Number of microbatches that a device's share is cut into.
    stop_frozen: Function from a player's name and parameters to the parameters, under
      `stop_gradient` where they are frozen.

  Returns:
    `step(state, batch) -> (state, metrics)`. Metrics are, of the global batch, the mean of every
    loss; for each active player the norm of its gradient, "gradient_norm/PLAYER"; and if the
    predictor is active, the weighted sum of the losses that it descends, "loss", for each term the
    norm of the gradient that it sends to the predictor's outputs, "gradient_norm_from/TERM", and
    for a term with a balance the factor by which that was scaled, "gradient_scale/TERM".
  """
  differentiate = _differentiate if grad_accum_steps == 1 else _accumulate(grad_accum_steps)
  balanced = [name for name, term in game.terms.items() if term.balance]

  def step(state: TrainState, batch: Batch):
    predictor_steps = updates.count_predictor_steps(state.step)
    # Critics that are trained without the predictor have no last step.
    progress = jnp.minimum(predictor_steps / max(steps, 1), 1.0)

    def compute_losses(inputs: PyTree, stats: PyTree, batch: Batch, rng: Array) -> GameOutput:
      active, probes = inputs
      active = {name: stop_frozen(name, params) for name, params in active.items()}
      return game.compute_losses(
        {**state.params, **active},
        stats,
        batch,
        rng=rng,
        progress=progress,
        probes=probes,
        sum_devices=lambda square: lax.psum(square, DEVICES),
      )

    zeros = Probe(jnp.zeros(()), jnp.zeros(()))
    probes = dict.fromkeys(game.terms, zeros) if PREDICTOR in active_players else {}
    inputs = ({name: state.params[name] for name in active_players}, probes)
    (grads, squares), output = differentiate(
      compute_losses, inputs, state.batch_stats, batch, _device_key(state)
    )
    grads = lax.pmean(grads, DEVICES)
    stats = lax.pmean({name: output.batch_stats[name] for name in active_players}, DEVICES)
    players = _update(state.players, transformations, grads, stats, predictor_steps)
    metrics = _metrics(output, grads, squares, balanced)
    return dataclasses.replace(state, step=state.step + 1, players=players), metrics

  return step


def scan_steps(
  step: Callable[[_Carry, Batch], tuple[_Carry, _Report]],
) -> Callable[[_Carry, Sequence[Batch]], tuple[_Carry, _Report]]:
  """Makes a function that takes a step on each of several batches, in one program.

  A device then works through them without waiting for the host, which matters where a step takes
  no longer than its dispatch.

  Args:
    step: `step(carry, batch) -> (carry, report)`, such as a step of one device.

  Returns:
    `steps(carry, batches) -> (carry, reports)`, the reports stacked along a new first axis.
  """

  def steps(carry: _Carry, batches: Sequence[Batch]) -> tuple[_Carry, _Report]:
    if len(batches) > 1:
      return lax.scan(step, carry, jax.tree.map(lambda *x: jnp.stack(x), *batches))
    carry, report = step(carry, batches[0])
    return carry, jax.tree.map(lambda x: x[None], report)

  return steps


def make_critic_losses(
  game: Game,
) -> Callable[[TrainState, Batch], dict[str, tuple[Float[Array, ""], Float[Array, ""]]]]:
  """Makes the evaluation of the critics' losses on one device, to be mapped over `DEVICES`.

  Returns:
    `critic_losses(state, batch)`, which returns for every loss its mean over the global batch and
    its weight in the critic's objective at the start of a training, by "TERM/LOSS".
  """

  def critic_losses(state: TrainState, batch: Batch):
    output = game.compute_losses(state.params, state.batch_stats, batch, rng=_device_key(state))
    return {
      name: (mean, jnp.asarray(output.losses[name].critic_weight, mean.dtype))
      for name, mean in _global_means(output).items()
    }

  return critic_losses


def _device_key(state: TrainState) -> Array:
  """Derives this device's key of the coming step."""
  return jax.random.fold_in(state.key(), lax.axis_index(DEVICES))


def _differentiate(
  compute_losses: ComputeLosses,
  inputs: PyTree,
  stats: PyTree,
  batch: Batch,
  rng: Array,
  counts: Mapping[str, Array] | None = None,
) -> tuple[PyTree, GameOutput]:
  """Computes the gradient of the joint objective with respect to `inputs`, and the losses."""

  def objective(inputs: PyTree) -> tuple[Array, GameOutput]:
    output = compute_losses(inputs, stats, batch, rng)
    divisors = _average_counts(_counts(output)) if counts is None else counts
    return joint_objective(output.losses, divisors), output

  (_, output), grads = jax.value_and_grad(objective, has_aux=True)(inputs)
  return grads, output


def _accumulate(num_parts: int) -> Callable[..., tuple[PyTree, GameOutput]]:
  """Makes a `_differentiate` that goes through `num_parts` microbatches one after the other."""

  def differentiate(
    compute_losses: ComputeLosses, inputs: PyTree, stats: PyTree, batch: Batch, rng: Array
  ):
    cut = lambda x: x.reshape(num_parts, -1, *x.shape[1:])
    microbatches = jax.tree.map(cut, batch), jax.random.split(rng, num_parts)
    # The counts come first. Those that depend on the truth alone need no network, which the
    # compiler leaves out; the number of hard pixels needs the forward passes.
    counts = lax.map(lambda part: _counts(compute_losses(inputs, stats, *part)), microbatches)
    counts = _average_counts(jax.tree.map(lambda x: jnp.sum(x, axis=0), counts))

    def body(carry: PyTree, microbatch: tuple[Batch, Array]):
      total, stats = carry
      grads, output = _differentiate(compute_losses, inputs, stats, *microbatch, counts=counts)
      return (jax.tree.map(jnp.add, total, grads), stats | output.batch_stats), output.losses

    zeros = jax.tree.map(jnp.zeros_like, inputs)
    (grads, stats), losses = lax.scan(body, (zeros, stats), microbatches)
    return grads, GameOutput(losses, stats)

  return differentiate


def _counts(output: GameOutput) -> dict[str, Array]:
  """Returns the counts of the losses."""
  return {name: loss.value.count for name, loss in output.losses.items()}


def _average_counts(counts: dict[str, Array]) -> dict[str, Array]:
  """Averages the counts of the losses over devices."""
  return lax.stop_gradient(lax.pmean(counts, DEVICES))


def _update(
  players: Mapping[str, Player],
  transformations: Transformations,
  grads: Mapping[str, PyTree],
  batch_stats: Mapping[str, PyTree],
  step: Array,
) -> dict[str, Player]:
  """Updates the players that have a gradient."""
  updated = {}
  for name, gradient in grads.items():
    player, update = players[name], transformations[name].update
    updates, opt_state = update(gradient, player.opt_state, player.params, step=step)
    params = optax.apply_updates(player.params, updates)
    updated[name] = Player(params, batch_stats[name], opt_state)
  return {**players, **updated}


def _metrics(
  output: GameOutput,
  grads: Mapping[str, PyTree],
  squares: Mapping[str, Probe],
  balanced: Sequence[str],
) -> dict[str, Array]:
  """Computes what a step reports; see `make_step`."""
  means = _global_means(output)
  metrics = means | _gradient_norms(grads, squares, balanced)
  if PREDICTOR in grads:
    # Microbatches have each a copy of the weight.
    weights = {name: jnp.mean(loss.predictor_weight) for name, loss in output.losses.items()}
    metrics["loss"] = sum((weights[name] * means[name] for name in means), jnp.zeros(()))
  return metrics


def _gradient_norms(
  grads: Mapping[str, PyTree], squares: Mapping[str, Probe], balanced: Sequence[str]
) -> dict[str, Array]:
  """Computes norms of the players' gradients, and of what terms send to the predictor's outputs.

  Each device has outputs of its own. By them, the gradient of the mean over devices is the
  device's gradient divided by the number of devices, and squared norms add up.
  """
  share = 1 / lax.psum(1, DEVICES)
  norms = jax.tree.map(jnp.sqrt, lax.psum(dict(squares), DEVICES))
  factor = lambda norm: norm.scaled / jnp.where(norm.unscaled > 0, norm.unscaled, 1)
  return (
    {f"gradient_norm/{name}": optax.tree.norm(gradient) for name, gradient in grads.items()}
    | {f"gradient_norm_from/{name}": share * norm.scaled for name, norm in norms.items()}
    | {f"gradient_scale/{name}": factor(norms[name]) for name in balanced if name in norms}
  )


def _global_means(output: GameOutput) -> dict[str, Array]:
  """Computes the unweighted mean of every loss over the global batch."""
  sums = {name: jax.tree.map(jnp.sum, loss.value) for name, loss in output.losses.items()}
  return {name: MaskedMean(*pair).mean() for name, pair in lax.psum(sums, DEVICES).items()}
