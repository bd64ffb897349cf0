"""Schedules: which players each step updates, on which batch, and what follows the step."""

import abc
import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
from jaxtyping import Array

from asmjax import batch as batches
from asmjax.data.loader import EpochSampler
from asmjax.game import PREDICTOR
from asmjax.train.checkpoint import Checkpoints, ExtraState
from asmjax.train.experiment import Experiment
from asmjax.train.nonfinite import check_finite_arrays
from asmjax.train.parallel import prefetch_to_device, replicate
from asmjax.train.state import TrainState


class TrainingBatch(NamedTuple):
  """Place of a global training batch, from which it can be read again.

  Attributes:
    sampler: Sequence of examples that the batch is cut from.
    batch_size: Number of examples in each batch.
    number: Number of batches before it.
  """

  sampler: EpochSampler
  batch_size: int
  number: int


class StepInput(NamedTuple):
  """Input of the training steps that one call takes.

  Attributes:
    active_players: Players that the steps update: "predictor" and the terms of critics.
    batches: Training batch of each step on the devices, arrays (devices, n, ...) by key.
  """

  active_players: tuple[str, ...]
  batches: tuple[Mapping[str, Array], ...]


class StepResult(NamedTuple):
  """Result of the training steps of a call, and what the loop must do about it.

  Attributes:
    state: State that the next step starts from.
    scores: Metrics of the schedule to log, by name; empty for none.
    evaluates: Whether to evaluate the state, which also saves it.
    saves: Whether to save a checkpoint.
  """

  state: TrainState
  scores: Mapping[str, float] = MappingProxyType({})
  evaluates: bool = False
  saves: bool = False


class Schedule(abc.ABC):
  """Interface of the order of a run's steps; the loop takes them, logs, evaluates and saves.

  Attributes:
    done: Number of steps taken so far, of all players.
    steps: Number of steps of the complete run, of all players; None if it is not known in advance.
  """

  done: int = 0
  steps: int | None = None
  _experiment: Experiment

  @abc.abstractmethod
  def restore(self, checkpoints: Checkpoints) -> StepResult:
    """Resumes from the last checkpoint, or starts from step 0 if there is none.

    Args:
      checkpoints: Checkpoints of the run.

    Returns:
      State to start from, and whether to save it before the first step.
    """

  @abc.abstractmethod
  def step_inputs(self) -> Iterator[StepInput]:
    """Yields the input of each call that takes remaining steps, until the run ends."""

  @abc.abstractmethod
  def after_steps(self, state: TrainState, count: int) -> StepResult:
    """Counts the `count` steps that led to `state`, and decides what follows them."""

  @abc.abstractmethod
  def active_players_after(self, count: int) -> tuple[str, ...]:
    """Returns the players that the step after `count` more steps updates."""

  @abc.abstractmethod
  def acts_after(self, count: int) -> bool:
    """Returns whether `after_steps` will do more after `count` more steps than to count them."""

  @abc.abstractmethod
  def locate_batch(self, step: int) -> TrainingBatch:
    """Locates the batch of the step after `step` others, since which steps were only counted."""

  def pauses_after(self, count: int) -> bool:
    """Returns whether more is to do after `count` more steps than to take the next one.

    The schedule acts, or an interval between logs or checkpoints ends.
    """
    run, done = self._experiment, self.done + count
    intervals = run.training.log_every, run.checkpointing.every
    return self.acts_after(count) or any(is_due(done, every) for every in intervals)

  def join_steps(self, batches: Iterator[Mapping[str, Array]]) -> Iterator[StepInput]:
    """Yields the inputs of calls that take `train.steps_per_call` steps, or one where that is due.

    Steps are taken in one call if they update the same players and nothing is to do between them.
    So at most two programs are compiled for a set of players.

    Args:
      batches: Batches of the coming steps.
    """
    limit = self._experiment.training.steps_per_call
    while True:
      players = self.active_players_after(0)
      is_free = not any(
        self.pauses_after(count) or self.active_players_after(count) != players
        for count in range(1, limit)
      )
      if not (group := tuple(itertools.islice(batches, limit if is_free else 1))):
        return
      yield StepInput(players, group)

  @property
  def finished(self) -> bool:
    """Whether the run has ended: by default, whether all steps are taken."""
    return self.done == self.steps

  def describe_progress(self, state: TrainState) -> dict[str, float]:
    """Describes how far the run is in `state`; see `Experiment.describe_progress`."""
    step = int(state.step)
    return self._experiment.describe_progress(
      step, dict.fromkeys(self._experiment.optimizers, step)
    )

  def after_evaluation(self, metrics: Mapping[str, float]) -> None:
    """Takes note of the metrics of an evaluation that `after_steps` asked for; ignored by default.

    Args:
      metrics: Metrics by name, the same on all processes.
    """
    del metrics

  def extra_state(self) -> ExtraState | None:
    """Returns what a checkpoint must hold besides the training state; None for nothing."""
    return None

  def summary(self, state: TrainState) -> dict:
    """Returns the schedule's entries in `results.json`, after the run has ended with `state`."""
    del state
    return {}


class FixedSteps(Schedule):
  """Schedule of a fixed number of the predictor's steps, with the critics' steps between them.

  Each step takes a fresh minibatch and updates the players that `UpdateSchedule` selects. The
  length of the run and the interval of evaluations count the predictor's steps, so that methods
  can be compared; minibatches and the interval of checkpoints count the steps of all players.

  With `Evaluation.patience` the run ends early, after as many evaluations in a row without a better
  metric, by which checkpoints are ranked. NaN is never better.
  """

  def __init__(self, experiment: Experiment, on_skip: Callable[[str], None]):
    """Makes the schedule; `on_skip` is called with a description of each unreadable example."""
    self.steps = experiment.updates.total_steps(experiment.training.steps)
    self._experiment = experiment
    self._on_skip = on_skip
    self._best: float | None = None
    self._evals_without_gain = 0

  def restore(self, checkpoints: Checkpoints) -> StepResult:
    """Restores the state of the last checkpoint, or initializes that of step 0."""
    last = checkpoints.latest_step()
    state = restore_state(self._experiment, checkpoints, last)
    self.done = int(state.step)
    if last is not None and self._experiment.evaluation.patience:
      fields = checkpoints.restore_extra(None, last).fields
      self._best, self._evals_without_gain = fields["best"], fields["evals_without_gain"]
    return StepResult(state)

  @property
  def finished(self) -> bool:
    """Whether all steps are taken, or patience is at its end."""
    return self.done == self.steps or self._is_exhausted

  @property
  def _is_exhausted(self) -> bool:
    return 0 < self._experiment.evaluation.patience <= self._evals_without_gain

  def step_inputs(self) -> Iterator[StepInput]:
    """Yields steps for all remaining minibatches."""
    experiment = self._experiment
    if self.finished:
      return
    with contextlib.closing(experiment.train_batches(self.done, self._on_skip)) as examples:
      batches = prefetch_batches(experiment, examples)
      for step_input in self.join_steps(batches):
        yield step_input
        if self.finished:
          break

  def active_players_after(self, count: int) -> tuple[str, ...]:
    """Returns the players whose turn it is."""
    players = (PREDICTOR, *self._experiment.game.critics)
    return self._experiment.updates.active_players(self.done + count, players)

  def acts_after(self, count: int) -> bool:
    """Returns whether an evaluation, or the end, is due."""
    return self._evaluates_at(self.done + count)

  def locate_batch(self, step: int) -> TrainingBatch:
    """Locates the batch that a step takes: that of its number."""
    return TrainingBatch(self._experiment.sampler(), self._experiment.training.batch_size, step)

  def after_steps(self, state: TrainState, count: int) -> StepResult:
    """Asks for evaluations and checkpoints at their intervals, and for both at the end."""
    self.done += count
    return StepResult(
      state,
      evaluates=self._evaluates_at(self.done),
      saves=is_due(self.done, self._experiment.checkpointing.every),
    )

  def _evaluates_at(self, done: int) -> bool:
    """Returns whether the last of `done` steps ends the run or an interval of evaluations."""
    before, now = map(self._experiment.updates.count_predictor_steps, (done - 1, done))
    return done == self.steps or now > before and is_due(now, self._experiment.evaluation.every)

  def after_evaluation(self, metrics: Mapping[str, float]) -> None:
    """Counts the evaluations since the last one with a better metric."""
    value = metrics[self._experiment.checkpointing.metric]
    if (
      self._best is None and not math.isnan(value) or self._best is not None and value > self._best
    ):
      self._best, self._evals_without_gain = value, 0
    else:
      self._evals_without_gain += 1

  def extra_state(self) -> ExtraState | None:
    """Returns the best metric so far and the evaluations since, if patience needs them."""
    if not self._experiment.evaluation.patience:
      return None
    fields = {"best": self._best, "evals_without_gain": self._evals_without_gain}
    return ExtraState(None, fields)

  def summary(self, state: TrainState) -> dict:
    """Returns, of a run that ended early, the evaluations without gain that ended it."""
    del state
    if not self._is_exhausted:
      return {}
    return {"early_stop": {"best": self._best, "evals_without_gain": self._evals_without_gain}}


def restore_state(experiment: Experiment, checkpoints: Checkpoints, step: int | None) -> TrainState:
  """Restores the state of a checkpoint on all devices, or initializes that of step 0.

  Args:
    experiment: Description of the run.
    checkpoints: Checkpoints of the run.
    step: Step of the checkpoint; None for step 0, with the weights that the predictor starts from.

  Raises:
    ValueError: The checkpoint does not fit the experiment, or numbers of the state are not finite.
  """
  if step is not None:
    state = checkpoints.restore(experiment.random_state(), step)
    check_finite_arrays(state.players, f"checkpoint {checkpoints.step_path(step)}")
    return replicate(state)
  state = experiment.init_state(print if jax.process_index() == 0 else lambda _: None)
  check_finite_arrays(state.players, experiment.init.path or "the initial state")
  return replicate(state)


def prefetch_batches(experiment: Experiment, examples: Iterator) -> Iterator[Mapping[str, Array]]:
  """Yields this process's training batches on its devices, after a check against the contract."""
  required = [task.truth_key for task in experiment.game.tasks.values()]
  return prefetch_to_device(batches.check_each(examples, required=required))


def is_due(done: int, every: int) -> bool:
  """Returns whether what happens every so many steps, or never if that is 0, is due."""
  return every > 0 and done % every == 0
