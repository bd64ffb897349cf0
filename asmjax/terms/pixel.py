"""The pixel-wise (IID) loss of every task."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.game import AUXILIARY, Critique, Summand, Task, Term
from asmjax.losses.pixel import class_balance
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms.weight import Weight, at

# How far from 1 shares may add up: somebody may have rounded them.
_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Pixel(Term):
  """Each task's own pixel loss.

  Attributes:
    weight: of the term; each task's loss is multiplied by the task's weight too.
    auxiliary: factor on the losses of the maps that the predictor's auxiliary heads make (Zhao et
      al. 2017, Sec. 3.3); 0 leaves them out.
    balanced: part of the training, from its start, in which the loss of segmentation is
      class-weighted; see `asmjax.losses.pixel.class_balance`.  1/3 for 4 of 12 epochs (Jamali-Rad &
      Szabo 2022, Sec. 4).
    shares: of each class in the labeled pixels of a training image, on average; only needed if
      `balanced`.  Empty in a config: a run counts them.
  """

  is_reference: ClassVar[bool] = True

  weight: Weight = 1.0
  auxiliary: float = 0.0
  balanced: float = 0.0
  shares: tuple[float, ...] = ()

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
    """One summand a task, and one for its auxiliary map."""
    del critic, rng
    weight = at(self.weight, progress)
    options = {}
    if self.balanced:
      options["segmentation"] = {"weights": self._balance(truth["label"], progress)}

    def loss(name: str, maps: Mapping[str, PyTree]) -> MaskedMean:
      return tasks[name].pixel_loss(maps[name], truth, **options.get(name, {}))

    summands = {
      name: Summand(weight * task.weight, loss(name, outputs)) for name, task in tasks.items()
    }
    if not self.auxiliary:
      return Critique(summands)
    if AUXILIARY not in outputs:
      raise ValueError(f"auxiliary={self.auxiliary}, but the predictor has no auxiliary heads")
    return Critique(
      summands
      | {
        f"{name}_auxiliary": Summand(
          self.auxiliary * weight * task.weight, loss(name, outputs[AUXILIARY])
        )
        for name, task in tasks.items()
      }
    )

  def _balance(self, label: ArrayLike, progress: Array | float) -> Float[Array, "n h w"]:
    """Weights of pixels: by class at first, then 1."""
    if not self.shares:
      raise ValueError(
        f"balanced={self.balanced}, but no shares of the classes; expected those that "
        "asmjax.data.frequencies.class_shares counts"
      )
    return jnp.where(progress < self.balanced, class_balance(label, jnp.array(self.shares)), 1.0)
