"""The training loop of all methods: batches, steps, logs, evaluations and checkpoints."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.data.loader import eval_batches
from asmjax.data.wrappers import Subset, spread_indices
from asmjax.metrics.names import drop_extra_classes
from asmjax.train.checkpoint import Checkpoints
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment
from asmjax.train.health import GameMonitor
from asmjax.train.logger import Logger, Loggers, SkippedExamples, open_run_loggers
from asmjax.train.nonfinite import POLICIES, Fault, StepLog, StepReport, guard_step
from asmjax.train.parallel import pmap_step, replicate
from asmjax.train.replay import name_examples, write_step
from asmjax.train.schedule import FixedSteps, Schedule, StepInput, is_due
from asmjax.train.state import TrainState
from asmjax.train.step import make_step, scan_steps
from asmjax.utils.files import read_jsonl, write_json
from asmjax.utils.stopping import Stopped, stop_request

# Key of the protocol in `results.json` that describes multi-scale or tiled inference; absent where
# the predictor gets each image once, complete.
VIEWS = "views"

MakeSchedule = Callable[[Experiment, pathlib.Path, Callable[[str], None]], Schedule]


def train(
  experiment: Experiment,
  workdir: str | pathlib.Path,
  make_schedule: MakeSchedule | None = None,
  loggers: Sequence[Logger] = (),
) -> dict[str, Any]:
  """Trains a predictor and its critics, or resumes from the last checkpoint, and evaluates.

  Args:
    experiment: Description of the run.
    workdir: Folder of the run, for `metrics.jsonl`, `wall_time.jsonl`, `results.json`,
      `checkpoints` and `tensorboard`; for `warnings.jsonl` if there are any, and for
      `skipped.PROCESS.jsonl` if unreadable examples are skipped.
    make_schedule: Function of the experiment, the folder and a callback for skipped examples that
      returns the schedule of the steps; None, the default, for `FixedSteps`.
    loggers: Loggers beside those of the folder; none by default.

  Returns:
    Content of `results.json`: the final metrics and how they were computed.

  Raises:
    FloatingPointError: A step was not finite; what it was given is in `WORKDIR/nonfinite`.
    ValueError: The data or the checkpoint does not fit the config.
    asmjax.utils.stopping.Stopped: A signal ended it after its present step, which is saved.
  """
  workdir = pathlib.Path(workdir)
  on_skip = open_skipped_examples(workdir).add
  if make_schedule:
    schedule = make_schedule(experiment, workdir, on_skip)
  else:
    schedule = FixedSteps(experiment, on_skip)
  measure = make_eval_results(experiment, on_skip)
  draw = make_draw_predictions(experiment, on_skip)
  with open_checkpoints(experiment, workdir) as checkpoints:
    state, results = _take_steps(
      experiment, workdir, schedule, checkpoints, loggers, measure=measure, draw=draw
    )
    if not results:  # The run has no steps, or its last checkpoint is that of its end.
      results = measure(state)
      if checkpoints.latest_step() is None:
        checkpoints.save(state, results["metrics"], extra=schedule.extra_state())
    results |= schedule.summary(state) | {"best": checkpoints.describe_best()}
  if jax.process_index() == 0:
    write_json(workdir / "results.json", results)
  return results


def _take_steps(
  experiment: Experiment,
  workdir: pathlib.Path,
  schedule: Schedule,
  checkpoints: Checkpoints,
  loggers: Sequence[Logger],
  *,
  measure: Callable[[TrainState], dict[str, Any]],
  draw: Callable[[TrainState], dict[str, np.ndarray]],
) -> tuple[TrainState, dict[str, Any]]:
  """Takes, logs and saves all remaining steps; the last state, and its results if any."""
  is_new = checkpoints.latest_step() is None
  result = schedule.restore(checkpoints)
  start = None if is_new else schedule.done
  with (
    contextlib.closing(_open_loggers(workdir, start, schedule.steps, loggers)) as logger,
    stop_request(enabled=jax.process_count() == 1) as stop,
  ):
    if jax.process_index() == 0:
      if schedule.finished and not is_new:
        print(f"finished before, at step {schedule.done}; nothing to train", flush=True)
      else:
        print(_describe_start(experiment, result.state), flush=True)
    logger.log_warnings(schedule.done, checkpoints.damaged)
    if is_new:
      logger.log_warnings(schedule.done, experiment.warnings())
    if result.scores:
      logger.log_metrics(schedule.done, {}, result.scores)
    if result.saves:
      checkpoints.save(result.state, step=schedule.done, extra=schedule.extra_state())
    take_steps = make_take_steps(experiment)
    monitor = GameMonitor(experiment.game.terms, read_jsonl(workdir / "metrics.jsonl"))
    log = StepLog(
      POLICIES[experiment.training.on_nonfinite],
      lambda step: name_examples(schedule.locate_batch(step)),
      polls=jax.process_count() == 1,
    )
    results: dict[str, Any] = {}
    for step_input in schedule.step_inputs():
      state, reports = take_steps(step_input, result.state)
      log.add(schedule.done, reports)
      count, left_by = len(step_input.batches), stop.signal
      if halt := log.find_halt(wait=schedule.pauses_after(count) or left_by is not None):
        raise _halt(experiment, workdir, schedule, checkpoints, halt, state)
      result, done = schedule.after_steps(state, count), schedule.done
      saves = result.evaluates or result.saves or left_by is not None
      if not (saves or result.scores or is_due(done, experiment.training.log_every)):
        continue
      # A checkpoint closes a log interval, so that a resumed run logs the same means.
      means, skipped = log.read()
      if experiment.training.on_nonfinite == "skip":
        means["nonfinite_steps"] = float(len(skipped))
      results = measure(result.state) if result.evaluates else {}
      if results:
        schedule.after_evaluation(results["metrics"])
      scores = drop_extra_classes(results.get("metrics", {}))
      means |= schedule.describe_progress(result.state)
      logger.log_metrics(done, means, {**result.scores, **scores})
      texts = [f"{fault}; examples: {', '.join(fault.examples)}" for fault in skipped]
      warned = {entry["warning"] for entry in read_jsonl(workdir / "warnings.jsonl")}
      texts += [text for text in results.get("warnings", ()) if text not in warned]
      logger.log_warnings(done, [*texts, *monitor.check(means)])
      if result.evaluates:
        logger.log_images(done, functools.partial(draw, result.state))
      if saves:
        extra = schedule.extra_state()
        checkpoints.save(result.state, results.get("metrics"), step=done, extra=extra)
      if left_by is not None and not schedule.finished:
        raise Stopped(left_by, f"left after step {done}, which is saved; the same command goes on")
  return result.state, results


def open_checkpoints(experiment: Experiment, workdir: pathlib.Path) -> Checkpoints:
  """Opens the checkpoints in the folder of a run, for the training."""
  settings = experiment.checkpointing
  return Checkpoints(workdir / "checkpoints", metric=settings.metric, keep=settings.keep)


def open_skipped_examples(workdir: pathlib.Path) -> SkippedExamples:
  """Opens the list of the examples that this process could not read, `skipped.PROCESS.jsonl`."""
  return SkippedExamples(workdir / f"skipped.{jax.process_index()}.jsonl")


class Views(Protocol):
  """Interface of multi-scale and tiled inference; see `asmjax.inference.evaluation`."""

  @property
  def protocol(self) -> str:
    """Description of the scales, flips and tiles, for `results.json`."""
    ...

  def batches(
    self, state: TrainState, on_skip: Callable[[str], None]
  ) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields batches of validation examples with the soft predictions from all views."""
    ...


def make_eval_results(
  experiment: Experiment, on_skip: Callable[[str], None] = print, views: Views | None = None
) -> Callable[[TrainState], dict[str, Any]]:
  """Makes a function that evaluates a state on the validation examples, compiled once.

  Args:
    experiment: Description of the run.
    on_skip: Function that is called with a description of each unreadable example.
    views: Multi-scale or tiled inference; None, the default, predicts each image once, complete.

  Returns:
    `measure(state)`, which returns the content of `results.json`: the metrics, the step, examples
    and protocol that they belong to, and warnings of truths from which nothing is learned.
  """
  evaluate, tasks = make_evaluate(experiment.game), experiment.game.tasks

  def measure(state: TrainState) -> dict[str, Any]:
    skipped: dict[str, None] = {}

    def skip(fault: str) -> None:
      skipped[fault] = None
      on_skip(fault)

    examples = views.batches(state, skip) if views else experiment.eval_batches(skip)
    scores = evaluate(state.variables(), examples)
    counts = (task.count_true_classes(scores.sums[name]) for name, task in tasks.items())
    warnings = [experiment.descriptor.describe_single_class(pixels) for pixels in counts]
    protocols = scores.protocols | {"images": str(experiment.prepare)}
    if views:
      protocols[VIEWS] = views.protocol
    return {
      "step": experiment.updates.count_predictor_steps(int(state.step)),
      "data_set": experiment.descriptor.name,
      "split": experiment.validation.split,
      "examples": scores.num_examples,
      "skipped": list(skipped),
      "warnings": list(filter(None, warnings)),
      "protocol": protocols,
      "metrics": scores.metrics,
    }

  return measure


def make_draw_predictions(
  experiment: Experiment, on_skip: Callable[[str], None] = print, count: int = 4
) -> Callable[[TrainState], dict[str, np.ndarray]]:
  """Makes a function that draws predictions of some validation examples, compiled once.

  Args:
    experiment: Description of the run.
    on_skip: Function that is called with a description of each unreadable example.
    count: Number of examples to draw, evenly spread, or all if there are fewer; 4 by default.

  Returns:
    `draw(state)`, which returns pictures, uint8 (n, h, w, 3), by "input" and "TASK/KIND"; padding
    is white in all of them.
  """
  predict = jax.jit(experiment.game.predict)
  palette = experiment.descriptor.palette_array
  validation = experiment.validation
  chosen = Subset(validation, spread_indices(len(validation), count))
  (batch,) = eval_batches(
    chosen,
    experiment.prepare,
    batch_size=len(chosen),
    options=experiment.loader_options,
    on_skip=on_skip,
  )
  rows, columns = np.indices(batch["image"].shape[1:3])
  height, width = batch["size"].T[..., None, None]
  is_padding = (rows >= height) | (columns >= width)

  def draw(state: TrainState) -> dict[str, np.ndarray]:
    outputs = predict(jax.device_get(state.variables()), batch["image"])
    aligned = {"align_corners": experiment.game.align_corners}
    drawn = {"input": batch["image"]} | {
      f"{name}/{kind}": pictures
      for name, task in experiment.game.tasks.items()
      for kind, pictures in task.draw_comparison(outputs[name], batch, palette, **aligned).items()
    }
    return {
      name: np.where(is_padding[..., None], np.uint8(255), pictures)
      for name, pictures in drawn.items()
    }

  return draw


def _open_loggers(
  workdir: pathlib.Path, start: int | None, steps: int | None, others: Sequence[Logger]
) -> Loggers:
  """Opens the loggers of the first process; the other processes have none."""
  if jax.process_index() > 0:
    return Loggers()
  return open_run_loggers(workdir, start=start, steps=steps, others=others)


def _describe_start(experiment: Experiment, state: TrainState) -> str:
  """Describes what is trained on what, before the first step is compiled."""
  sizes = (
    f"{name} {sum(leaf.size for leaf in jax.tree.leaves(player.params)):,} parameters"
    for name, player in state.players.items()
  )
  kinds = [device.device_kind for device in jax.devices()]
  return (
    f"{', '.join(sizes)}; {len(experiment.source)} training and {len(experiment.validation)} "
    f"validation examples; {len(kinds)} x {kinds[0]}; compiling"
  )


def make_take_steps(
  experiment: Experiment,
) -> Callable[[StepInput, TrainState], tuple[TrainState, StepReport]]:
  """Makes `take_steps(step_input, state)`, compiled once for every set of active players."""
  transformations = experiment.make_transformations()
  limit = POLICIES[experiment.training.on_nonfinite]
  streak = replicate(jnp.int32(0))

  @functools.cache
  def compile_steps(active_players: tuple[str, ...]) -> Callable[..., Any]:
    step = make_step(
      experiment.game,
      transformations,
      active_players=active_players,
      steps=experiment.training.steps,
      updates=experiment.updates,
      grad_accum_steps=experiment.training.grad_accum_steps,
      stop_frozen=experiment.stop_frozen,
    )
    return pmap_step(scan_steps(guard_step(step, limit=limit)), donate=True)

  def take_steps(step_input: StepInput, state: TrainState) -> tuple[TrainState, StepReport]:
    nonlocal streak
    steps = compile_steps(step_input.active_players)
    (state, streak), reports = steps((state, streak), step_input.batches)
    return state, reports

  return take_steps


def _halt(
  experiment: Experiment,
  workdir: pathlib.Path,
  schedule: Schedule,
  checkpoints: Checkpoints,
  fault: Fault,
  state: TrainState,
) -> FloatingPointError:
  """Stores the step that a run halted at, and returns the error that says how to go on."""
  folder = write_step(workdir, experiment, fault, state, schedule.locate_batch(fault.step))
  last = checkpoints.latest_step()
  advice = (
    "Lower the learning rates, cap gradients (optimizer.critic.clip_norm) or a critic's weight"
  )
  if last is not None:
    advice += (
      f"; to go on from checkpoint {last} with other settings: another --workdir with "
      f"--config.init.path={workdir} --config.init.format=orbax"
    )
  if experiment.training.on_nonfinite == "stop":
    advice += "; --config.train.on_nonfinite=skip leaves such steps out"
  return FloatingPointError(
    f"the run diverged: {fault}; {folder} has its batch, and `asmjax replay --workdir={workdir}` "
    f"takes it again. {advice}"
  )
