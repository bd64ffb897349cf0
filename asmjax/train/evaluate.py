"""Evaluation of a split: sums over padded, masked batches, divided once at the end.

Metrics are computed from sums over all examples, so they depend neither on the batch size nor on
the number of devices.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from asmjax import batch as batches
from asmjax.game import Game
from asmjax.models.layers import DEVICES
from asmjax.tasks.base import Task
from asmjax.train.parallel import all_gather_objects, pmap_step, prefetch_to_device
from asmjax.utils.prefetch import prefetch

# Counts are int32 on device, which overflows at 2^31; beyond half of that, sums move to the host,
# in int64.
_MAX_PIXELS = 2**30
# Number of batches whose extra metrics are computed, or wait to be, at the same time: few, since
# each of them stays in the memory of the devices.
_IN_FLIGHT = 3


class EvaluationResult(NamedTuple):
  """Metrics of an evaluation, and how they were computed.

  Attributes:
    num_examples: Number of examples that were evaluated.
    metrics: Metrics by "TASK/METRIC", extra metrics by "TASK/KIND/METRIC"; for a single class the
      name ends in "/CLASS", see `asmjax.metrics.names`.
    protocols: Descriptions of how the metrics were computed, by "TASK" and "TASK/KIND".
    sums: Sums of `Task.metric_sums` over all examples by task, which metrics are computed from.
  """

  num_examples: int
  metrics: dict[str, float]
  protocols: dict[str, str]
  sums: dict[str, PyTree]


def make_evaluate(
  game: Game,
) -> Callable[[PyTree, Iterable[Mapping[str, np.ndarray]]], EvaluationResult]:
  """Makes a function that evaluates a game's predictor, compiled once.

  Args:
    game: Game with the predictor and its tasks.

  Returns:
    `evaluate(variables, batches) -> EvaluationResult` over all examples of the batches whose weight
    is 1. If a batch holds soft predictions, they take the place of the predictor's.
  """

  detailed = {name: task for name, task in game.tasks.items() if task.extra_metrics}
  required = {task.truth_key for task in game.tasks.values()}
  required |= {key for task in detailed.values() for key in task.extra_truth_keys}

  def measure(variables: PyTree, batch: Mapping[str, Array]) -> tuple[PyTree, PyTree]:
    batch, aligned = _masked(batch), {"align_corners": game.align_corners}
    outputs = _estimated(game, batch) or game.predict(variables, batch["image"])
    measured = {
      name: task.metric_sums(outputs[name], batch, **aligned) for name, task in game.tasks.items()
    }
    height, width = batch["image"].shape[1:3]
    shown = {
      name: task.predict(outputs[name], (height, width), **aligned)
      for name, task in detailed.items()
    }
    return lax.psum((jnp.sum(batch["weight"] > 0), measured), DEVICES), shown

  measure = pmap_step(measure, out_axes=(None, 0))

  def evaluate(variables: PyTree, examples: Iterable[Mapping[str, np.ndarray]]):
    sums, details = _Sums(), ExtraMetricsRunner(detailed)

    def predicted() -> Iterator[tuple[dict[str, Array], Mapping[str, Array]]]:
      for batch in prefetch_to_device(batches.checked(examples, required=sorted(required))):
        measured, predictions = measure(variables, batch)
        sums.add(measured, jax.process_count() * math.prod(batch["image"].shape[:-1]))
        yield predictions, batch

    details.add_all(predicted())
    count, measured = sums.read()
    metrics = {
      f"{name}/{metric}": value
      for name, task in game.tasks.items()
      for metric, value in task.compute_metrics(measured[name]).items()
    }
    corners = ", corners aligned" if game.align_corners else ""
    protocols = {name: task.protocol + corners for name, task in game.tasks.items()}
    further, their_protocols = details.read()
    return EvaluationResult(int(count), metrics | further, protocols | their_protocols, measured)

  return evaluate


def _estimated(game: Game, batch: Mapping[str, Array]) -> dict[str, Array]:
  """Returns maps equal to the batch's soft predictions, by task; empty if it has none."""
  return {
    name: task.from_soft_prediction(batch[batches.ESTIMATE + task.truth_key])
    for name, task in game.tasks.items()
    if batches.ESTIMATE + task.truth_key in batch
  }


class ExtraMetricsRunner:
  """Runner of the metrics that tasks compute on the host, in threads, while devices compute."""

  def __init__(self, tasks: Mapping[str, Task]):
    """Starts without images.

    Args:
      tasks: Tasks with extra metrics, by name.
    """
    self._tasks = tasks
    self._states: dict[str, dict[str, Any]] = {}

  def add_all(self, predicted: Iterable[tuple[PyTree, Mapping[str, Array]]]) -> None:
    """Adds the examples of batches, except those of weight 0, which are padding.

    Args:
      predicted: Pairs of `Task.predict` by task and of the batch with the truth, both of arrays
        (devices, n, ...).
    """
    with ThreadPoolExecutor() as pool:
      computing = (pool.submit(self._compute, *pair) for pair in predicted)
      for future in prefetch(computing, _IN_FLIGHT):
        self._merge(future.result())

  def read(self) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics over the images of all processes, and their protocols, by name.

    All processes must call it, once.
    """
    for states in all_gather_objects(self._states):
      self._merge(states)
    metrics, protocols = {}, {}
    for name, states in self._states.items():
      for key, value in self._tasks[name].compute_extra_metrics(states).items():
        metrics[f"{name}/{key}"] = value
      for kind, state in states.items():
        protocols[f"{name}/{kind}"] = state.protocol
    return metrics, protocols

  def _compute(self, shown: PyTree, batch: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    flat = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
    real = flat(batch["weight"]) > 0
    keys = {task.truth_key for task in self._tasks.values()}
    keys |= {key for task in self._tasks.values() for key in task.extra_truth_keys} | (
      {"size"} & set(batch)
    )
    truth = {key: flat(batch[key])[real] for key in keys}
    return {
      name: task.extra_metric_states(flat(shown[name])[real], truth)
      for name, task in self._tasks.items()
    }

  def _merge(self, states: Mapping[str, Mapping[str, Any]]) -> None:
    for name, each in states.items():
      mine = self._states.setdefault(name, {})
      for kind, state in each.items():
        mine[kind] = mine[kind].merge(state) if kind in mine else state


def _masked(batch: Mapping[str, Array]) -> dict[str, Array]:
  """Marks all truth of the padding examples, of weight 0, as missing."""
  real = lambda value: jnp.expand_dims(batch["weight"] > 0, range(1, value.ndim))
  return {
    key: jnp.where(real(value), value, batches.MISSING[key]) if key in batches.MISSING else value
    for key, value in batch.items()
  }


class _Sums:
  """Sums over batches, on the devices as long as they fit int32, then on the host."""

  def __init__(self):
    self._total: PyTree = None
    self._pending: PyTree = None
    self._pixels = 0

  def add(self, measured: PyTree, pixels: int) -> None:
    """Adds the sums of a batch, whose counts are at most `pixels`."""
    add = lambda pending: jax.tree.map(jnp.add, pending, measured)
    self._pending = measured if self._pending is None else add(self._pending)
    self._pixels += pixels
    if self._pixels > _MAX_PIXELS:
      self._flush()

  def read(self) -> PyTree:
    """Returns the sums, integers as int64; raises ValueError if there was no batch."""
    if self._pending is not None:
      self._flush()
    if self._total is None:
      raise ValueError("nothing to evaluate: the split has no batch")
    return self._total

  def _flush(self) -> None:
    wide = lambda x: np.asarray(x, np.int64 if jnp.issubdtype(x.dtype, jnp.integer) else np.float64)
    pending = jax.tree.map(wide, jax.device_get(self._pending))
    self._total = pending if self._total is None else jax.tree.map(np.add, self._total, pending)
    self._pending, self._pixels = None, 0
