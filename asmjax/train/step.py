"""The training step: one scalar, one `value_and_grad`, one update for every player that moves."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from asmjax.game import JOINT, PREDICTOR, Game, Played, Turns, joint_value
from asmjax.gradients import Probe
from asmjax.models.layers import DEVICES
from asmjax.ops.masked_mean import MaskedMean
from asmjax.train.state import Player, TrainState, Transformations

Step = Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Float[Array, ""]]]]


def make_step(
  game: Game,
  transformations: Transformations,
  *,
  movers: tuple[str, ...],
  steps: int,
  turns: Turns = JOINT,
  grad_accum_steps: int = 1,
  stop_frozen: Callable[[str, PyTree], PyTree] = lambda player, params: params,
) -> Step:
  """The step of one device, to be mapped over the axis `DEVICES`.

  Masked means are divided by the counts of the global batch, so that any number of devices and any
  `grad_accum_steps` give the same value and the same gradient (batch statistics, and the norms by
  which terms are balanced, are those of the microbatches that are computed at once).

  Args:
    game: what is optimized.
    transformations: by player; `update` is given the predictor's steps so far as `step`.
    movers: the players that move; the others are not differentiated and stay as they are.
    steps: of the predictor in the whole run, T.
    turns: how many of the state's steps were the predictor's; all schedules follow those alone.
    grad_accum_steps: microbatches that a device's share is cut into.
    hold: from a player's parameters to the same under `stop_gradient` where they never move.

  Returns:
    `step(state, batch) -> (state, metrics)`. Metrics are means over the global batch, by
    summand; for each mover the global norm of its gradient; and, where the predictor moves, for
    each term the norm of what it sends back to the predictor's outputs, and for a term with a
    balance what its gradient was multiplied by.
  """

  def step(state: TrainState, batch: Mapping[str, Array]):
    params = {name: player.params for name, player in state.players.items()}
    stats = {name: player.batch_stats for name, player in state.players.items()}
    rng = jax.random.fold_in(state.key(), lax.axis_index(DEVICES))
    differentiate = _differentiate if grad_accum_steps == 1 else _accumulated(grad_accum_steps)
    taken = turns.taken(state.step)
    # Critics that are trained for themselves have no end.
    progress = jnp.minimum(taken / max(steps, 1), 1.0)

    def play(moving: PyTree, stats: PyTree, batch: Mapping[str, Array]) -> Played:
      moved, probes = moving
      moved = {name: stop_frozen(name, each) for name, each in moved.items()}
      return game.play(
        {**params, **moved},
        stats,
        batch,
        progress=progress,
        rng=rng,
        probes=probes,
        total=lambda square: lax.psum(square, DEVICES),
      )

    probe = Probe(jnp.zeros(()), jnp.zeros(()))
    probes = dict.fromkeys(game.terms, probe) if PREDICTOR in movers else {}
    moving = ({name: params[name] for name in movers}, probes)
    (grads, probed), played = differentiate(play, moving, stats, batch)
    grads = lax.pmean(grads, DEVICES)
    updates = lax.pmean({name: played.batch_stats[name] for name in movers}, DEVICES)
    moved = {
      name: _move(player, transformations[name], grads[name], updates[name], taken)
      for name, player in state.players.items()
      if name in movers
    }
    balanced = [name for name, term in game.terms.items() if term.balance]
    metrics = _metrics(played) | _norms(grads, probed, balanced)
    players = state.players | moved
    return state.replace(step=state.step + 1, players=players), metrics

  return step


Play = Callable[[PyTree, PyTree, Mapping[str, Array]], Played]


def _differentiate(
  play: Play,
  moving: PyTree,
  stats: PyTree,
  batch: Mapping[str, Array],
  counts: Mapping[str, Array] | None = None,
) -> tuple[PyTree, Played]:
  """The gradient of the joint value with respect to `moving`, and what was played."""

  def objective(moving: PyTree) -> tuple[Array, Played]:
    played = play(moving, stats, batch)
    return joint_value(played.summands, _counts(played) if counts is None else counts), played

  (_, played), grads = jax.value_and_grad(objective, has_aux=True)(moving)
  return grads, played


def _accumulated(parts: int) -> Callable[..., tuple[PyTree, Played]]:
  """`_differentiate` in `parts` microbatches, one after the other."""

  def differentiate(play: Play, moving: PyTree, stats: PyTree, batch: Mapping[str, Array]):
    # Only the counts are used, which depend on the truth alone: no network is run for them.
    counts = _counts(play(moving, stats, batch))
    micro = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)

    def body(carry: PyTree, batch: PyTree):
      total, stats = carry
      grads, played = _differentiate(play, moving, stats, batch, counts)
      return (jax.tree.map(jnp.add, total, grads), stats | played.batch_stats), played.summands

    nothing = jax.tree.map(jnp.zeros_like, moving)
    (grads, stats), summands = lax.scan(body, (nothing, stats), micro)
    return grads, Played(summands, stats)

  return differentiate


def _counts(played: Played) -> dict[str, Array]:
  """Counts of the global batch, averaged over devices."""
  return lax.stop_gradient(
    lax.pmean({name: part.moments.count for name, part in played.summands.items()}, DEVICES)
  )


def _move(
  player: Player,
  transformation: optax.GradientTransformationExtraArgs,
  grads: PyTree,
  batch_stats: PyTree,
  step: Array,
) -> Player:
  updates, opt_state = transformation.update(grads, player.opt_state, player.params, step=step)
  return Player(optax.apply_updates(player.params, updates), batch_stats, opt_state)


def _norms(
  grads: Mapping[str, PyTree], probed: Mapping[str, Probe], balanced: Sequence[str]
) -> dict[str, Array]:
  """Norms of the gradients, and of each term's share in the gradient by the outputs.

  A device's outputs are its own, so there the gradient of the mean over devices is 1/devices of
  the device's, and squares add up.
  """
  share = 1 / lax.psum(1, DEVICES)
  norms = jax.tree.map(jnp.sqrt, lax.psum(dict(probed), DEVICES))
  factor = lambda norm: norm.sent / jnp.where(norm.raw > 0, norm.raw, 1)
  return (
    {f"gradient/{name}": optax.tree.norm(each) for name, each in grads.items()}
    | {f"sent/{name}": share * norm.sent for name, norm in norms.items()}
    | {f"balance/{name}": factor(norms[name]) for name in balanced if name in norms}
  )


def _metrics(played: Played) -> dict[str, Array]:
  """The unweighted mean of every summand over the global batch."""
  moments = {name: jax.tree.map(jnp.sum, part.moments) for name, part in played.summands.items()}
  return {name: MaskedMean(*each).mean() for name, each in lax.psum(moments, DEVICES).items()}
