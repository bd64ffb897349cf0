"""Steps whose numbers are not finite: they change nothing, and are found and named.

A NaN or an infinity spreads through a network within a step, and what is saved then is lost. So
the step itself, on the devices, keeps what it was given unless all that it computed is finite; the
host learns of it later, without waiting for any step.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from asmjax.train.state import TrainState
from asmjax.train.step import Batch, Step
from asmjax.utils.trees import leaves_by_path

# What to do about a step that is not finite, and how many in a row end the run.
POLICIES = {"stop": 1, "skip": 10}


class StepReport(NamedTuple):
  """What a guarded step reports, on the devices; of several steps, one more first axis.

  Attributes:
    metrics: Metrics of the step by name; see `asmjax.train.step.make_step`.
    is_finite: Whether the step counts: all metrics and updated players are finite, and the run had
      not halted before it.
    finite_players: Whether each updated player's parameters and statistics were finite.
  """

  metrics: dict[str, Float[Array, "*steps"]]
  is_finite: Bool[Array, "*steps"]
  finite_players: dict[str, Bool[Array, "*steps"]]


# The state, and the number of steps in a row up to it that were not finite.
GuardedState = tuple[TrainState, Int[Array, ""]]
GuardedStep = Callable[[GuardedState, Batch], tuple[GuardedState, StepReport]]


def guard_step(step: Step, *, limit: int) -> GuardedStep:
  """Makes a step that changes no player unless all that it computes is finite.

  All of it is the metrics (the losses, and the norms of the gradients) and the updated players'
  parameters and running statistics. They are those of the global batch, so that all devices agree.
  Optimizers hold sums of gradients and of their squares, which are finite as the norms are.

  Args:
    step: Step of one device.
    limit: Number of steps in a row that are not finite after which the run halts: from the last of
      them on, all steps return the state that this one was given, however many are under way.

  Returns:
    `guarded((state, streak), batch) -> ((state, streak), report)`, where `streak` counts the steps
    in a row that were not finite; 0 at the start. A step that is left out is counted by
    `state.step`, unless it is the one that the run halts at.
  """

  def guarded(given: GuardedState, batch: Batch) -> tuple[GuardedState, StepReport]:
    before, streak = given
    after, metrics = step(before, batch)
    updated = {
      name: player for name, player in after.players.items() if player is not before.players[name]
    }
    finite_players = {
      name: _all_finite((player.params, player.batch_stats)) for name, player in updated.items()
    }
    halted = streak >= limit
    is_finite = _all_finite(metrics) & ~halted & jnp.all(jnp.array(list(finite_players.values())))
    streak = jnp.where(halted, streak, jnp.where(is_finite, 0, streak + 1))
    # Half as expensive as a choice number by number.
    old = {name: before.players[name] for name in updated}
    kept = lax.cond(is_finite, lambda new, old: new, lambda new, old: old, updated, old)
    state = TrainState(
      step=jnp.where(streak >= limit, before.step, after.step),
      players={**before.players, **kept},
      rng=before.rng,
    )
    return (state, streak), StepReport(metrics, is_finite, finite_players)

  return guarded


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
  """Returns whether all real numbers of a pytree are finite."""
  reals = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.array([jnp.isfinite(x).all() for x in reals]))


class Fault(NamedTuple):
  """A step that was not finite.

  Attributes:
    step: Number of steps before it, of all players.
    names: What was not finite, with the values of metrics.
    active_players: Players that it was to update.
    examples: Names of the examples in its batch.
  """

  step: int
  names: tuple[str, ...]
  active_players: tuple[str, ...]
  examples: tuple[str, ...]

  def __str__(self) -> str:
    return f"step {self.step} is not finite ({', '.join(self.names)}) and changes nothing"


class StepLog:
  """Reports of the steps since the last logged one, and the faults among them."""

  def __init__(self, limit: int, name_examples: Callable[[int], Sequence[str]], *, polls: bool):
    """Starts without reports.

    Args:
      limit: Number of faults in a row at which the run halts; see `guard_step`.
      name_examples: Function from the number of a recent step to the names of its examples.
      polls: Whether to look for faults whenever a report has arrived, rather than where `find_halt`
        waits: processes that work together must find them after the same step.
    """
    self._limit, self._name_examples, self._polls = limit, name_examples, polls
    self._pending: collections.deque[tuple[int, StepReport]] = collections.deque()
    self._metrics: list[Mapping[str, Array | np.ndarray]] = []
    self._faults: list[Fault] = []
    self._streak = 0

  def add(self, step: int, reports: StepReport) -> None:
    """Adds the reports, arrays (n,), of the n steps after `step` others."""
    self._pending.append((step, reports))

  def find_halt(self, *, wait: bool) -> Fault | None:
    """Returns the step that the run halted at, if it is known to have halted.

    Args:
      wait: Whether to wait for all steps; otherwise only the reports that are here are read.
    """
    while self._pending and (wait or self._polls and _is_ready(self._pending[0][1].is_finite)):
      first, reports = self._pending.popleft()
      is_finite = np.asarray(reports.is_finite)
      if is_finite.all():
        self._metrics.append(reports.metrics)
        self._streak = 0
        continue
      reports = jax.device_get(reports)
      self._metrics.append(
        {name: of_steps[is_finite] for name, of_steps in reports.metrics.items()}
      )
      for i, finite in enumerate(is_finite.tolist()):
        if finite:
          self._streak = 0
          continue
        self._streak += 1
        report = jax.tree.map(lambda x, i=i: x[i], reports)
        players, examples = tuple(report.finite_players), tuple(self._name_examples(first + i))
        self._faults.append(Fault(first + i, _name_faults(report), players, examples))
        if self._streak == self._limit:
          return self._faults[-1]
    return None

  def read(self) -> tuple[dict[str, float], list[Fault]]:
    """Returns the means of the metrics over the finite steps, and the faults, since the last call.

    A metric is averaged over the steps that have it: only active players have a gradient.
    """
    values: dict[str, list[float]] = {}
    for metrics in jax.device_get(self._metrics):
      for name, value in metrics.items():
        values.setdefault(name, []).extend(value.tolist())
    means = {name: float(np.mean(of_steps)) for name, of_steps in values.items() if of_steps}
    faults = list(self._faults)
    self._metrics.clear()
    self._faults.clear()
    return means, faults


def _name_faults(report: StepReport) -> tuple[str, ...]:
  """Names what a step computed that is not finite."""
  metrics = {name: float(value) for name, value in report.metrics.items()}
  updated = {name: bool(value) for name, value in report.finite_players.items()}
  return (
    *(f"{name} {value}" for name, value in metrics.items() if not np.isfinite(value)),
    *(f"{name} after the update" for name, finite in updated.items() if not finite),
  )


def name_nonfinite_arrays(tree: PyTree) -> list[str]:
  """Names the arrays of a pytree that are not finite, as in "params/conv1/kernel (3 of 432)"."""
  names = []
  for name, leaf in leaves_by_path(jax.device_get(tree)).items():
    count = np.size(leaf) - np.count_nonzero(np.isfinite(leaf))
    if count:
      names.append(f"{name} ({count} of {np.size(leaf)})")
  return names


def check_finite_arrays(tree: PyTree, owner: str) -> None:
  """Raises ValueError, with the names of the first arrays, if some of a network are not finite."""
  if names := name_nonfinite_arrays(tree):
    more = f" and {len(names) - 3} more arrays" if len(names) > 3 else ""
    raise ValueError(f"{owner} is not finite: {', '.join(names[:3])}{more}")


def _is_ready(array: Array) -> bool:
  """Tells whether an array is computed, without waiting."""
  return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  # JAX's stubs lack it.
