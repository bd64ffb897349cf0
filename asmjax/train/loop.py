"""The loop: batches, step, log, evaluate, checkpoint. The only one."""

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from asmjax.metrics.names import drop_extra_classes
from asmjax.train.checkpoint import Checkpoints
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment
from asmjax.train.health import CriticMonitor
from asmjax.train.logger import Logger, NullLogger, RunLogger, SkippedExamples, check_finite
from asmjax.train.parallel import pmap_step
from asmjax.train.schedule import FixedSteps, Schedule, StepInput, is_due
from asmjax.train.state import TrainState
from asmjax.train.step import make_step
from asmjax.utils.files import write_json

# Where the protocol of `results.json` says how images were looked at, if not each once and whole.
VIEWS = "views"

MakeSchedule = Callable[[Experiment, pathlib.Path, Callable[[str], None]], Schedule]


def train(
  experiment: Experiment, workdir: str | pathlib.Path, make_schedule: MakeSchedule | None = None
) -> dict[str, Any]:
  """Trains, from the last checkpoint in `workdir` if there is one, and evaluates at the end.

  Args:
    experiment: what to do.
    workdir: folder for `metrics.jsonl`, `results.json`, `checkpoints` and `tensorboard`; for
      `warnings.jsonl` if the game looks unhealthy, and for `skipped.0.jsonl` if examples cannot be
      read and are to be skipped.
    schedule: of the steps, made when it is known what is told of examples that cannot be read.

  Returns:
    What it wrote to `results.json`.

  Raises:
    FloatingPointError: the run diverged.
    ValueError: the data or the checkpoint does not fit the config.
  """
  workdir = pathlib.Path(workdir)
  skips = open_skipped_examples(workdir)
  schedule = (make_schedule or _fixed_steps)(experiment, workdir, skips.add)
  measure, draw = (
    make(experiment, skips.add) for make in (make_eval_results, make_draw_predictions)
  )
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(open_checkpoints(experiment, workdir))
    before = checkpoints.latest_step()
    outcome = schedule.restore(checkpoints)
    start = None if before is None else schedule.done
    logger = stack.enter_context(contextlib.closing(_open_logger(workdir, start, schedule.steps)))
    if before is None:
      logger.log_warnings(schedule.done, experiment.warnings())
    if outcome.saves:
      logger.log_metrics(schedule.done, {}, outcome.scores)
      checkpoints.save(outcome.state, step=schedule.done, extra=schedule.extra_state())
    take_step = _stepper(experiment)
    monitor = CriticMonitor(experiment.game.terms, logger.read_metrics())
    log: list[Mapping[str, jax.Array]] = []
    results: dict[str, Any] = {}
    for step_input in schedule.step_inputs():
      state, figures = take_step(step_input, outcome.state)
      log.append(figures)
      outcome, done = schedule.after_step(state), schedule.done
      saves = outcome.evaluates or outcome.saves
      if saves or outcome.scores or is_due(done, experiment.training.log_every):
        # A checkpoint closes a log interval, so that a resumed run logs the same means.
        means = _means(log)
        check_finite(done, means)
        results = measure(outcome.state) if outcome.evaluates else {}
        logger.log_metrics(
          done, means, {**outcome.scores, **drop_extra_classes(results.get("metrics", {}))}
        )
        logger.log_warnings(done, monitor.check(means))
        log.clear()
      if outcome.evaluates:
        logger.log_images(done, functools.partial(draw, outcome.state))
      if saves:
        checkpoints.save(
          outcome.state, results.get("metrics"), step=done, extra=schedule.extra_state()
        )
    if not results:  # Of a run without steps, or one that had come to its end.
      results = measure(outcome.state)
      if checkpoints.latest_step() is None:
        checkpoints.save(outcome.state, results["metrics"])
    results |= schedule.summary(outcome.state)
  if jax.process_index() == 0:
    write_json(workdir / "results.json", results)
  return results


def _fixed_steps(
  experiment: Experiment, workdir: pathlib.Path, on_skip: Callable[[str], None]
) -> Schedule:
  del workdir
  return FixedSteps(experiment, on_skip)


def open_checkpoints(experiment: Experiment, workdir: pathlib.Path) -> Checkpoints:
  """The checkpoints of a run."""
  settings = experiment.checkpointing
  return Checkpoints(workdir / "checkpoints", metric=settings.metric, keep=settings.keep)


def open_skipped_examples(workdir: pathlib.Path) -> SkippedExamples:
  """The list of examples that this process could not read."""
  return SkippedExamples(workdir / f"skipped.{jax.process_index()}.jsonl")


class Views(Protocol):
  """How images are looked at, if not each once and whole: see `asmjax.inference.evaluation`."""

  @property
  def protocol(self) -> str:
    """How images are looked at, in words."""
    ...

  def batches(
    self, state: TrainState, on_skip: Callable[[str], None]
  ) -> Iterator[Mapping[str, np.ndarray]]:
    """The held-out examples with the estimates of all views, in batches for evaluation."""
    ...


def make_eval_results(
  experiment: Experiment, on_skip: Callable[[str], None] = print, views: Views | None = None
) -> Callable[[TrainState], dict[str, Any]]:
  """Evaluation on the held-out examples, compiled once.

  Args:
    experiment: whose predictor, tasks and held-out examples.
    on_skip: see `asmjax.data.loader.eval_batches`.
    views: of each image; None shows it to the predictor as it is.

  Returns:
    `measure(state)`: the metrics and what they are metrics of, as `results.json` holds them.
  """
  evaluate = make_evaluate(experiment.game)

  def measure(state: TrainState) -> dict[str, Any]:
    skipped: dict[str, None] = {}

    def skip(fault: str) -> None:
      skipped[fault] = None
      on_skip(fault)

    examples = views.batches(state, skip) if views else experiment.eval_batches(skip)
    scores = evaluate(state.variables(), examples)
    looked = {VIEWS: views.protocol} if views else {}
    return {
      "step": experiment.updates.count_predictor_steps(int(state.step)),
      "data_set": experiment.descriptor.name,
      "split": experiment.validation.split,
      "examples": scores.num_examples,
      "skipped": list(skipped),
      "protocol": scores.protocols | {"images": str(experiment.prepare)} | looked,
      "metrics": scores.metrics,
    }

  return measure


def make_draw_predictions(
  experiment: Experiment, on_skip: Callable[[str], None] = print, count: int = 4
) -> Callable[[TrainState], dict[str, np.ndarray]]:
  """Pictures of the first held-out examples, compiled once.

  Args:
    experiment: whose predictor, tasks and held-out examples.
    on_skip: see `asmjax.data.loader.eval_batches`.
    count: of pictures.

  Returns:
    `draw(state)`: uint8 (n, h, w, 3) by "input" and "task/kind".
  """
  predict = jax.jit(experiment.game.predict)
  palette = np.array(experiment.descriptor.palette, np.uint8)
  with contextlib.closing(experiment.eval_batches(on_skip)) as examples:
    count = min(count, len(experiment.validation))
    share = experiment.evaluation.batch_size // jax.process_count()
    rows = list(itertools.islice(examples, -(-count // share)))
  batch = {key: np.concatenate([row[key] for row in rows])[:count] for key in rows[0]}

  def draw(state: TrainState) -> dict[str, np.ndarray]:
    outputs = predict(jax.device_get(state.variables()), batch["image"])
    aligned = {"align_corners": experiment.game.align_corners}
    return {"input": batch["image"]} | {
      f"{name}/{kind}": pictures
      for name, task in experiment.game.tasks.items()
      for kind, pictures in task.draw_comparison(outputs[name], batch, palette, **aligned).items()
    }

  return draw


def _open_logger(workdir: pathlib.Path, start: int | None, steps: int | None) -> Logger:
  return RunLogger(workdir, start=start, steps=steps) if jax.process_index() == 0 else NullLogger()


def _stepper(
  experiment: Experiment,
) -> Callable[[StepInput, TrainState], tuple[TrainState, dict[str, jax.Array]]]:
  """`take_step(step_input, state)`, compiled once for every set of players that move together."""
  transformations, compiled = experiment.make_transformations(), {}

  def take_step(step_input: StepInput, state: TrainState):
    if step_input.active_players not in compiled:
      function = make_step(
        experiment.game,
        transformations,
        active_players=step_input.active_players,
        steps=experiment.training.steps,
        updates=experiment.updates,
        grad_accum_steps=experiment.training.grad_accum_steps,
        stop_frozen=experiment.stop_frozen,
      )
      compiled[step_input.active_players] = pmap_step(function, donate=True)
    return compiled[step_input.active_players](state, step_input.batch)

  return take_step


def _means(log: Sequence[Mapping[str, jax.Array]]) -> dict[str, float]:
  """The mean of each metric over the steps that have it (players that wait have no gradient)."""
  values: dict[str, list[float]] = {}
  for metrics in jax.device_get(list(log)):
    for name, value in metrics.items():
      values.setdefault(name, []).append(float(value))
  return {name: float(np.mean(each)) for name, each in values.items()}
