"""Who moves when, on which batch, and what happens between steps: what the loop does not know."""

import abc
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from asmjax import batch as batches
from asmjax.game import PREDICTOR
from asmjax.train.checkpoint import Checkpoints, ExtraState
from asmjax.train.experiment import Experiment
from asmjax.train.parallel import prefetch_to_device, replicate
from asmjax.train.state import TrainState


class StepInput(NamedTuple):
  """One step.

  Attributes:
    active_players: Players that are updated.
    batch: on the devices.
  """

  active_players: tuple[str, ...]
  batch: Mapping[str, Array]


class StepResult(NamedTuple):
  """What follows a step.

  Attributes:
    state: to go on with.
    scores: to be logged, if anything was found out.
    evaluates: whether the state is to be evaluated.
    saves: whether a checkpoint is due.
  """

  state: TrainState
  scores: Mapping[str, float] = MappingProxyType({})
  evaluates: bool = False
  saves: bool = False


class Schedule(abc.ABC):
  """The order of a run's steps; the loop takes them, logs, evaluates and saves.

  Attributes:
    done: steps so far, of all players.
    steps: of all players in the whole run, if they are known.
  """

  done: int = 0
  steps: int | None = None

  @abc.abstractmethod
  def restore(self, checkpoints: Checkpoints) -> StepResult:
    """Goes on from the last checkpoint, or from the beginning if there is none."""

  @abc.abstractmethod
  def step_inputs(self) -> Iterator[StepInput]:
    """The steps to come, until the run ends."""

  @abc.abstractmethod
  def after_step(self, state: TrainState) -> StepResult:
    """What follows the step that led to `state`."""

  def extra_state(self) -> ExtraState | None:
    """What a checkpoint must hold besides the state."""
    return None

  def summary(self, state: TrainState) -> dict:
    """What `results.json` holds of the schedule, once the run has ended with `state`."""
    del state
    return {}


class FixedSteps(Schedule):
  """A fixed number of the predictor's steps, and those of the critics between them.

  Each step is on a fresh minibatch, for those whose turn it is. What is compared, the length of the
  run and its evaluations, counts the predictor's steps; checkpoints, which only save time, and
  the minibatches count all.
  """

  def __init__(self, experiment: Experiment, on_skip: Callable[[str], None]):
    """From the first step.

    Args:
      experiment: what to do.
      on_skip: see `asmjax.data.loader.train_batches`.
    """
    self.steps = experiment.updates.total_steps(experiment.training.steps)
    self._experiment = experiment
    self._on_skip = on_skip

  def restore(self, checkpoints: Checkpoints) -> StepResult:
    """The state of the last checkpoint, or that of step 0."""
    state = restore_state(self._experiment, checkpoints, checkpoints.latest_step())
    self.done = int(state.step)
    return StepResult(state)

  def step_inputs(self) -> Iterator[StepInput]:
    """One step a minibatch."""
    experiment = self._experiment
    players = (PREDICTOR, *experiment.game.critics)
    for batch in prefetch_batches(experiment, experiment.train_batches(self.done, self._on_skip)):
      yield StepInput(experiment.updates.active_players(self.done, players), batch)

  def after_step(self, state: TrainState) -> StepResult:
    """Evaluation and checkpoints at intervals, and at the end."""
    # Of a whole number it gives one, of an array an array.
    count = lambda step: int(np.asarray(self._experiment.updates.count_predictor_steps(step)))
    before, taken = count(self.done), count(self.done + 1)
    self.done += 1
    due = taken > before and is_due(taken, self._experiment.evaluation.every)
    evaluates = due or self.done == self.steps
    saves = evaluates or is_due(self.done, self._experiment.checkpointing.every)
    return StepResult(state, evaluates=evaluates, saves=saves)


def restore_state(experiment: Experiment, checkpoints: Checkpoints, step: int | None) -> TrainState:
  """The state of `step`, or the state to start from if that is None."""
  if step is not None:
    return replicate(checkpoints.restore(experiment.random_state(), step))
  say = print if jax.process_index() == 0 else lambda _: None
  return replicate(experiment.init_state(say))


def prefetch_batches(experiment: Experiment, examples: Iterator) -> Iterator[Mapping[str, Array]]:
  """Training batches on devices, each held against the contract."""
  required = [task.truth_key for task in experiment.game.tasks.values()]
  return prefetch_to_device(batches.checked(examples, required=required))


def is_due(done: int, every: int) -> bool:
  """Whether `done` is a multiple of `every`; never with 0."""
  return every > 0 and done % every == 0
