"""Replay of a step that was not finite: what it was given is kept, and runs again with names.

`WORKDIR/nonfinite/STEP` holds, of the step after STEP others, the complete batch in `batch.npz`,
the state before it as a checkpoint in `checkpoints`, and in `step.json` the players that it
updates, the names of its examples and what was not finite.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from asmjax.data.descriptor import name_example
from asmjax.data.loader import train_batches
from asmjax.train.checkpoint import Checkpoints, load_state
from asmjax.train.experiment import Experiment
from asmjax.train.nonfinite import Fault, name_nonfinite_arrays
from asmjax.train.parallel import pmap_step, shard_batch, sync_processes
from asmjax.train.schedule import TrainingBatch
from asmjax.train.state import TrainState, Transformations
from asmjax.train.step import Step, make_step
from asmjax.utils.files import read_json_object, write_json, write_npz

# Folder of all replays in that of a run.
FOLDER = "nonfinite"


class StoredStep(NamedTuple):
  """What a step is given.

  Attributes:
    step: Number of steps before it, of all players.
    active_players: Players that it updates.
    state: State before it.
    batch: Complete batch, arrays (n, ...) by key.
    examples: Names of the batch's examples.
    nonfinite: Names of what was not finite in the run.
  """

  step: int
  active_players: tuple[str, ...]
  state: TrainState
  batch: Mapping[str, np.ndarray]
  examples: Sequence[str]
  nonfinite: Sequence[str]


class Replayed(NamedTuple):
  """What a step computes.

  Attributes:
    metrics: Metrics of the step by name; see `asmjax.train.step.make_step`.
    modules: Modules whose outputs are not finite, in the order of their computation.
    gradients: Arrays of the gradients that are not finite, with counts.
    updated: Arrays of the players after the update that are not finite, with counts.
  """

  metrics: dict[str, float]
  modules: list[str]
  gradients: list[str]
  updated: list[str]


def write_step(
  workdir: pathlib.Path,
  experiment: Experiment,
  fault: Fault,
  state: TrainState,
  located: TrainingBatch,
) -> pathlib.Path:
  """Writes what a step was given into the folder of a run, in place of what is there.

  All processes must make the call.

  Args:
    workdir: Folder of the run.
    experiment: Experiment of the run.
    fault: Step that was not finite.
    state: State before it.
    located: Place of its batch among the training batches, which are read again.

  Returns:
    Path of the folder.
  """
  folder = workdir / FOLDER / str(fault.step)
  if jax.process_index() == 0:
    shutil.rmtree(folder, ignore_errors=True)
  sync_processes(f"replay of step {fault.step}")
  metric = experiment.checkpointing.metric
  with Checkpoints(folder / "checkpoints", metric=metric) as checkpoints:
    checkpoints.save(state, step=fault.step)
  if jax.process_index() == 0:
    write_npz(folder / "batch.npz", _read_batch(experiment, located))
    content = {
      "step": fault.step,
      "active_players": fault.active_players,
      "examples": fault.examples,
      "nonfinite": fault.names,
    }
    write_json(folder / "step.json", content)  # Last: then all of the folder is there.
  return folder


def read_step(workdir: pathlib.Path, experiment: Experiment, step: int | None = None) -> StoredStep:
  """Reads what a step was given.

  Args:
    workdir: Folder of the run.
    experiment: Experiment of the run.
    step: Number of steps before it; None, the default, for the last one that is stored.

  Raises:
    FileNotFoundError: No such step is stored.
  """
  stored = sorted(int(path.parent.name) for path in workdir.glob(f"{FOLDER}/[0-9]*/step.json"))
  step = stored[-1] if step is None and stored else step
  if step not in stored:
    raise FileNotFoundError(
      f"{workdir / FOLDER} has no step{'' if step is None else f' {step}'}; stored: "
      f"{', '.join(map(str, stored)) or 'none, as no step of the run was not finite'}"
    )
  folder = workdir / FOLDER / str(step)
  content = read_json_object(folder / "step.json")
  with np.load(folder / "batch.npz") as arrays:
    batch = dict(arrays)
  state = load_state(folder / "checkpoints" / str(step), experiment.random_state())
  players = tuple(content["active_players"])
  return StoredStep(step, players, state, batch, content["examples"], content["nonfinite"])


def replay_step(experiment: Experiment, stored: StoredStep) -> Replayed:
  """Takes a step again, and names all that is not finite.

  The batch is spread over all devices that can share it evenly, or else it runs on one; in the
  latter case batch statistics that are not synchronized are those of the complete batch.
  """
  modules: list[str] = []
  nonfinite: set[int] = set()
  transformations = _record_gradients(experiment.make_transformations())
  step = make_step(
    experiment.game,
    transformations,
    active_players=stored.active_players,
    steps=experiment.training.steps,
    updates=experiment.updates,
    grad_accum_steps=experiment.training.grad_accum_steps,
    stop_frozen=experiment.stop_frozen,
  )
  devices = jax.local_devices()
  parts = len(devices) * experiment.training.grad_accum_steps
  devices = devices if len(stored.batch["weight"]) % parts == 0 else devices[:1]
  watched = pmap_step(_watch_modules(step, modules, nonfinite.add), devices=devices)
  players = {
    name: dataclasses.replace(player, opt_state=(player.opt_state, ()))
    for name, player in stored.state.players.items()
  }
  state = dataclasses.replace(stored.state, players=players)
  after, metrics = watched(state, shard_batch(stored.batch, devices=devices))
  jax.effects_barrier()
  updated, gradients = {}, {}
  for name in stored.active_players:
    player = after.players[name]
    opt_state, gradients[name] = player.opt_state
    updated[name] = dataclasses.replace(player, opt_state=opt_state)
  return Replayed(
    metrics={name: float(value) for name, value in jax.device_get(metrics).items()},
    modules=[modules[index] for index in sorted(nonfinite)],
    gradients=name_nonfinite_arrays(gradients),
    updated=name_nonfinite_arrays(updated),
  )


def name_examples(located: TrainingBatch) -> list[str]:
  """Names the examples of a batch: by the path of their image, or by their number."""
  sampler, size, number = located
  positions = range(number * size, (number + 1) * size)
  return [name_example(sampler.source, sampler.locate(position)[1]) for position in positions]


def _read_batch(experiment: Experiment, located: TrainingBatch) -> dict[str, np.ndarray]:
  """Reads a complete batch, of all processes, again."""
  batches = train_batches(
    located.sampler,
    batch_size=located.batch_size,
    start=located.number,
    options=experiment.loader_options,
    on_skip=lambda fault: None,
  )
  try:
    return next(batches)
  finally:
    batches.close()


def _record_gradients(transformations: Transformations) -> dict[str, Any]:
  """Returns transformations whose states have the last gradient beside them."""

  def record(inner: optax.GradientTransformationExtraArgs):
    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Array):
      moves, inner_state = inner.update(updates, state[0], params, **extra)
      return moves, (inner_state, updates)

    return optax.GradientTransformationExtraArgs(lambda params: (inner.init(params), ()), update)

  return {name: record(inner) for name, inner in transformations.items()}


def _watch_modules(step: Step, modules: list[str], report: Callable[[int], None]) -> Step:
  """Returns a step that lists the modules it calls, and reports those whose outputs are not finite.

  Args:
    step: Step of one device.
    modules: List that gets the names of the calls as they are traced, which is their order.
    report: Function that is called with an index into `modules`, on the host.
  """

  def note(index: int, is_finite: np.ndarray) -> None:
    if not np.all(is_finite):
      report(index)

  def watch(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
  ):
    outputs = call(*args, **kwargs)
    reals = [
      x
      for x in jax.tree.leaves(outputs)
      if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    if reals and context.method_name != "setup":
      index = len(modules)
      modules.append(_name_call(context))
      is_finite = jnp.all(jnp.array([jnp.isfinite(x).all() for x in reals]))
      jax.debug.callback(lambda value: note(index, value), is_finite)
    return outputs

  def watched(state: TrainState, batch: Mapping[str, Array]):
    with nn.intercept_methods(watch):
      return step(state, batch)

  return watched


def _name_call(context: Any) -> str:
  """Names a call of a module, as in "UNet/down_0/conv"."""
  root = context.module
  while isinstance(root.parent, nn.Module):
    root = root.parent
  name = "/".join((type(root).__name__, *context.module.path))
  return name if context.method_name == "__call__" else f"{name}.{context.method_name}"
