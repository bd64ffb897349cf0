"""Evaluation on a whole split: padded, masked, summed on device, divided last."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from asmjax import batch as batches
from asmjax.minimax import Game
from asmjax.models.layers import DEVICES
from asmjax.train.parallel import placed, spread

# Counts are int32 on device; more pixels than this are added up on the host, in int64.
_LIMIT = 2**30


class Scores(NamedTuple):
  """What an evaluation found.

  Attributes:
    examples: that were evaluated.
    metrics: by "task/metric".
  """

  examples: int
  metrics: dict[str, float]


def make_evaluate(
  game: Game,
) -> Callable[[PyTree, Iterable[Mapping[str, np.ndarray]]], Scores]:
  """Evaluation of `game`'s predictor, compiled once.

  Args:
    game: whose predictor and tasks.

  Returns:
    `evaluate(variables, batches) -> Scores` over all examples of the batches whose weight is 1.
  """

  def measure(variables: PyTree, batch: Mapping[str, Array]) -> dict[str, PyTree]:
    batch = _masked(batch)
    outputs = game.predict(variables, batch["image"])
    measured = {name: task.measure(outputs[name], batch) for name, task in game.tasks.items()}
    return lax.psum((jnp.sum(batch["weight"] > 0), measured), DEVICES)

  measure = spread(measure)

  def evaluate(variables: PyTree, examples: Iterable[Mapping[str, np.ndarray]]):
    total, pending, pixels = None, None, 0
    checked = batches.checked(examples, required=[task.truth for task in game.tasks.values()])
    for batch in placed(checked):
      measured = measure(variables, batch)
      pending = measured if pending is None else jax.tree.map(jnp.add, pending, measured)
      pixels += jax.process_count() * math.prod(batch["image"].shape[:-1])
      if pixels > _LIMIT:
        total, pending, pixels = _flushed(total, pending), None, 0
    total = _flushed(total, pending)
    if total is None:
      raise ValueError("nothing to evaluate: the split has no batch")
    examples, measured = total
    return Scores(int(examples), {
      f"{name}/{metric}": value
      for name, task in game.tasks.items()
      for metric, value in task.scores(measured[name]).items()
    })

  return evaluate


def _masked(batch: Mapping[str, Array]) -> dict[str, Array]:
  """Without the truth of the examples that only pad."""
  real = lambda value: jnp.expand_dims(batch["weight"] > 0, range(1, value.ndim))
  return {
    key: jnp.where(real(value), value, batches.MISSING[key]) if key in batches.MISSING else value
    for key, value in batch.items()
  }


def _flushed(total: PyTree | None, pending: PyTree | None) -> PyTree | None:
  """`pending` added to `total` on the host, integers as int64."""
  if pending is None:
    return total
  wide = lambda x: np.asarray(x, np.int64 if jnp.issubdtype(x.dtype, jnp.integer) else np.float64)
  pending = jax.tree.map(wide, jax.device_get(pending))
  return pending if total is None else jax.tree.map(np.add, total, pending)
