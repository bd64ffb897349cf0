"""The minimax core: a predictor, weighted terms, and the one scalar that all players differentiate.

A game is a predictor and a set of terms; a term may bring a critic of its own. One evaluation of
the game yields loss terms whose weighted sum is differentiated once, with respect to every player
that is updated. Every optimizer descends; a critic that is to ascend a value it shares with the
predictor sees it through `asmjax.gradients.reverse_gradient`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax import batch as batches
from asmjax.gradients import Branch, Probe, fan_out
from asmjax.models.input_transform import IMAGENET, InputTransform
from asmjax.ops.masked_mean import promote_to_float32
from asmjax.ops.resize import downsample
from asmjax.tasks.base import Task
from asmjax.terms.base import AUXILIARY, FEATURES, LossTerm, Scalar, Term, TermContext

PREDICTOR = "predictor"


class GameOutput(NamedTuple):
  """Result of one evaluation of a game.

  Attributes:
    losses: Losses and reported means of all terms, by "TERM/LOSS".
    batch_stats: Running statistics after this batch, by player.
  """

  losses: dict[str, LossTerm]
  batch_stats: dict[str, PyTree]


@dataclasses.dataclass(frozen=True)
class Game:
  """Predictor and the terms that it is trained by.

  Attributes:
    predictor: Module from a transformed image to `{task: map}`.
    tasks: Meaning of the maps, by name.
    terms: Losses by name; a term with a critic lends its name to that player.
    input_transform: Transform of uint8 images to what the predictor is applied to.

  Raises:
    ValueError: A term is not defined for the tasks, or is to be balanced without a pixel loss.
  """

  predictor: nn.Module
  tasks: Mapping[str, Task]
  terms: Mapping[str, Term]
  input_transform: InputTransform = IMAGENET

  def __post_init__(self):
    references = [name for name, term in self.terms.items() if term.is_reference]
    for name, term in self.terms.items():
      if term.balance and (term.is_reference or not references):
        raise ValueError(
          f"terms.{name}: balance={term.balance}; expected 0, or a term beside a pixel loss"
        )
      try:
        term.check(self.tasks)
      except ValueError as error:
        raise ValueError(f"terms.{name}: {error}") from error

  @property
  def align_corners(self) -> bool:
    """Whether outputs lie on the pixels S i of the image, an attribute of the predictor.

    A predictor without the attribute `align_corners` has half-pixel centers; see
    `asmjax.ops.resize`.
    """
    return getattr(self.predictor, "align_corners", False)

  @property
  def critics(self) -> tuple[str, ...]:
    """Names of the terms with a critic, which are players beside the predictor."""
    return tuple(name for name, term in self.terms.items() if term.critic is not None)

  def init(self, rng: Array, image_size: tuple[int, int]) -> dict[str, PyTree]:
    """Initializes every player's `{"params": ..., "batch_stats": ...}` for (h, w) images."""
    keys = self._split(rng)
    image = jnp.zeros((1, *image_size, 3))
    outputs, variables = self.predictor.init_with_output(keys[PREDICTOR], image, train=False)
    size = self._output_size(outputs)
    critics = {name: self.terms[name].init(keys[name], self.tasks, size) for name in self.critics}
    return {PREDICTOR: variables, **critics}

  def predict(self, variables: PyTree, image: ArrayLike) -> dict[str, Float[Array, "n h w c"]]:
    """Applies the predictor in evaluation mode to uint8 images (n, h, w, 3); maps by task."""
    outputs = self.predictor.apply(variables, self.input_transform(image), train=False)
    return _promote(outputs)

  def compute_losses(
    self,
    params: Mapping[str, PyTree],
    batch_stats: Mapping[str, PyTree],
    batch: Mapping[str, ArrayLike],
    *,
    rng: Array,
    progress: Scalar = 0.0,
    probes: Mapping[str, Probe] = MappingProxyType({}),
    sum_devices: Callable[[Array], Array] = lambda square: square,
  ) -> GameOutput:
    """Evaluates every term on one batch in training mode.

    Args:
      params: Parameters by player.
      batch_stats: Running statistics by player.
      batch: Examples; see `asmjax.batch`. If it holds earlier predictions, they take the place of
        the predictor's, and only terms with a critic are evaluated.
      rng: Key for dropout and sampling.
      progress: Part t/T of the predictor's steps that is done.
      probes: By term, to measure and balance the gradients that the terms send to the predictor's
        outputs; empty if the predictor is not updated.
      sum_devices: Sum over devices of a squared norm; see `asmjax.gradients.fan_out`.
    """
    keys = self._split(rng)
    predictor = {"params": params[PREDICTOR], "batch_stats": batch_stats[PREDICTOR]}
    replayed = any(key.startswith(batches.REPLAY) for key in batch)
    run = self._replay if replayed else self._predict
    outputs, predictor_stats = run(predictor, batch, keys[PREDICTOR])
    truth = batches.downsample(batch, self._output_size(outputs), align_corners=self.align_corners)
    copies = dict.fromkeys(self.terms, outputs)
    if probes:
      branches = {
        name: Branch(term.balance, term.is_reference) for name, term in self.terms.items()
      }
      # `jax.custom_vjp` hides the type of what it decorates.
      copies = cast(dict[str, PyTree], fan_out(outputs, dict(probes), branches, sum_devices))
    result = GameOutput({}, {PREDICTOR: predictor_stats})
    for name, term in self.terms.items():
      if replayed and term.critic is None:
        continue
      critic = {"params": params.get(name, {}), "batch_stats": batch_stats.get(name, {})}
      losses, critic_stats = term(
        TermContext(
          tasks=self.tasks,
          outputs=copies[name],
          truth=truth,
          rng=keys[name],
          critic=critic,
          progress=progress,
        )
      )
      result.losses.update({f"{name}/{key}": loss for key, loss in losses.items()})
      if term.critic is not None:
        result.batch_stats[name] = critic_stats
    return result

  def _split(self, rng: Array) -> dict[str, Array]:
    """Splits a key into one for the predictor and one for each term."""
    names = (PREDICTOR, *self.terms)
    return dict(zip(names, jax.random.split(rng, len(names)), strict=True))

  def _predict(
    self, predictor: PyTree, batch: Mapping[str, ArrayLike], rng: Array
  ) -> tuple[dict[str, PyTree], PyTree]:
    """Applies the predictor in training mode; its outputs, and its new statistics."""
    outputs, updated = self.predictor.apply(
      predictor,
      self.input_transform(batch["image"]),
      train=True,
      mutable=["batch_stats", "intermediates"],
      rngs={"dropout": rng},
    )
    sown = updated.get("intermediates") or {}
    intermediates = {name: sown[name][0] for name in (FEATURES, AUXILIARY) if name in sown}
    return _promote({**outputs, **intermediates}), updated.get("batch_stats", {})

  def _replay(
    self, predictor: PyTree, batch: Mapping[str, ArrayLike], rng: Array
  ) -> tuple[dict[str, PyTree], PyTree]:
    """Turns the earlier predictions in a batch into outputs, at the size of the predictor's."""
    shapes, _ = jax.eval_shape(self._predict, predictor, batch, rng)
    size = self._output_size(shapes)
    outputs = {
      name: task.from_prediction(
        downsample(batch[batches.REPLAY + task.truth_key], size, align_corners=self.align_corners)
      )
      for name, task in self.tasks.items()
    }
    return outputs, predictor["batch_stats"]

  def _output_size(self, outputs: Mapping[str, PyTree]) -> tuple[int, int]:
    """Returns (h, w) of the predictor's maps."""
    return outputs[next(iter(self.tasks))].shape[1:3]


def _promote(outputs: PyTree) -> PyTree:
  """Brings outputs to float32 at least: losses and metrics are not computed in bfloat16."""
  return jax.tree.map(promote_to_float32, outputs)


def joint_objective(
  losses: Mapping[str, LossTerm], counts: Mapping[str, Array] | None = None
) -> Float[Array, ""]:
  """Adds up the one scalar of a step, whose gradient every player descends.

  Args:
    losses: Loss terms by name, from `Game.compute_losses`.
    counts: Numbers to divide the sums by instead of their own counts. With the counts of the
      global batch, averaged over devices, the mean over devices of the scalar and of its gradient
      is that of the global batch, however unevenly the valid pixels lie.
  """
  scalar = jnp.zeros(())
  for name, loss in losses.items():
    value = loss.value if counts is None else loss.value._replace(count=counts[name])
    # Of a value that is not shared, one of the two weights is 0.
    weight = loss.joint_weight
    if weight is None:
      weight = loss.predictor_weight + loss.critic_weight
    scalar += jnp.sum(weight * value.mean())
  return scalar
