"""The folder of a run, opened again: its config, its data set, its experiment and its state."""

import importlib.metadata
import json
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from asmjax.config.build import Data, build_experiment, choose_input_transform, read_facts
from asmjax.config.schema import choose, construct
from asmjax.data.descriptor import Descriptor
from asmjax.models.input_transform import AUTO
from asmjax.train.checkpoint import Checkpoints
from asmjax.train.experiment import Experiment
from asmjax.train.schedule import restore
from asmjax.train.state import TrainState
from asmjax.utils.files import read_json, write_json

# The descriptor of the data set, so that predictions need no data set, and what ran where.
DATA_SET, ENVIRONMENT = "data_set.json", "environment.json"


def read_config(workdir: str | pathlib.Path, data_root: str | None = None) -> dict[str, Any]:
  """The run's config.

  Args:
    workdir: folder of the run.
    data_root: where its data set lies now; None where it lay.

  Raises:
    FileNotFoundError: there is no run in `workdir`.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist; expected the workdir of a run")
  config = read_json(path)
  if data_root:
    config["data"]["root"] = data_root
  return config


def keep_input_transform(config: Mapping[str, Any], workdir: str | pathlib.Path) -> None:
  """Replaces `predictor.input_transform` "auto" in a config by the name of what it stands for.

  So the run keeps it, wherever the weights are that it started from. A run that goes on has the one
  that it began with.

  Args:
    config: to change, before it is read.
    workdir: folder of the run, which need not exist.

  Raises:
    ValueError: see `asmjax.config.build.choose_input_transform`, as for FileNotFoundError.
  """
  section = config["predictor"]
  if section.get("input_transform", AUTO) == AUTO:
    workdir = pathlib.Path(workdir)
    goes_on = (workdir / "config.json").exists() and any(workdir.glob("checkpoints/[0-9]*"))
    section["input_transform"] = choose_input_transform(
      read_config(workdir) if goes_on else config
    ).name


def check_same_config(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Refuses to continue a run under another config.

  Settings that do not change what is computed may differ: `data.root`, `data.cache`,
  `data.reading`, `train.log_every`, `eval.every`, `eval.batch_size` and `checkpoint`.

  Args:
    path: Path of the `config.json` of the earlier part of the run; it need not exist.
    config: Config to continue with.

  Raises:
    ValueError: Settings differ; the message has their keys and both values.
  """
  if not path.exists() or not any(path.parent.glob("checkpoints/[0-9]*")):
    return  # A run that failed before its first checkpoint has nothing to go on with.
  differing = config_differences(read_json(path), config)
  if differing:
    raise ValueError(
      f"{path.parent} holds a run with another config ({'; '.join(differing)}); "
      "give the same settings, or another --workdir"
    )


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns "key: before -> now" for each setting that changes what is computed and differs.

  What `now` leaves to the weights, the input transform "auto", is what the run `before` has.
  """
  # By way of JSON, which makes lists of tuples.
  old, new = (_flatten(json.loads(json.dumps(config))) for config in (before, now))
  transform = "predictor.input_transform"
  if new.get(transform) == AUTO:
    new[transform] = old.get(transform)
  free = (
    "data.root",
    "data.cache",
    "data.reading",
    "train.log_every",
    "eval.every",
    "eval.batch_size",
    "checkpoint.",
  )
  return [
    f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not key.startswith(free)
  ]


def write_descriptor(workdir: str | pathlib.Path, found: Descriptor) -> None:
  """Leaves the facts about a run's data set in its folder."""
  write_json(pathlib.Path(workdir) / DATA_SET, found.facts())


def read_descriptor(workdir: str | pathlib.Path) -> Descriptor:
  """The facts about a run's data set, which need not be there any more.

  Raises:
    ValueError: the run has left none, and neither does its config tell them.
    FileNotFoundError: there is no run in `workdir`, or its data set is needed and not there.
  """
  path = pathlib.Path(workdir) / DATA_SET
  if path.exists():
    return Descriptor.of_facts(read_json(path))
  return read_facts(construct(Data, read_config(workdir)["data"], "data"))


def environment() -> dict[str, str]:
  """Versions and devices of this process, and the commit if the code lies in a Git repository."""
  kinds = [device.device_kind for device in jax.devices()]
  versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")}
  found = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
  return {"python": platform.python_version(), **versions, "devices": found, **_commit()}


def write_environment(workdir: str | pathlib.Path, command: Sequence[str]) -> None:
  """Leaves in a run's folder what `environment` says, and the command that it was started with."""
  write_json(
    pathlib.Path(workdir) / ENVIRONMENT, {"command": ["python", *command], **environment()}
  )


def reopen(
  workdir: str | pathlib.Path, *, data_root: str | None = None, split: str | None = None
) -> Experiment:
  """The experiment of a run.

  Args:
    workdir: folder of the run.
    data_root: see `read_config`.
    split: that is evaluated; None for the run's own.

  Raises:
    FileNotFoundError: there is no run in `workdir`, or no data set.
    ValueError: see `asmjax.config.build.build_experiment`.
  """
  config = read_config(workdir, data_root)
  if split:
    config["eval"]["split"] = split
  return build_experiment(config)


def read_state(run: Experiment, workdir: str | pathlib.Path, which: str = "last") -> TrainState:
  """The state of a run that has been trained, on the devices.

  Args:
    run: the experiment.
    workdir: its folder.
    which: of the checkpoints, "last" or "best".

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: the checkpoint is of another game.
  """
  with _opened(workdir, run.checkpointing.metric) as checkpoints:
    return restore(run, checkpoints, _step(checkpoints, workdir, which))


def checkpoint_folder(workdir: str | pathlib.Path, which: str = "last") -> pathlib.Path:
  """The folder of a run's checkpoint, for `asmjax.pretrained.read`; see `read_state`."""
  with _opened(workdir, read_config(workdir)["checkpoint"]["metric"]) as checkpoints:
    return checkpoints.folder(_step(checkpoints, workdir, which))


def _commit() -> dict[str, str]:
  """The commit of the code, with a plus if files differ from it."""
  describe = ["git", "describe", "--always", "--abbrev=40", "--match=", "--dirty=+"]
  root = pathlib.Path(__file__).resolve().parent
  try:
    found = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):  # No Git, or no repository.
    return {}
  return {"commit": found.stdout.strip()}


def _opened(workdir: str | pathlib.Path, metric: str) -> Checkpoints:
  return Checkpoints(pathlib.Path(workdir) / "checkpoints", metric=metric, writes=False)


def _step(checkpoints: Checkpoints, workdir: str | pathlib.Path, which: str) -> int:
  step = choose({"last": checkpoints.last, "best": checkpoints.best}, which, "checkpoint")()
  if step is None:
    raise FileNotFoundError(f"no {which} checkpoint in {workdir}/checkpoints; train first")
  return step


def _flatten(tree: Any, path: str = "") -> dict[str, Any]:
  """Returns the leaves of nested mappings by their keys, joined by dots."""
  if not isinstance(tree, Mapping):
    return {path: tree}
  return {
    key: leaf
    for name, value in tree.items()
    for key, leaf in _flatten(value, f"{path}.{name}" if path else name).items()
  }
