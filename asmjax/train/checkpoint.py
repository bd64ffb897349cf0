"""Checkpoints: the best and the last state of a run, written atomically in the background."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers as policies

from asmjax.train.state import TrainState


class ExtraState(NamedTuple):
  """What a schedule must know to go on, besides the state.

  Attributes:
    arrays: any pytree of arrays.
    facts: anything that JSON can hold.
  """

  arrays: PyTree
  fields: dict[str, Any]


class Checkpoints:
  """The checkpoints under one directory.

  A checkpoint appears under its final name only when it is complete, so a run that is killed
  while writing resumes from the one before.
  """

  def __init__(
    self, directory: str | pathlib.Path, *, metric: str, keep: int = 1, writes: bool = True
  ):
    """Opens a directory, which need not exist.

    Args:
      directory: where the checkpoints are, one folder a step.
      metric: name of the metric by which a checkpoint is the best; larger is better.
      keep: how many of the best are kept, and how many of the last.
      writes: whether the directory is this process's to write to; otherwise it may be that of a
        run which goes on.
    """
    self.metric = metric
    score = lambda metrics: -math.inf if math.isnan(metrics[metric]) else metrics[metric]
    best = policies.BestN(get_metric_fn=score, n=keep, keep_checkpoints_without_metrics=False)
    self._manager = ocp.CheckpointManager(
      pathlib.Path(directory).absolute(),
      item_names=("state", "arrays", "fields"),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
        save_decision_policy=_Always(),
        best_fn=score,
        cleanup_tmp_directories=writes,
        create=writes,
      ),
    )

  def save(
    self,
    state: TrainState,
    metrics: Mapping[str, float] | None = None,
    *,
    step: int | None = None,
    extra: ExtraState | None = None,
  ) -> None:
    """Writes in the background, once the checkpoint before is complete.

    Args:
      state: of the players.
      metrics: it was evaluated to.
      step: of the run; by default the state's.
      memory: of the run's schedule.
    """
    # From the host: the device's memory is donated to the next step, and with several processes
    # every one of them has the whole state.
    items: dict[str, Any] = {"state": ocp.args.StandardSave(jax.device_get(state))}
    if extra is not None:
      items["arrays"] = ocp.args.StandardSave(jax.device_get(extra.arrays))
      items["fields"] = ocp.args.JsonSave(extra.fields)
    self._manager.wait_until_finished()
    self._manager.save(
      int(state.step) if step is None else step,
      args=ocp.args.Composite(**items),
      metrics=dict(metrics) if metrics else None,
    )

  def restore_extra(self, like: PyTree, step: int) -> ExtraState:
    """The schedule's memory at `step`; `like` gives the structure of its arrays."""
    items = ocp.args.Composite(
      arrays=ocp.args.StandardRestore(jax.device_get(like)), fields=ocp.args.JsonRestore()
    )
    restored = self._manager.restore(step, args=items)
    return ExtraState(restored["arrays"], restored["fields"])

  def latest_step(self) -> int | None:
    """The step of the last checkpoint, if there is one."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step of the checkpoint with the best metric, if one was evaluated."""
    return self._manager.best_step()

  def step_path(self, step: int) -> pathlib.Path:
    """Where the checkpoint of `step` is."""
    return pathlib.Path(self._manager.directory) / str(step)

  def restore(self, like: TrainState, step: int) -> TrainState:
    """The state of `step`; `like` gives structure, shapes and types.

    Raises:
      ValueError: the checkpoint is of another game than `like`.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(jax.device_get(like)))
    misfit = f"checkpoint {step} in {self._manager.directory} does not fit this config"
    try:
      state = self._manager.restore(step, args=args)["state"]
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"{misfit}: {error}") from error
    expected = jax.tree_util.tree_leaves_with_path(like)
    for (path, leaf), restored in zip(expected, jax.tree.leaves(state), strict=True):
      if (leaf.shape, leaf.dtype) != (restored.shape, restored.dtype):
        raise ValueError(
          f"{misfit}: {jax.tree_util.keystr(path)} is {restored.dtype}{restored.shape}; "
          f"expected {leaf.dtype}{leaf.shape}"
        )
    return state

  def __enter__(self) -> "Checkpoints":
    """Itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Waits until everything is written."""
    self._manager.wait_until_finished()
    self._manager.close()


class _Always(policies.SaveDecisionPolicy):
  """The loop decides when to save."""

  def should_save(self, *args: Any, **kwargs: Any) -> bool:
    return True
