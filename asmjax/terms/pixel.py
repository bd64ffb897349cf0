"""The pixel-wise (IID) loss of every task."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.losses.pixel import class_balance_weights
from asmjax.tasks.base import Task
from asmjax.terms.base import AUXILIARY, LossTerm, Scalar, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import Fraction, NonNegative

# How far from 1 the sum of shares may be: somebody may have rounded them.
_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Pixel(Term):
  """Pixel loss of every task.

  Attributes:
    weight: Factor of the term; each task's loss is multiplied by the task's weight too.
    auxiliary: Factor of the losses of the predictor's auxiliary heads (Zhao et al. 2017, Sec. 3.3);
      0 leaves them out.
    balanced: Part of the training, from its start, in which the loss of segmentation is
      class-weighted; see `asmjax.losses.class_balance_weights`. 1/3 for 4 of 12 epochs
      (Jamali-Rad & Szabo 2022, Sec. 4).
    shares: Share of each class in the labeled pixels of a training image, on average; only needed
      if `balanced`. Empty in a config: a run counts them.
  """

  is_reference: ClassVar[bool] = True

  weight: Weight = 1.0
  auxiliary: NonNegative = 0.0
  balanced: Fraction = 0.0
  shares: tuple[float, ...] = ()

  @property
  def needs_class_shares(self) -> bool:
    """Whether the loss is to be class-weighted, but `shares` are not known yet."""
    return bool(self.balanced and not self.shares)

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless there are classes to weigh, if any shall be, and shares fit them."""
    if not 0 <= self.balanced <= 1:
      raise ValueError(f"balanced={self.balanced}; expected a part of the training, 0 to 1")
    if self.balanced and "segmentation" not in tasks:
      raise ValueError(
        f"balanced={self.balanced} needs the task segmentation; trained: {', '.join(tasks)}"
      )
    if self.balanced and self.shares:
      self._check_shares(tasks["segmentation"].channels)

  def _check_shares(self, classes: int) -> None:
    if len(self.shares) != classes:
      raise ValueError(f"{len(self.shares)} shares; expected one for each of {classes} classes")
    if not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= _TOLERANCE):
      raise ValueError(f"shares={self.shares}; expected none below 0 and a sum of 1")

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes one loss for each task, and one for its auxiliary map."""
    if self.auxiliary and AUXILIARY not in context.outputs:
      raise ValueError(f"auxiliary={self.auxiliary}, but the predictor has no auxiliary heads")
    weight, options = evaluate_weight(self.weight, context.progress), {}
    if self.balanced:
      options["segmentation"] = {"weights": self._balance(context.truth["label"], context.progress)}

    def pixel_losses(maps: Mapping[str, PyTree], weight: Scalar) -> dict[str, LossTerm]:
      losses = {}
      for name, task in context.tasks.items():
        loss = task.pixel_loss(maps[name], context.truth, **options.get(name, {}))
        losses[name] = LossTerm(loss, predictor_weight=weight * task.weight)
      return losses

    losses = pixel_losses(context.outputs, weight)
    if self.auxiliary:
      auxiliary = pixel_losses(context.outputs[AUXILIARY], self.auxiliary * weight)
      losses |= {f"{name}_auxiliary": loss for name, loss in auxiliary.items()}
    return TermOutput(losses)

  def _balance(self, label: ArrayLike, progress: Scalar) -> Float[Array, "n h w"]:
    """Computes weights of pixels: by class at first, then 1."""
    if self.needs_class_shares:
      raise ValueError(
        f"balanced={self.balanced}, but no shares of the classes; expected those that "
        "asmjax.data.frequencies.class_shares counts"
      )
    return jnp.where(
      progress < self.balanced, class_balance_weights(label, jnp.array(self.shares)), 1.0
    )
