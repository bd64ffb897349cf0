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
from asmjax.metrics.base import map_arrays
from asmjax.models.layers import DEVICES
from asmjax.tasks.base import Task
from asmjax.train.parallel import all_gather_arrays, pmap_step, prefetch_to_device
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

  Returns:
    `evaluate(variables, batches) -> EvaluationResult` over all examples of the batches whose weight
    is 1. If a batch holds soft predictions, they take the place of the predictor's.
  """
  tasks, aligned = game.tasks, {"align_corners": game.align_corners}
  tasks_with_extras = {name: task for name, task in tasks.items() if task.extra_metrics}
  required = sorted({task.truth_key for task in tasks.values()} | _extra_keys(tasks_with_extras))

  def evaluate_batch(variables: PyTree, batch: Mapping[str, Array]) -> tuple[PyTree, PyTree]:
    batch = _mask_padding(batch)
    outputs = _soft_predictions(game, batch) or game.predict(variables, batch["image"])
    sums = {name: task.metric_sums(outputs[name], batch, **aligned) for name, task in tasks.items()}
    height, width = batch["image"].shape[1:3]
    predictions = {
      name: task.predict(outputs[name], (height, width), **aligned)
      for name, task in tasks_with_extras.items()
    }
    return lax.psum((jnp.sum(batch["weight"] > 0), sums), DEVICES), predictions

  evaluate_batch = pmap_step(evaluate_batch, out_axes=(None, 0))

  def evaluate(variables: PyTree, examples: Iterable[Mapping[str, np.ndarray]]):
    total, extras = _Sums(), ExtraMetricsRunner(tasks_with_extras)

    def predict_all() -> Iterator[tuple[dict[str, Array], Mapping[str, Array]]]:
      for batch in prefetch_to_device(batches.check_each(examples, required=required)):
        sums, predictions = evaluate_batch(variables, batch)
        total.add(sums, jax.process_count() * math.prod(batch["image"].shape[:-1]))
        yield predictions, batch

    extras.add_all(predict_all())
    num_examples, sums = total.read()
    metrics = {
      f"{name}/{metric}": value
      for name, task in tasks.items()
      for metric, value in task.compute_metrics(sums[name]).items()
    }
    corners = ", corners aligned" if game.align_corners else ""
    protocols = {name: task.protocol + corners for name, task in tasks.items()}
    extra_metrics, extra_protocols = extras.read()
    return EvaluationResult(
      int(num_examples), metrics | extra_metrics, protocols | extra_protocols, sums
    )

  return evaluate


class ExtraMetricsRunner:
  """Runner of the metrics that tasks compute on the host, in threads, while devices compute."""

  def __init__(self, tasks: Mapping[str, Task]):
    """Starts without images, for the tasks with extra metrics by name."""
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
    own: list[np.ndarray] = []
    map_arrays(lambda x: own.append(x) or x, self._states)
    for arrays in all_gather_arrays(own):
      remaining = iter(arrays)
      self._merge(map_arrays(lambda _, remaining=remaining: next(remaining), self._states))
    metrics, protocols = {}, {}
    for name, states in self._states.items():
      for key, value in self._tasks[name].compute_extra_metrics(states).items():
        metrics[f"{name}/{key}"] = value
      for kind, state in states.items():
        protocols[f"{name}/{kind}"] = state.protocol
    return metrics, protocols

  def _compute(self, predictions: PyTree, batch: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Computes the states of the metrics on one batch, by task and kind."""
    flatten = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
    is_real = flatten(batch["weight"]) > 0
    keys = {task.truth_key for task in self._tasks.values()} | _extra_keys(self._tasks)
    truth = {key: flatten(batch[key])[is_real] for key in keys | ({"size"} & set(batch))}
    return {
      name: task.extra_metric_states(flatten(predictions[name])[is_real], truth)
      for name, task in self._tasks.items()
    }

  def _merge(self, states: Mapping[str, Mapping[str, Any]]) -> None:
    for name, by_kind in states.items():
      merged = self._states.setdefault(name, {})
      for kind, state in by_kind.items():
        merged[kind] = merged[kind].merge(state) if kind in merged else state


def _extra_keys(tasks: Mapping[str, Task]) -> set[str]:
  """Returns the keys of the truth that the extra metrics of tasks need."""
  return {key for task in tasks.values() for key in task.extra_truth_keys}


def _soft_predictions(game: Game, batch: Mapping[str, Array]) -> dict[str, Array]:
  """Returns maps equal to the batch's soft predictions, by task; empty if it has none."""
  return {
    name: task.from_soft_prediction(batch[batches.ESTIMATE + task.truth_key])
    for name, task in game.tasks.items()
    if batches.ESTIMATE + task.truth_key in batch
  }


def _mask_padding(batch: Mapping[str, Array]) -> dict[str, Array]:
  """Marks all truth of the padding examples, of weight 0, as missing."""
  is_real = lambda value: jnp.expand_dims(batch["weight"] > 0, range(1, value.ndim))
  return {
    key: jnp.where(is_real(value), value, batches.MISSING[key]) if key in batches.MISSING else value
    for key, value in batch.items()
  }


class _Sums:
  """Sums over batches, on the devices as long as they fit int32, then on the host."""

  def __init__(self):
    self._on_host: PyTree = None
    self._on_device: PyTree = None
    self._num_pixels = 0

  def add(self, sums: PyTree, num_pixels: int) -> None:
    """Adds the sums of a batch, whose counts are at most `num_pixels`."""
    self._on_device = _add(jnp.add, self._on_device, sums)
    self._num_pixels += num_pixels
    if self._num_pixels > _MAX_PIXELS:
      self._flush()

  def read(self) -> PyTree:
    """Returns the sums, integers as int64; raises ValueError if there was no batch."""
    if self._on_device is not None:
      self._flush()
    if self._on_host is None:
      raise ValueError("nothing to evaluate: the split has no batch")
    return self._on_host

  def _flush(self) -> None:
    widen = lambda x: np.asarray(x, np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64)
    sums = jax.tree.map(widen, jax.device_get(self._on_device))
    self._on_host = _add(np.add, self._on_host, sums)
    self._on_device, self._num_pixels = None, 0


def _add(add: Callable[[Any, Any], Any], total: PyTree | None, sums: PyTree) -> PyTree:
  return sums if total is None else jax.tree.map(add, total, sums)
