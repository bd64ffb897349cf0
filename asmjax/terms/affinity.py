"""Affinity fields, of fixed or of adaptive size (Ke et al. 2018)."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.game import Critique, Summand, Task, Term
from asmjax.gradients import reverse_gradient
from asmjax.losses.affinity import Field, SizeWeights, affinity
from asmjax.models.critics.size_chooser import SizeChooser
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms.weight import Weight, at


@dataclasses.dataclass(frozen=True)
class Affinity(Term):
  """What the prediction says of neighboring pixels against what the truth says, by size.

  With `adaptive` weights the sizes compete for each class: their softmax weights climb what the
  predictor descends (Eq. 6). For segmentation only.

  Attributes:
    weight: lambda; the authors let it decay.
    sizes: k of each k x k neighborhood.
    neighbors: see `asmjax.losses.affinity`, as are `ignore`, `margin` and `weight_by`.
    adaptive: weigh the sizes by class, and let the weights reverse_gradient.
    ascent: of the loss for the weights. Adam divides it out: there their learning rate
      (`optimizer.affinity`) is what to change.

  Raises:
    ValueError: an unknown option or an impossible size.
  """

  weight: Weight = 1.0
  sizes: tuple[int, ...] = (3,)
  neighbors: str = "corners"
  ignore: str = "pair"
  margin: float = 3.0
  weight_by: str = "center"
  adaptive: bool = False
  ascent: Weight = 1.0

  def __post_init__(self):
    Field(self.sizes, self.neighbors, self.ignore, self.margin, self.weight_by)  # Refuses.

  @property
  def critic(self) -> SizeChooser | None:
    """The weights, if they are free."""
    return SizeChooser() if self.adaptive else None

  @property
  def critic_scale(self) -> Weight:
    """The ascent: the weights have no other objective."""
    return self.ascent

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless segmentation is trained."""
    if "segmentation" not in tasks:
      raise ValueError(f"affinity fields need the task segmentation; trained: {', '.join(tasks)}")

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """The weights, all alike."""
    del size
    return SizeChooser().init(rng, tasks["segmentation"].channels, len(self.sizes))

  def symptoms(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """The weights have become one-hot: they choose a size and no longer weigh them."""
    del first
    if not self.adaptive or len(self.sizes) == 1:
      return {}
    largest = {kind: now[f"largest_{kind}"] for kind in SizeWeights._fields}
    return {
      f"one_hot_{kind}": (
        f"the weights of the {kind} pairs have become one-hot (the largest of a class is "
        f"{value:.3f} on average); let them reverse_gradient less or more slowly"
      )
      for kind, value in largest.items()
      if value > 0.99
    }

  def critic_loss(
    self, means: Mapping[str, Array | float], tasks: Mapping[str, Task]
  ) -> Array | float:
    """The loss with the opposite sign."""
    del tasks
    kinds = SizeWeights._fields
    loss = sum(means[f"{kind}_{size}"] for kind in kinds for size in self.sizes)
    return -at(self.ascent, 0.0) * at(self.weight, 0.0) * loss

  def __call__(
    self,
    critic: PyTree,
    tasks: Mapping[str, Task],
    outputs: Mapping[str, PyTree],
    truth: Mapping[str, ArrayLike],
    *,
    progress: Array | float,
    rng: Array,
  ) -> Critique:
    """The loss on edges and on other pairs, by size; and the largest weight of a class."""
    del rng
    task, weight = tasks["segmentation"], at(self.weight, progress)
    weights = self._weights(critic, task.channels, at(self.ascent, progress))
    fields = affinity(
      task.structure(outputs["segmentation"]),
      truth["label"],
      sizes=self.sizes,
      neighbors=self.neighbors,
      ignore=self.ignore,
      margin=self.margin,
      weights=weights,
      weight_by=self.weight_by,
    )
    summands = {
      f"{kind}_{size}": Summand(weight, MaskedMean(*each))
      for kind, moments in zip(fields._fields, fields, strict=True)
      for size, *each in zip(self.sizes, *moments, strict=True)
    }
    if weights is not None:
      summands |= {
        f"largest_{kind}": Summand(0.0, MaskedMean(jnp.mean(jnp.max(each, axis=1)), jnp.ones(())))
        for kind, each in zip(weights._fields, weights, strict=True)
      }
    return Critique(summands)

  def _weights(self, critic: PyTree, classes: int, ascent: Array | float) -> SizeWeights | None:
    if not self.adaptive:
      return None
    params = reverse_gradient(critic["params"], ascent)
    return SizeChooser().apply({"params": params}, classes, len(self.sizes))
