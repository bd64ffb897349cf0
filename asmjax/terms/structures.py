"""Structures of predictions and truths, as critics get them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.losses.matching import pool_mask
from asmjax.tasks.base import Task


def select_tasks(tasks: Mapping[str, Task], names: tuple[str, ...]) -> dict[str, Task]:
  """Selects the tasks of these names, or all if there are none.

  Raises:
    ValueError: A selected task is not trained.
  """
  unknown = [name for name in names if name not in tasks]
  if unknown:
    raise ValueError(f"structure of unknown tasks {unknown}; known: {', '.join(tasks)}")
  return {name: task for name, task in tasks.items() if not names or name in names}


class MaskedStructures(NamedTuple):
  """Structures of some tasks, one (n, h, w, c) a task, 0 where there is no truth.

  So an unlabeled pixel has no gradient.

  Attributes:
    tasks: Selected tasks by name.
    outputs: Map of the predictor by task.
    truth: Batch at the size of the outputs.
  """

  tasks: Mapping[str, Task]
  outputs: Mapping[str, PyTree]
  truth: Mapping[str, ArrayLike]

  @property
  def true(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Structures of the truth."""
    return self._mask(lambda name, task: task.true_structure(self.truth))

  @property
  def predicted(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Structures of the prediction."""
    return self._mask(lambda name, task: task.structure(self.outputs[name]))

  @property
  def hard(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Hard structures of the prediction, such as winner-take-all one-hot maps; no gradient."""
    return self._mask(lambda name, task: task.hard_structure(self.outputs[name]))

  @property
  def straight_through(self) -> tuple[Float[Array, "n h w _"], ...]:
    """Hard structures with the gradient of the soft ones: the straight-through estimator.

    A critic's slope is taken at the hard structure, and goes on to the outputs as if that were
    `predicted` (Bengio et al. 2013, Sec. 4).
    """
    return tuple(
      hard + (predicted - jax.lax.stop_gradient(predicted))
      for hard, predicted in zip(self.hard, self.predicted, strict=True)
    )

  def mask(self, size: tuple[int, ...], *, count_partial_cells: bool) -> Float[Array, "n h2 w2 1"]:
    """Marks the cells of a layer of `size` that count for any task; see `pool_mask`."""
    pooled = [
      pool_mask(task.mask(self.truth), size, count_partial_cells=count_partial_cells)
      for task in self.tasks.values()
    ]
    return jnp.max(jnp.stack(pooled), axis=0)

  def _mask(self, structure: Callable[[str, Task], Array]) -> tuple[Array, ...]:
    return tuple(structure(name, task) * task.mask(self.truth) for name, task in self.tasks.items())
