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
from asmjax.train.health import Health
from asmjax.train.logger import Logger, NullLogger, RunLogger, SkippedExamples, check_finite
from asmjax.train.parallel import spread
from asmjax.train.schedule import Plain, Schedule, Turn, is_due
from asmjax.train.state import TrainState
from asmjax.train.step import make_step
from asmjax.utils.files import write_json

# Where the protocol of `results.json` says how images were looked at, if not each once and whole.
VIEWS = "views"

MakeSchedule = Callable[[Experiment, pathlib.Path, Callable[[str], None]], Schedule]


def train(
  experiment: Experiment, workdir: str | pathlib.Path, schedule: MakeSchedule | None = None
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
  skips = open_skips(workdir)
  plan = (schedule or _plain)(experiment, workdir, skips.add)
  measure, draw = (make(experiment, skips.add) for make in (make_measure, make_draw))
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(open_checkpoints(experiment, workdir))
    before = checkpoints.last()
    outcome = plan.begin(checkpoints)
    start = None if before is None else plan.done
    logger = stack.enter_context(contextlib.closing(_open_logger(workdir, start, plan.steps)))
    if before is None:
      logger.log_warnings(plan.done, experiment.warnings())
    if outcome.saves:
      logger.log_metrics(plan.done, {}, outcome.scores)
      checkpoints.save(outcome.state, step=plan.done, memory=plan.memory())
    take_step, health = _stepper(experiment), Health(experiment.game.terms, logger.read_metrics())
    log: list[Mapping[str, jax.Array]] = []
    results: dict[str, Any] = {}
    for turn in plan.turns():
      state, figures = take_step(turn, outcome.state)
      log.append(figures)
      outcome, done = plan.after(state), plan.done
      saves = outcome.evaluates or outcome.saves
      if saves or outcome.scores or is_due(done, experiment.training.log_every):
        # A checkpoint closes a log interval, so that a resumed run logs the same means.
        means = _means(log)
        check_finite(done, means)
        results = measure(outcome.state) if outcome.evaluates else {}
        logger.log_metrics(
          done, means, {**outcome.scores, **drop_extra_classes(results.get("metrics", {}))}
        )
        logger.log_warnings(done, health.check(means))
        log.clear()
      if outcome.evaluates:
        logger.log_images(done, functools.partial(draw, outcome.state))
      if saves:
        checkpoints.save(outcome.state, results.get("metrics"), step=done, memory=plan.memory())
    if not results:  # Of a run without steps, or one that had come to its end.
      results = measure(outcome.state)
      if checkpoints.last() is None:
        checkpoints.save(outcome.state, results["metrics"])
    results |= plan.summary(outcome.state)
  if jax.process_index() == 0:
    write_json(workdir / "results.json", results)
  return results


def _plain(
  experiment: Experiment, workdir: pathlib.Path, on_skip: Callable[[str], None]
) -> Schedule:
  del workdir
  return Plain(experiment, on_skip)


def open_checkpoints(experiment: Experiment, workdir: pathlib.Path) -> Checkpoints:
  """The checkpoints of a run."""
  settings = experiment.checkpointing
  return Checkpoints(workdir / "checkpoints", metric=settings.metric, keep=settings.keep)


def open_skips(workdir: pathlib.Path) -> SkippedExamples:
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


def make_measure(
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
      "step": experiment.turns.taken(int(state.step)),
      "data_set": experiment.descriptor.name,
      "split": experiment.held_out.split,
      "examples": scores.examples,
      "skipped": list(skipped),
      "protocol": scores.protocols | {"images": str(experiment.prepare)} | looked,
      "metrics": scores.metrics,
    }

  return measure


def make_draw(
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
    count = min(count, len(experiment.held_out))
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
) -> Callable[[Turn, TrainState], tuple[TrainState, dict[str, jax.Array]]]:
  """`take_step(turn, state)`, compiled once for every set of players that move together."""
  transformations, compiled = experiment.transformations(), {}

  def take_step(turn: Turn, state: TrainState):
    if turn.movers not in compiled:
      function = make_step(
        experiment.game,
        transformations,
        movers=turn.movers,
        steps=experiment.training.steps,
        turns=experiment.turns,
        accumulate=experiment.training.accumulate,
        hold=experiment.hold,
      )
      compiled[turn.movers] = spread(function, donate=True)
    return compiled[turn.movers](state, turn.batch)

  return take_step


def _means(log: Sequence[Mapping[str, jax.Array]]) -> dict[str, float]:
  """The mean of each metric over the steps that have it (players that wait have no gradient)."""
  values: dict[str, list[float]] = {}
  for metrics in jax.device_get(list(log)):
    for name, value in metrics.items():
      values.setdefault(name, []).append(float(value))
  return {name: float(np.mean(each)) for name, each in values.items()}
