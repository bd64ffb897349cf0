"""The pixel-wise (IID) loss of every task."""

import dataclasses
from collections.abc import Mapping

from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.minimax import Critique, Summand, Task, Term
from asmjax.terms.weight import Weight, at


@dataclasses.dataclass(frozen=True)
class Pixel(Term):
  """Each task's own pixel loss.

  Attributes:
    weight: of the term; each task's loss is multiplied by the task's weight too.
  """

  weight: Weight = 1.0

  def __call__(
    self, critic: PyTree, tasks: Mapping[str, Task], outputs: Mapping[str, Array],
    truth: Mapping[str, ArrayLike], *, progress: Array | float, rng: Array,
  ) -> Critique:
    """One summand a task."""
    del critic, rng
    weight = at(self.weight, progress)
    return Critique({
      name: Summand(weight * task.weight, task.pixel_loss(outputs[name], truth))
      for name, task in tasks.items()
    })
