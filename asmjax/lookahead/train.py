"""LoAd as a schedule: propagations, cycles, and the critics' own training between them."""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from asmjax.data.loader import Batches
from asmjax.data.wrappers import Subset
from asmjax.game import PREDICTOR, Game
from asmjax.lookahead import cycle as cycles
from asmjax.lookahead.buffer import aggregate
from asmjax.lookahead.critic_evaluation import make_critic_evaluation
from asmjax.lookahead.cycle import Action
from asmjax.lookahead.replay import DECISION, ReplayBuffer
from asmjax.lookahead.settings import Lookahead, decision_split
from asmjax.lookahead.state import End, LookaheadState
from asmjax.train.batch_size import check_batch_size
from asmjax.train.checkpoint import Checkpoints, ExtraState
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment
from asmjax.train.loop import make_draw_predictions
from asmjax.train.parallel import check_divisible, replicate
from asmjax.train.schedule import (
  Schedule,
  StepInput,
  StepResult,
  TrainingBatch,
  is_due,
  prefetch_batches,
  restore_state,
)
from asmjax.train.state import TrainState
from asmjax.utils.files import write_npz


class LookaheadSchedule(Schedule):
  """Schedule of lookahead adversarial learning (Jamali-Rad and Szabo 2022, Algorithm 3).

  The predictor moves alone until its cycle ends; then it steps back to the best model, and the
  critics are trained alone, on the truth and on the maps of the buffer, until they no longer get
  better on the decision split. The critics never step back, except to the best of their present
  training, and the predictor's minibatches are always fresh ones.

  Attributes:
    progress: State of the algorithm.
    seconds: Seconds spent so far, by what they were spent on.
  """

  def __init__(
    self,
    experiment: Experiment,
    workdir: pathlib.Path,
    on_skip: Callable[[str], None],
    settings: Lookahead,
  ):
    """Prepares the run, whose state `restore` then gives.

    Args:
      experiment: Experiment, whose number of steps is the largest that the predictor takes.
      workdir: Folder of the run, for `maps`, the buffer, and `previews`, the predictions of the
        same photos through the cycles.
      on_skip: Function that is called with what is wrong with an example that cannot be read.
      settings: Settings of the algorithm.

    Raises:
      ValueError: The game has no critic, or training has settings that LoAd does not allow.
    """
    check_experiment(experiment, settings)
    self.progress: LookaheadState  # Set by `restore`.
    self._checkpoints: Checkpoints  # Likewise.
    self._experiment, self._workdir, self._settings = experiment, workdir, settings
    self._metric, self._on_skip = experiment.checkpointing.metric, on_skip
    self._decision_source, self._remaining_source = (
      Subset(experiment.validation, indices)
      for indices in decision_split(
        len(experiment.validation), settings.decision_fraction, settings.decision_seed
      )
    )
    self._buffer = ReplayBuffer(
      experiment, settings, self._decision_source, workdir / "maps", on_skip
    )
    self._evaluate = make_evaluate(_without_host_metrics(experiment.game))
    self._evaluate_critics = make_critic_evaluation(experiment)
    self._draw = make_draw_predictions(experiment, on_skip, settings.num_previews)
    # Kept on the host, since they are evaluated again and again.
    self._decision_batches: list[Mapping[str, np.ndarray]] = []
    self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
    self._since = time.perf_counter()

  @property
  def _out_of_steps(self) -> bool:
    return self.progress.predictor_steps == self._experiment.training.steps

  @property
  def finished(self) -> bool:
    """Whether LoAd has decided that the run has ended."""
    return self.progress.finished

  @property
  def done(self) -> int:
    """Number of steps so far, of all players."""
    return self.progress.predictor_steps + self.progress.critic_steps

  def restore(self, checkpoints: Checkpoints) -> StepResult:
    """Restores the last checkpoint, or evaluates the start and puts its maps into the buffer."""
    self._checkpoints = checkpoints
    last = checkpoints.latest_step()
    state = restore_state(self._experiment, checkpoints, last)
    self._keep_best(state)
    self._keep_critics(state)
    if last is not None:
      extra = checkpoints.restore_extra(self._arrays(), last)
      self.progress = LookaheadState.from_dict(extra.fields)
      arrays = replicate(extra.arrays)
      self._best, self._critics = arrays["best"], arrays["critics"]
      if self.progress.retraining:
        self._open_buffer()
      return StepResult(state)
    scores = self._decision_scores(state)
    miou = scores[self._metric]
    self.progress = LookaheadState(cycles.begin(miou), (miou, *self._remaining_scores(state)))
    self._store_maps(0, state, maps=True)
    logged = _metrics_of(self.progress, scores, miou)
    if self._out_of_steps:
      self._update(finished=True)
      return StepResult(state, logged, evaluates=True)
    state, loss = self._begin_retraining(state)
    return StepResult(state, logged | loss, saves=True)

  def step_inputs(self) -> Iterator[StepInput]:
    """Yields the critics' steps and the predictor's, in phases."""
    while not self.finished:
      retraining = self.progress.retraining
      with contextlib.closing(self._batches()) as examples:
        batches = prefetch_batches(self._experiment, examples)
        for step_input in self.join_steps(batches):
          yield step_input
          if self.finished or self.progress.retraining is not retraining:
            break

  def after_steps(self, state: TrainState, count: int) -> StepResult:
    """Evaluates at the end of a propagation or a part of the critics' training, and acts on it."""
    if self.progress.retraining:
      self._update(critic_steps=self.progress.critic_steps + count)
      result = self._after_critic_steps(state)
    else:
      self._update(predictor_steps=self.progress.predictor_steps + count)
      result = self._after_predictor_steps(state)
    saves = result.saves or is_due(self.done, self._experiment.checkpointing.every)
    return result._replace(saves=saves)

  def locate_batch(self, step: int) -> TrainingBatch:
    """Locates a batch of the present phase."""
    now, behind = self.progress, self.done - step
    if now.retraining:
      number = now.critic_steps - now.phase_start - behind
      return self._buffer.locate_batch(number, now.num_retrainings)
    run = self._experiment
    return TrainingBatch(run.sampler(), run.training.batch_size, now.predictor_steps - behind)

  def active_players_after(self, count: int) -> tuple[str, ...]:
    """Returns the players of the present phase."""
    del count
    return self._experiment.game.critics if self.progress.retraining else (PREDICTOR,)

  def acts_after(self, count: int) -> bool:
    """Returns whether a propagation, or a part of the critics' training, ends."""
    now = self.progress
    return self._acts_at((now.critic_steps if now.retraining else now.predictor_steps) + count)

  def _acts_at(self, count: int) -> bool:
    """Returns whether more is to do after so many steps of those that are being trained."""
    steps = count - self.progress.phase_start
    if self.progress.retraining:
      return steps % self._settings.retraining.eval_every == 0 or steps >= self._buffer.max_steps
    is_last = count == self._experiment.training.steps
    return steps % self._settings.steps_per_propagation == 0 or is_last

  def describe_progress(self, state: TrainState) -> dict[str, float]:
    """Describes how far the run is.

    After a step back the rate is that of the restored model; epochs count every batch taken.
    """
    now, run = self.progress, self._experiment
    model = self._best["step"] if now.retraining else state.step
    steps = dict.fromkeys(run.game.critics, now.critic_steps) | {PREDICTOR: int(model)}
    return run.describe_progress(now.predictor_steps, steps)

  def extra_state(self) -> ExtraState:
    """Returns the best predictor, the best critics of their present training, and the progress."""
    # A run whose last checkpoint is damaged goes on from another, and needs the maps of that.
    saved = map(LookaheadState.from_dict, self._checkpoints.fields)
    sets = itertools.chain(self.progress.sets, *(progress.sets for progress in saved))
    self._buffer.keep({maps.model for maps in sets})
    return ExtraState(self._arrays(), dataclasses.asdict(self.progress))

  def summary(self, state: TrainState) -> dict[str, Any]:
    """Returns the metric of the start and the end, on the decision split and on the rest."""
    now, remaining = self.progress, self._remaining_scores(state)
    parts = {DECISION: (len(self._decision_source), now.initial_metrics[0], now.cycle.best)}
    if remaining:
      parts["rest"] = (len(self._remaining_source), now.initial_metrics[1], remaining[0])
    scores = {
      name: {"examples": count, "start": start, "end": end}
      for name, (count, start, end) in parts.items()
    }
    counts = {
      "propagations": now.num_propagations,
      "cycles": now.num_cycles,
      "predictor_steps": now.predictor_steps,
      "critic_steps": now.critic_steps,
    }
    return {"lookahead": {"metric": self._metric, **counts, **scores}}

  # The predictor's propagations.

  def _after_predictor_steps(self, state: TrainState) -> StepResult:
    now, rules = self.progress, self._settings.rules
    if not self._acts_at(now.predictor_steps):
      return StepResult(state)
    self._book_time("predictor", state)
    scores = self._decision_scores(state)
    miou = scores[self._metric]
    cycle, actions = cycles.advance(now.cycle, miou, now.predictor_steps, rules)
    if Action.KEEP_BEST in actions:
      self._keep_best(state)
    self._update(cycle=cycle, num_propagations=now.num_propagations + 1)
    logged = _metrics_of(self.progress, scores, miou) | {
      "lookahead/kept_best": float(Action.KEEP_BEST in actions),
      "lookahead/kept_start": float(Action.KEEP_START in actions),
    }
    if Action.TRAIN in actions and not self._out_of_steps:
      return StepResult(state, logged | {"lookahead/cycle_end": float(End.OPEN.value)})
    dropped = not miou > now.cycle.start - rules.max_drop
    end = End.BUDGET if Action.TRAIN in actions else End.DROP if dropped else End.PATIENCE
    return self._end_cycle(state, logged | {"lookahead/cycle_end": float(end.value)}, actions)

  def _end_cycle(
    self, state: TrainState, logged: dict[str, float], actions: Sequence[Action]
  ) -> StepResult:
    """Adds the models of the cycle to the buffer, and steps back to the best."""
    now = self.progress
    best = now.cycle.best_model
    peak = best if best > now.phase_start else None  # Found in this cycle.
    back = self._restore_best(state)
    stops = Action.RETRAIN not in actions or self._out_of_steps
    ending = now.predictor_steps
    models = {ending: state} if peak is None else {peak: back, ending: state}
    for model, of_model in models.items():
      self._store_maps(model, of_model, maps=not stops)
    sets = aggregate(
      now.sets, ending, peak, buffer_size=self._settings.buffer_size, retain=self._settings.retain
    )
    self._update(num_cycles=now.num_cycles + 1, sets=sets, finished=stops)
    logged |= {
      "lookahead/back_to": float(best),
      "lookahead/peak": float(peak is not None),
      "lookahead/sets": float(len(sets)),
    }
    if stops:
      return StepResult(back, logged, evaluates=True)
    state, loss = self._begin_retraining(back)
    return StepResult(state, logged | loss, saves=True)

  def _restore_best(self, state: TrainState) -> TrainState:
    """Returns the state with the best predictor, and its statistics, optimizer state and step."""
    best = _copy(self._best)
    players = {**state.players, PREDICTOR: best["player"]}
    return dataclasses.replace(state, step=best["step"], players=players)

  # The critics' training.

  def _begin_retraining(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
    """Begins the critics' training: returns the state at their own step, and their loss."""
    self._keep_critics(state)
    state = dataclasses.replace(state, step=replicate(jnp.int32(self.progress.critic_steps)))
    self._update(
      retraining=True,
      phase_start=self.progress.critic_steps,
      num_retrainings=self.progress.num_retrainings + 1,
      evals_without_gain=0,
    )
    self._open_buffer()
    self._book_time("maps")
    loss = self._critic_loss(state)
    self._update(best_critic_loss=loss)
    return state, {"lookahead/critic_loss": loss}

  def _after_critic_steps(self, state: TrainState) -> StepResult:
    now, settings = self.progress, self._settings.retraining
    steps = now.critic_steps - now.phase_start
    if not self._acts_at(now.critic_steps):
      return StepResult(state)
    self._book_time("critics", state)
    loss = self._critic_loss(state)
    logged = {"lookahead/critic_loss": loss, "lookahead/critic_steps": float(now.critic_steps)}
    if loss < now.best_critic_loss:
      self._keep_critics(state)
      self._update(best_critic_loss=loss, evals_without_gain=0)
    else:
      self._update(evals_without_gain=now.evals_without_gain + 1)
    if self.progress.evals_without_gain < settings.patience and steps < self._buffer.max_steps:
      return StepResult(state, logged)
    self._update(retraining=False, phase_start=now.predictor_steps)
    players = {**state.players, **_copy(self._critics)}
    state = dataclasses.replace(state, step=jnp.copy(self._best["step"]), players=players)
    return StepResult(state, logged, saves=True)

  def _batches(self) -> Batches:
    """Returns the batches of the present phase."""
    now, run = self.progress, self._experiment
    if not now.retraining:
      return run.train_batches(now.predictor_steps, self._on_skip)
    return self._buffer.train_batches(now.critic_steps - now.phase_start, now.num_retrainings)

  def _open_buffer(self) -> None:
    self._buffer.open([maps.model for maps in self.progress.sets])

  def _critic_loss(self, state: TrainState) -> float:
    """Evaluates the critics on the maps of the decision split."""
    loss = self._evaluate_critics(state, self._buffer.decision_batches)
    self._book_time("critics' evaluation")
    return loss

  # The models' metrics, maps and pictures, and copies of the best.

  def _decision_scores(self, state: TrainState) -> dict[str, float]:
    if not self._decision_batches:
      self._decision_batches += self._experiment.eval_batches(self._on_skip, self._decision_source)
    scores = self._evaluate(state.variables(), self._decision_batches).metrics
    self._book_time("decision split")
    return scores

  def _remaining_scores(self, state: TrainState) -> tuple[float, ...]:
    """Evaluates on the validation examples that decide nothing, if there are any."""
    if not len(self._remaining_source):
      return ()
    examples = self._experiment.eval_batches(self._on_skip, self._remaining_source)
    return (self._evaluate(state.variables(), examples).metrics[self._metric],)

  def _store_maps(self, model: int, state: TrainState, *, maps: bool) -> None:
    """Draws a model's predictions of a few photos; writes its maps if `maps` is set."""
    if jax.process_index() == 0:
      write_npz(self._workdir / "previews" / f"{model}.npz", self._draw(state))
    if maps:
      self._buffer.write(model, state.variables())

  def _keep_best(self, state: TrainState) -> None:
    self._best = _copy({"step": state.step, "player": state.players[PREDICTOR]})

  def _keep_critics(self, state: TrainState) -> None:
    critics = self._experiment.game.critics
    self._critics = _copy({name: state.players[name] for name in critics})

  def _arrays(self) -> dict[str, PyTree]:
    return {"best": self._best, "critics": self._critics}

  def _update(self, **changes: Any) -> None:
    self.progress = dataclasses.replace(self.progress, **changes)

  def _book_time(self, purpose: str, waiting_for: PyTree = None) -> None:
    """Adds the time since the last call to what it was spent on."""
    jax.block_until_ready(waiting_for)
    now = time.perf_counter()
    self.seconds[purpose] += now - self._since
    self._since = now


def _copy(tree: PyTree) -> PyTree:
  """Copies arrays, since a step takes the memory of the state that it is given."""
  return jax.tree.map(jnp.copy, tree)


def _metrics_of(now: LookaheadState, scores: Mapping[str, float], miou: float) -> dict[str, float]:
  """Returns what is logged after a propagation."""
  cycle = now.cycle
  facts = {
    "propagation": now.num_propagations,
    "model": now.predictor_steps,
    "miou": miou,
    "start": cycle.start,
    "best": cycle.best,
    "cycle": now.num_cycles,
    "failures": cycle.failures,
    "num_propagations": cycle.num_propagations,
    "num_above_peak": cycle.num_above_peak,
  }
  return {f"lookahead/{name}": float(value) for name, value in facts.items()} | {
    f"{DECISION}/{name}": value for name, value in scores.items()
  }


def _without_host_metrics(game: Game) -> Game:
  """Returns the game without metrics of the host, which take long: it is evaluated often."""
  tasks = {name: dataclasses.replace(task, extra_metrics=()) for name, task in game.tasks.items()}
  return dataclasses.replace(game, tasks=tasks)


def check_experiment(experiment: Experiment, settings: Lookahead) -> None:
  """Raises ValueError unless the experiment's game and optimizers are such that LoAd can run."""
  batch_size, section = settings.retraining.batch_size, "lookahead.retraining"
  check_divisible(batch_size, name=f"{section}.batch_size")
  num_maps = settings.buffer_size * len(experiment.source)
  check_batch_size(batch_size, num_maps, experiment.image_size, section)
  training, critics = experiment.training, experiment.game.critics
  if not critics:
    raise ValueError("lookahead needs a term with a critic; there is none in config.terms")
  if training.updates != "joint" or training.critic_warmup_steps:
    raise ValueError(
      f"train.updates={training.updates!r} and train.critic_warmup_steps="
      f"{training.critic_warmup_steps}: lookahead has an order of its own; expected 'joint' and 0"
    )
  if patience := experiment.evaluation.patience:
    raise ValueError(
      f"eval.patience={patience}: lookahead ends by rules of its own, lookahead.rules; expected 0"
    )
  for name in critics:
    schedule = experiment.optimizers[name].schedule
    if schedule != "constant":
      raise ValueError(
        f"the optimizer of the critic of {name!r} has the schedule {schedule!r}; with lookahead a "
        "critic's training has no known end: expected 'constant'"
      )
