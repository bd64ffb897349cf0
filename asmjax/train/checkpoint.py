"""Checkpoints: the best and the latest states of a run, written atomically in the background."""

import contextlib
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from asmjax.train.parallel import sync_processes
from asmjax.train.state import TrainState
from asmjax.utils import checkpoint_folder as folders
from asmjax.utils.checkpoint_folder import ARRAYS, MANIFEST, STATE, DamagedError, Manifest
from asmjax.utils.exhaustion import WriteError
from asmjax.utils.files import PARTIAL, sync_tree_to_disk, writing
from asmjax.utils.trees import leaves_by_path

# End of the names of folders that were found damaged.
DAMAGED = ".damaged"
# Names of folders that a killed process was writing or removing.
_LEFTOVERS = ("*.orbax-checkpoint-tmp*", f"*{PARTIAL}")


class ExtraState(NamedTuple):
  """State of a schedule, which a run needs to resume besides its training state.

  Attributes:
    arrays: Pytree of arrays; None for a schedule that has none.
    fields: Other values by name, in the types of JSON.
  """

  arrays: PyTree
  fields: dict[str, Any]


class Checkpoints:
  """Checkpoints of a run, in one directory, for the one training that writes them.

  A checkpoint appears under its final name only when it is complete, so a run that is killed
  while writing resumes from the one before. Every array is saved with a digest; a checkpoint that
  no longer agrees with its digests is moved aside when the directory is opened, and counts for
  nothing. As a context manager, it waits at the end until everything is written.

  Attributes:
    damaged: Sentences on the checkpoints that were found damaged and moved aside.
  """

  def __init__(self, directory: str | pathlib.Path, *, metric: str, keep: int = 2):
    """Opens a directory of checkpoints, made if need be, and reads all that are in it.

    All processes of a run must open it together.

    Args:
      directory: Path of the directory, with one folder for each step.
      metric: Name of the metric by which checkpoints are ranked; larger is better, NaN is worst.
      keep: Number of the latest checkpoints to keep, and as many of the best; 2 by default.

    Raises:
      DamagedError: There are checkpoints, and none is intact.
    """
    self.metric, self._keep = metric, keep
    self._directory = pathlib.Path(directory).absolute()
    with writing(self._directory):
      self._directory.mkdir(parents=True, exist_ok=True)
    # By step, the one that is being written included; without the digests.
    self._manifests, damaged = _inspect(self._directory)
    sync_processes("checkpoints are read")
    with writing(self._directory):
      self.damaged = [f"{error}; {_move_aside(folder)}" for folder, error in damaged.items()]
      if jax.process_index() == 0:
        _remove_leftovers(self._directory)
    sync_processes("checkpoints are tidy")
    self._unfinished: int | None = None
    self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

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
    items = {STATE: jax.device_get(state)}
    if extra is not None and extra.arrays is not None:
      items[ARRAYS] = jax.device_get(extra.arrays)
    manifest = folders.make_manifest(items, metrics or {}, extra.fields if extra else {})
    self._finish()
    step = int(state.step) if step is None else step
    args: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    args[MANIFEST] = ocp.args.JsonSave(manifest)
    with writing(self._directory):
      self._checkpointer.save(self.step_path(step), ocp.args.Composite(**args))
    self._manifests[step] = Manifest(dict(metrics or {}), extra.fields if extra else {}, {})
    self._unfinished = step

  def latest_step(self) -> int | None:
    """Returns the step of the latest checkpoint; None if there is none."""
    return max(self._manifests, default=None)

  def best_step(self) -> int | None:
    """Returns the step of the checkpoint with the best metric; None if none was evaluated."""
    return next(iter(self._best_first()), None)

  def describe_best(self) -> dict[str, Any]:
    """Returns step, metric and value of the best checkpoint; nothing if none was evaluated."""
    step = self.best_step()
    if step is None:
      return {}
    return {"step": step, "metric": self.metric, "value": self._value(step)}

  def step_path(self, step: int) -> pathlib.Path:
    """Returns the path of the checkpoint of `step`."""
    return self._directory / str(step)

  def restore(self, like: TrainState, step: int) -> TrainState:
    """Restores the training state from a checkpoint; see `load_state`."""
    self._finish()
    return load_state(self.step_path(step), like)

  def restore_extra(self, like: PyTree, step: int) -> ExtraState:
    """Restores the schedule's state, with arrays of the structure, shapes and types of `like`.

    Without arrays, `like=None`, its fields are all that is read.
    """
    self._finish()
    folder = self.step_path(step)
    arrays = None if like is None else _load(folder, ARRAYS, like)
    return ExtraState(arrays, folders.read_manifest(folder).fields)

  @property
  def fields(self) -> list[dict[str, Any]]:
    """Fields of the schedule's state in every checkpoint that may be restored."""
    return [manifest.fields for manifest in self._manifests.values()]

  def __enter__(self) -> "Checkpoints":
    """Returns itself."""
    return self

  def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
    """Waits until everything is written, and closes the directory."""
    try:
      with writing(self._directory), contextlib.closing(self._checkpointer):
        self._finish()
    except WriteError:
      if error is None:  # Else that comes of the same disk, and says more.
        raise

  def _finish(self) -> None:
    """Waits until the last checkpoint is on the disk, and removes those that it replaces."""
    step, self._unfinished = self._unfinished, None
    if step is None:
      return
    try:
      with writing(self._directory):
        self._checkpointer.wait_until_finished()
    except BaseException:
      del self._manifests[step]
      raise
    latest = sorted(self._manifests)[-self._keep :]
    kept = {*latest, *self._best_first()[: self._keep]}
    dropped = self._manifests.keys() - kept
    self._manifests = {step: self._manifests[step] for step in kept}
    if jax.process_index() > 0:
      return
    with writing(self._directory):
      sync_tree_to_disk(self.step_path(step))
      for old in dropped:
        _remove(self.step_path(old))

  def _best_first(self) -> list[int]:
    """Returns the steps that were evaluated, the best first, of equal ones the latest."""
    evaluated = [step for step, manifest in self._manifests.items() if manifest.metrics]
    rank = lambda step: (folders.rank_metric(self._value(step)), step)
    return sorted(evaluated, key=rank, reverse=True)

  def _value(self, step: int) -> float:
    return self._manifests[step].metrics[self.metric]


def load_state(folder: pathlib.Path, like: TrainState) -> TrainState:
  """Reads the training state of a checkpoint, as arrays of the host.

  Args:
    folder: Folder of the checkpoint.
    like: State with the structure, shapes and types to expect; its values do not matter.

  Raises:
    DamagedError: The checkpoint is not as it was written.
    ValueError: The checkpoint has another structure, or other shapes or types than `like`.
  """
  return _load(folder, STATE, like)


def _load(folder: pathlib.Path, item: str, like: PyTree) -> PyTree:
  """Reads an item of a checkpoint into the structure of a pytree."""
  mismatch = f"checkpoint {folder.name} in {folder.parent} does not fit this config"
  try:
    arrays = folders.read_arrays(folder, item)
  except KeyError as error:
    raise ValueError(f"{mismatch}: it was saved without {item}") from error
  expected = leaves_by_path(like)
  for name, leaf in expected.items():
    wanted = f"expected {leaf.dtype}{leaf.shape}"
    array = arrays.get(name)
    if array is None:
      raise ValueError(f"{mismatch}: {name} is missing; {wanted}")
    if (leaf.shape, leaf.dtype) != (array.shape, array.dtype):
      raise ValueError(f"{mismatch}: {name} is {array.dtype}{array.shape}; {wanted}")
  if unknown := sorted(arrays.keys() - expected.keys()):
    raise ValueError(f"{mismatch}: it also has {', '.join(unknown[:3])}; expected no such array")
  return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def _inspect(
  directory: pathlib.Path,
) -> tuple[dict[int, Manifest], dict[pathlib.Path, DamagedError]]:
  """Reads all checkpoints: the manifest of each intact step, and the damage of the others."""
  manifests: dict[int, Manifest] = {}
  damaged: dict[pathlib.Path, DamagedError] = {}
  for folder in folders.list_newest_first(directory):
    try:
      manifests[int(folder.name)] = folders.verify(folder)._replace(digests={})
    except DamagedError as error:
      damaged[folder] = error
  if damaged and not manifests:
    raise DamagedError(
      f"{next(iter(damaged.values()))}; no checkpoint in {directory} is intact: remove that folder "
      "to train anew"
    )
  return manifests, damaged


def _move_aside(folder: pathlib.Path) -> str:
  """Gives a damaged checkpoint another name, and says which."""
  aside = folder.with_name(f"{folder.name}{DAMAGED}")
  number = 1
  while aside.exists():
    number += 1
    aside = folder.with_name(f"{folder.name}{DAMAGED}.{number}")
  if jax.process_index() == 0:
    folder.rename(aside)
  return f"it is moved to {aside.name}"


def _remove_leftovers(directory: pathlib.Path) -> None:
  for pattern in _LEFTOVERS:
    for folder in directory.glob(pattern):
      shutil.rmtree(folder)


def _remove(folder: pathlib.Path) -> None:
  """Removes a checkpoint; whoever looks for it sees all of it, or nothing."""
  doomed = folder.with_name(f"{folder.name}{PARTIAL}")
  folder.rename(doomed)
  shutil.rmtree(doomed)
