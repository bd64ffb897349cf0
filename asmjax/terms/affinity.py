"""Affinity fields, of fixed or of adaptive size (Ke et al. 2018)."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from asmjax.gradients import reverse_gradient
from asmjax.losses.affinity import AffinityField, SizeWeights, affinity_loss
from asmjax.models.critics.size_chooser import SizeChooser
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms.base import LossTerm, Scalar, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import NonNegative


@dataclasses.dataclass(frozen=True)
class Affinity(Term):
  """Affinity field loss: predictions at neighboring pixels against the truth's edges.

  With `adaptive` weights the sizes compete for each class: their softmax weights ascend what the
  predictor descends (Eq. 6). For segmentation only.

  Attributes:
    weight: Factor lambda of the loss; the authors let it decay.
    sizes: Odd k of each k x k neighborhood.
    neighbors: "corners" or "full"; see `asmjax.losses.affinity_loss`, as for the next three.
    ignore: Pairs that are left out, "pair" or "opposite".
    margin: Divergence in nats from which an edge costs nothing.
    weight_by: Class whose weight an entry has, that of its "center" or of its "channel".
    adaptive: Whether sizes are weighted by class, and the weights ascend the loss.
    critic_weight: Factor of the loss that the weights ascend. Adam divides it out: there their
      learning rate (`optimizer.affinity`) is what to change.

  Raises:
    ValueError: An unknown option or an impossible size.
  """

  weight: Weight = 1.0
  sizes: tuple[int, ...] = (3,)
  neighbors: str = "corners"
  ignore: str = "pair"
  margin: NonNegative = 3.0
  weight_by: str = "center"
  adaptive: bool = False
  critic_weight: Weight = 1.0

  def __post_init__(self):
    super().__post_init__()
    # Raises for what is impossible.
    AffinityField(self.sizes, self.neighbors, self.ignore, self.margin, self.weight_by)

  @property
  def critic(self) -> SizeChooser | None:
    """The weights of the sizes, if they are adaptive."""
    return SizeChooser() if self.adaptive else None

  @property
  def critic_scale(self) -> Weight:
    """Factor of the loss that the weights ascend, their only objective."""
    return self.critic_weight

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless segmentation is trained."""
    if "segmentation" not in tasks:
      raise ValueError(f"affinity fields need the task segmentation; trained: {', '.join(tasks)}")

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """Initializes the weights of all sizes as equal."""
    del size
    return SizeChooser().init(rng, tasks["segmentation"].channels, len(self.sizes))

  def diagnose(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """Reports weights that have become one-hot, which choose one size."""
    del first
    if not self.adaptive or len(self.sizes) == 1:
      return {}
    max_weights = {kind: now[f"max_weight_{kind}"] for kind in SizeWeights._fields}
    return {
      f"one_hot_{kind}": (
        f"the weights of the {kind} pairs have become one-hot (the largest of a class is "
        f"{value:.3f} on average); let them ascend less or more slowly"
      )
      for kind, value in max_weights.items()
      if value > 0.99
    }

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes the loss on edges and on other pairs by size, and the largest weight of a class."""
    task = context.tasks["segmentation"]
    weight = evaluate_weight(self.weight, context.progress)
    critic_weight = evaluate_weight(self.critic_weight, context.progress)
    size_weights = self._size_weights(context.critic, task.channels, critic_weight)
    loss = affinity_loss(
      task.structure(context.outputs["segmentation"]),
      context.truth["label"],
      sizes=self.sizes,
      neighbors=self.neighbors,
      ignore=self.ignore,
      margin=self.margin,
      weights=size_weights,
      weight_by=self.weight_by,
    )
    losses = {
      f"{kind}_{size}": self._loss(MaskedMean(total, count), weight, critic_weight)
      for kind, by_size in loss._asdict().items()
      for size, total, count in zip(self.sizes, *by_size, strict=True)
    }
    if size_weights is not None:
      for kind, by_class in size_weights._asdict().items():
        largest = jnp.mean(jnp.max(by_class, axis=1))
        losses[f"max_weight_{kind}"] = LossTerm(MaskedMean(largest, jnp.ones(())))
    return TermOutput(losses)

  def _loss(self, value: MaskedMean, weight: Scalar, critic_weight: Scalar) -> LossTerm:
    """Weighs the loss of one size, which free weights of the sizes ascend."""
    if not self.adaptive:
      return LossTerm(value, predictor_weight=weight)
    return LossTerm(
      value, predictor_weight=weight, critic_weight=-critic_weight * weight, joint_weight=weight
    )

  def _size_weights(
    self, critic: Mapping[str, PyTree], classes: int, critic_weight: Scalar
  ) -> SizeWeights | None:
    if not self.adaptive:
      return None
    params = reverse_gradient(critic["params"], critic_weight)
    # Flax does not know what a module returns.
    return cast(SizeWeights, SizeChooser().apply({"params": params}, classes, len(self.sizes)))
