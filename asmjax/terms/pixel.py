"""The pixel-wise (IID) loss of every task."""

import dataclasses
from collections.abc import Mapping

from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.minimax import AUXILIARY, Critique, Summand, Task, Term
from asmjax.terms.weight import Weight, at


@dataclasses.dataclass(frozen=True)
class Pixel(Term):
  """Each task's own pixel loss.

  Attributes:
    weight: of the term; each task's loss is multiplied by the task's weight too.
    auxiliary: factor on the losses of the maps that the predictor's auxiliary heads make (Zhao et
      al. 2017, Sec. 3.3); 0 leaves them out.
  """

  weight: Weight = 1.0
  auxiliary: float = 0.0

  def __call__(
    self, critic: PyTree, tasks: Mapping[str, Task], outputs: Mapping[str, PyTree],
    truth: Mapping[str, ArrayLike], *, progress: Array | float, rng: Array,
  ) -> Critique:
    """One summand a task, and one for its auxiliary map."""
    del critic, rng
    weight = at(self.weight, progress)
    summands = {
      name: Summand(weight * task.weight, task.pixel_loss(outputs[name], truth))
      for name, task in tasks.items()
    }
    if not self.auxiliary:
      return Critique(summands)
    if AUXILIARY not in outputs:
      raise ValueError(f"auxiliary={self.auxiliary}, but the predictor has no auxiliary heads")
    return Critique(summands | {
      f"{name}_auxiliary": Summand(
        self.auxiliary * weight * task.weight,
        task.pixel_loss(outputs[AUXILIARY][name], truth),
      )
      for name, task in tasks.items()
    })
