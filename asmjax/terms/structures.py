"""What critics of structures are shown."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.game import Task
from asmjax.losses.matching import pooled_valid


def select_tasks(tasks: Mapping[str, Task], names: tuple[str, ...]) -> dict[str, Task]:
  """The tasks that a term judges: those of `names`, or all.

  Raises:
    ValueError: a task that is to be judged is not trained.
  """
  unknown = [name for name in names if name not in tasks]
  if unknown:
    raise ValueError(f"structure of unknown tasks {unknown}; known: {', '.join(tasks)}")
  return {name: task for name, task in tasks.items() if not names or name in names}


class MaskedStructures(NamedTuple):
  """The structures of some tasks, one (n, h, w, c) a task, 0 where there is no truth.

  So an unlabeled pixel has no gradient.

  Attributes:
    tasks: that are judged.
    outputs: the predictor's.
    truth: at the same size.
  """

  tasks: Mapping[str, Task]
  outputs: Mapping[str, PyTree]
  truth: Mapping[str, ArrayLike]

  @property
  def true(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Of the truth."""
    return self._masked(lambda name, task: task.true_structure(self.truth))

  @property
  def predicted(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Of the prediction."""
    return self._masked(lambda name, task: task.structure(self.outputs[name]))

  @property
  def binarised(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Of the prediction once it is decided, without gradient."""
    return self._masked(lambda name, task: task.hard_structure(self.outputs[name]))

  @property
  def straight_through(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Of the prediction once it is decided, with the slope of what it is decided from.

    The straight-through estimator (Bengio et al. 2013, Sec. 4): a critic's slope is taken where
    the decided structure lies, and goes on to the outputs as if that were `predicted`.
    """
    return tuple(
      decided + (predicted - jax.lax.stop_gradient(predicted))
      for decided, predicted in zip(self.binarised, self.predicted, strict=True)
    )

  def valid(self, size: tuple[int, int], *, partly: bool) -> Float[Array, "n h2 w2 1"]:
    """Which cells of a layer of `size` count: those that do for any task; see `pooled_valid`."""
    return jnp.max(
      jnp.stack(
        [pooled_valid(task.mask(self.truth), size, partly=partly) for task in self.tasks.values()]
      ),
      axis=0,
    )

  def _masked(self, structure: Callable[[str, Task], Array]) -> tuple[Array, ...]:
    return tuple(structure(name, task) * task.mask(self.truth) for name, task in self.tasks.items())
