"""Two gradient calls in JAX, with the library's modules and losses: one side of `step.py`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from asmjax import batch as batches
from asmjax.game import PREDICTOR
from asmjax.losses.matching import layer_distances, matching_hinge, pool_mask
from asmjax.terms.weight import evaluate_weight
from asmjax.train.state import TrainState
from benchmarks.step_setting import CRITIC, Setting


class Analysis(NamedTuple):
  """Outputs of the analyzer for a batch.

  Attributes:
    predicted: Features of the prediction by layer.
    true: Features of the truth by layer.
    masks: 1 where features count, by layer.
    reconstruction: Logits of the reconstructed truth.
    truth: Batch at the size of the outputs.
  """

  predicted: Mapping[str, jax.Array]
  true: Mapping[str, jax.Array]
  masks: Mapping[str, jax.Array]
  reconstruction: jax.Array
  truth: Mapping[str, Any]


def predictor_loss(
  setting: Setting, params: Any, batch_stats: Any, critic: Any, batch: Mapping[str, Any], step: Any
) -> tuple[jax.Array, Any]:
  """Computes V for the predictor, and its new running statistics."""
  logits, updated = predict(setting, params, batch_stats, batch)
  value = compute_value(setting, analyze(setting, critic, logits, batch))
  return evaluate_weight(setting.term.weight, step / setting.steps) * value, updated


def critic_loss(
  setting: Setting,
  params: Any,
  predictor: Any,
  batch_stats: Any,
  batch: Mapping[str, Any],
  step: Any,
) -> jax.Array:
  """Computes -critic_weight * V (or the hinge, with a margin) + lambda * reconstruction."""
  term = setting.term
  logits, _ = predict(setting, predictor, batch_stats, batch)
  analysis = analyze(setting, params, logits, batch, hard=term.binarize)
  if term.margin:
    loss = sum(
      matching_hinge(
        analysis.predicted[layer],
        analysis.true[layer],
        margin=term.margin,
        mask=analysis.masks[layer],
        normalize=term.normalize,
      ).mean()
      for layer in term.layers
    )
  else:
    loss = -compute_value(setting, analysis)
  reconstruction = setting.task.reconstruction_loss(analysis.reconstruction, analysis.truth).mean()
  return (
    evaluate_weight(term.critic_weight, step / setting.steps) * loss
    + term.reconstruction_weight * reconstruction
  )


def predict(
  setting: Setting, params: Any, batch_stats: Any, batch: Mapping[str, Any]
) -> tuple[jax.Array, Any]:
  """Computes logits in training mode, and the new running statistics."""
  outputs, updated = setting.game.predictor.apply(
    {"params": params, "batch_stats": batch_stats},
    setting.game.input_transform(batch["image"]),
    train=True,
    mutable=["batch_stats"],
  )
  return outputs["segmentation"], updated["batch_stats"]


def analyze(
  setting: Setting, critic: Any, logits: Any, batch: Mapping[str, Any], hard: bool = False
) -> Analysis:
  """Runs the analyzer on the truth and on the prediction, winner-take-all if `hard`."""
  task, term = setting.task, setting.term
  truth = batches.downsample(batch, logits.shape[1:3], align_corners=setting.game.align_corners)
  labeled = task.mask(truth)
  run = lambda structure: term.critic.apply({"params": critic}, structure * labeled)
  true, reconstruction = run(task.true_structure(truth))
  predicted, _ = run((task.hard_structure if hard else task.structure)(logits))
  masks = {
    layer: pool_mask(labeled, true[layer].shape[1:3], count_partial_cells=term.count_partial_cells)
    for layer in term.layers
  }
  return Analysis(predicted, true, masks, reconstruction, truth)


def compute_value(setting: Setting, analysis: Analysis) -> jax.Array:
  """Computes V, the sum over layers of the distances between features."""
  distances = layer_distances(
    analysis.predicted,
    analysis.true,
    setting.term.layers,
    masks=analysis.masks,
    normalize=setting.term.normalize,
  )
  return sum(distance.mean() for distance in distances.values())


@dataclasses.dataclass(frozen=True)
class SeparateStep:
  """Jitted functions of the scheme, and their calls for one step."""

  setting: Setting

  @functools.cached_property
  def predictor_grad(self) -> Callable:
    """(params, batch_stats, critic's params, batch, step) -> ((loss, batch_stats), gradient)."""
    loss = functools.partial(predictor_loss, self.setting)
    return jax.jit(jax.value_and_grad(loss, has_aux=True))

  @functools.cached_property
  def critic_grad(self) -> Callable:
    """(params, predictor's params, batch_stats, batch, step) -> (loss, gradient)."""
    return jax.jit(jax.value_and_grad(functools.partial(critic_loss, self.setting)))

  @functools.cached_property
  def updates(self) -> dict[str, Callable]:
    """(params, opt_state, gradient, step) -> (params, opt_state), by player."""

    def update(tx, params, opt_state, grads, step):
      updates, opt_state = tx.update(grads, opt_state, params, step=step)
      return optax.apply_updates(params, updates), opt_state

    return {
      name: jax.jit(functools.partial(update, tx), donate_argnums=(0, 1))
      for name, tx in self.setting.make_transformations().items()
    }

  def differentiate(self, state: TrainState) -> tuple[dict[str, Any], Any]:
    """Computes gradients by player, and the predictor's new running statistics."""
    predictor, critic = state.players[PREDICTOR], state.players[CRITIC]
    (_, stats), for_predictor = self.predictor_grad(
      predictor.params, predictor.batch_stats, critic.params, self.setting.batch, state.step
    )
    _, for_critic = self.critic_grad(
      critic.params, predictor.params, predictor.batch_stats, self.setting.batch, state.step
    )
    return {PREDICTOR: for_predictor, CRITIC: for_critic}, stats

  def __call__(self, state: TrainState) -> TrainState:
    """Takes a step; the memory of `state` is used again."""
    grads, stats = self.differentiate(state)
    players = {}
    for name, player in state.players.items():
      params, opt_state = self.updates[name](
        player.params, player.opt_state, grads[name], state.step
      )
      players[name] = player.replace(params=params, opt_state=opt_state)
    players[PREDICTOR] = players[PREDICTOR].replace(batch_stats=stats)
    return state.replace(step=state.step + 1, players=players)

  def flops(self) -> float:
    """Counts the floating-point operations of the four compiled functions together."""
    state = self.setting.init_state()
    predictor, critic = state.players[PREDICTOR], state.players[CRITIC]
    batch, step = self.setting.batch, state.step
    return (
      count_flops(
        self.predictor_grad, predictor.params, predictor.batch_stats, critic.params, batch, step
      )
      + count_flops(
        self.critic_grad, critic.params, predictor.params, predictor.batch_stats, batch, step
      )
      + sum(
        count_flops(self.updates[name], player.params, player.opt_state, player.params, step)
        for name, player in state.players.items()
      )
    )


def count_flops(function: Any, *args: Any) -> float:
  """Counts the floating-point operations of a function, once compiled for these arguments."""
  costs = function.lower(*args).compile().cost_analysis()
  return (costs[0] if isinstance(costs, list) else costs)["flops"]
