"""Checkpoints: the best and the latest states of a run, written atomically in the background."""

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
  """State of a schedule, which a run needs to resume besides its training state.

  Attributes:
    arrays: Pytree of arrays.
    fields: Other values by name, in the types of JSON.
  """

  arrays: PyTree
  fields: dict[str, Any]


class Checkpoints:
  """Checkpoints of a run, in one directory.

  A checkpoint appears under its final name only when it is complete, so a run that is killed
  while writing resumes from the one before. As a context manager, it waits at the end until
  everything is written.
  """

  def __init__(
    self, directory: str | pathlib.Path, *, metric: str, keep: int = 1, writes: bool = True
  ):
    """Opens a directory of checkpoints, which need not exist.

    Args:
      directory: Path of the directory, with one folder for each step.
      metric: Name of the metric by which checkpoints are ranked; larger is better, NaN is worst.
      keep: Number of the latest checkpoints to keep, and as many of the best; 1 by default.
      writes: Whether to create the directory and to remove what a killed run left incomplete. False
        to read only, also while another process is still writing.
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
    """Writes a checkpoint in the background, after the one before is complete.

    Args:
      state: State of all players.
      metrics: Metrics of the state's evaluation by name; None if it was not evaluated, which
        excludes it from the best.
      step: Number that the checkpoint gets; None, the default, for `state.step`.
      extra: State of the run's schedule; None, the default, if it has none.
    """
    # Copied to the host first: the next step reuses the device's memory (donated arguments), and
    # with several processes each has a complete copy of the state.
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
    """Restores the schedule's state, with arrays of the structure, shapes and types of `like`."""
    items = ocp.args.Composite(
      arrays=ocp.args.StandardRestore(jax.device_get(like)), fields=ocp.args.JsonRestore()
    )
    restored = self._manager.restore(step, args=items)
    return ExtraState(restored["arrays"], restored["fields"])

  def latest_step(self) -> int | None:
    """Returns the step of the latest checkpoint; None if there is none."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """Returns the step of the checkpoint with the best metric; None if none was evaluated."""
    return self._manager.best_step()

  def describe_best(self) -> dict[str, Any]:
    """Returns step, metric and value of the best checkpoint; nothing if none was evaluated."""
    self._manager.wait_until_finished()
    step = self.best_step()
    metrics = None if step is None else self._manager.metrics(step)
    return {"step": step, "metric": self.metric, "value": metrics[self.metric]} if metrics else {}

  def step_path(self, step: int) -> pathlib.Path:
    """Returns the path of the checkpoint of `step`."""
    return pathlib.Path(self._manager.directory) / str(step)

  def restore(self, like: TrainState, step: int) -> TrainState:
    """Restores the training state from a checkpoint, as arrays of the host.

    Args:
      like: State with the structure, shapes and types to expect; its values do not matter.
      step: Step of the checkpoint.

    Raises:
      ValueError: The checkpoint has another structure, or other shapes or types than `like`.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(jax.device_get(like)))
    mismatch = f"checkpoint {step} in {self._manager.directory} does not fit this config"
    try:
      state = self._manager.restore(step, args=args)["state"]
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"{mismatch}: {error}") from error
    expected = jax.tree_util.tree_leaves_with_path(like)
    for (path, leaf), restored in zip(expected, jax.tree.leaves(state), strict=True):
      if (leaf.shape, leaf.dtype) != (restored.shape, restored.dtype):
        raise ValueError(
          f"{mismatch}: {jax.tree_util.keystr(path)} is {restored.dtype}{restored.shape}; "
          f"expected {leaf.dtype}{leaf.shape}"
        )
    return state

  def __enter__(self) -> "Checkpoints":
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Waits until everything is written, and closes the directory."""
    self._manager.wait_until_finished()
    self._manager.close()


class _Always(policies.SaveDecisionPolicy):
  """Policy that saves whenever asked: the training loop decides when."""

  def should_save(self, *args: Any, **kwargs: Any) -> bool:
    return True
