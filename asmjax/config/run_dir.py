"""Opens the folder of a run again: its config, its facts about the data, experiment and state."""

import importlib.metadata
import pathlib
import platform
import reprlib
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax

from asmjax.config.build import build_experiment, choose_input_transform
from asmjax.config.data import Data, find_descriptor
from asmjax.config.data_facts import check_same_data, read_facts, write_facts
from asmjax.config.schema import as_lists, choose, construct
from asmjax.data.descriptor import Descriptor
from asmjax.models.input_transform import AUTO
from asmjax.tasks import TASKS
from asmjax.train.checkpoint import load_state
from asmjax.train.experiment import Experiment
from asmjax.train.logger import LOG_ENTRIES
from asmjax.train.nonfinite import check_finite_arrays
from asmjax.train.parallel import replicate
from asmjax.train.state import TrainState
from asmjax.utils import checkpoint_folder as folders
from asmjax.utils.files import read_json_object, read_jsonl, write_json

# Versions, devices and command.
ENVIRONMENT = "environment.json"

# Types of what results hold at least.
_RESULTS = {"step": int, "data_set": str, "split": str, "examples": int, "metrics": dict}
# Sections that every config has.
_SECTIONS = ("data", "tasks", "predictor", "terms", "optimizer", "train", "eval", "checkpoint")

T = TypeVar("T")


def read_config(workdir: str | pathlib.Path, data_root: str | None = None) -> dict[str, Any]:
  """Reads the config of a run.

  Args:
    workdir: Folder of the run.
    data_root: Folder that the data set lies in now; None for the one in the config.

  Raises:
    FileNotFoundError: There is no run in `workdir`.
    ValueError: The file is damaged, or something else than the config of a run.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist; expected the workdir of a run")
  config = read_json_object(path)
  for name in _SECTIONS:
    if not isinstance(config.get(name), dict):
      found = repr(config[name]) if name in config else "nothing"
      raise ValueError(f"{path} holds {found} under {name!r}; expected a section of a run's config")
  if data_root:
    config["data"]["root"] = data_root
  return config


def read_results(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file of results, such as a run's `results.json`.

  Args:
    path: Path of the file.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is damaged, or holds something else than results.
  """
  results = read_json_object(path)
  for name, kind in _RESULTS.items():
    if not isinstance(results.get(name), kind):
      found = reprlib.repr(results[name]) if name in results else "nothing"
      raise ValueError(f"{path} holds {found} under {name!r}; expected the results of a run")
  for name in ("protocol", "lookahead"):
    if not isinstance(results.get(name, {}), dict):
      found = reprlib.repr(results[name])
      raise ValueError(f"{path} holds {found} under {name!r}; expected an object")
  _check_numbers(results["metrics"], f"{path}, under 'metrics',")
  _check_numbers({"step": results["step"], "examples": results["examples"]}, str(path))
  return results


def read_log(workdir: pathlib.Path, name: str) -> list[dict[str, Any]]:
  """Reads the entries of a run's log; there are none if it is missing.

  Args:
    workdir: Folder of the run.
    name: Name of the log: "metrics", "warnings" or "wall_time".

  Raises:
    ValueError: An entry is damaged; the message names the file.
  """
  path = workdir / f"{name}.jsonl"
  entries = read_jsonl(path, LOG_ENTRIES[name])
  for entry in entries:
    numbers = {key: value for key, value in entry.items() if key != "warning"}
    _check_numbers(numbers, f"{path}, in step {reprlib.repr(entry['step'])},")
  return entries


def _check_numbers(values: Mapping[str, Any], where: str) -> None:
  """Raises ValueError unless all values are numbers that fit 64 bits, or null, which is NaN."""
  for name, value in values.items():
    if value is None or isinstance(value, float):
      continue
    if type(value) is not int or abs(value) >= 1 << 63:
      raise ValueError(f"{where} holds {name}={reprlib.repr(value)}; expected a number")


def resolve_input_transform(config: Mapping[str, Any], workdir: str | pathlib.Path) -> None:
  """Replaces "auto" as `predictor.input_transform` in a config by the transform it stands for.

  The run then no longer needs the weights it started from to know their transform. A resumed run
  keeps the transform it began with.

  Args:
    config: Config to change, before an experiment is built from it.
    workdir: Folder of the run, which need not exist yet.

  Raises:
    ValueError: The name is unknown, or the weights do not say which transform they need.
    FileNotFoundError: The weights are those of a run that is missing.
  """
  section = config["predictor"]
  if section.get("input_transform", AUTO) != AUTO:
    return
  workdir = pathlib.Path(workdir)
  if _is_resumable(workdir):
    config = read_config(workdir)
  section["input_transform"] = choose_input_transform(config).name


def check_same_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Refuses to continue a run under another config.

  Settings that do not change what is computed may differ: `data.root`, `data.cache`,
  `data.loader`, `train.log_every`, `train.on_nonfinite`, `eval.batch_size`, `checkpoint` and
  `eval.every`. Where evaluations decide how the run goes on, with `eval.patience` or lookahead,
  `checkpoint.metric` may not, and with `eval.patience` neither may `eval.every`.

  Args:
    workdir: Folder of the run, which need not exist yet.
    config: Config to continue with.

  Raises:
    ValueError: Settings differ; the message names the first five, with both values.
  """
  if not _is_resumable(workdir):
    return
  before = read_config(workdir)
  differing = config_differences(before, config)
  if not differing:
    return
  advice = "give the same settings, or another --workdir"
  if config["train"]["steps"] > before["train"]["steps"]:
    # Its learning rates have decayed to 0, by a schedule over the steps that it was to take.
    advice += (
      "; a longer training starts on from the run's predictor with schedules of its own: another "
      f"--workdir with --config.init.path={workdir} --config.init.format=orbax"
    )
  more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
  raise ValueError(
    f"{workdir} holds a run with another config; {advice}. Differing: "
    f"{'; '.join(differing[:5])}{more}"
  )


def write_run_files(
  workdir: pathlib.Path, config: Mapping[str, Any], experiment: Experiment, command: Sequence[str]
) -> None:
  """Writes what a run is made of into its folder: config, facts about the data, environment.

  The facts of a run that goes on stay as they were written first.

  Args:
    workdir: Folder of the run; it is made if need be.
    config: Config of the run.
    experiment: Experiment that is built from it.
    command: Command that trains the run.

  Raises:
    ValueError: The folder holds a run with another config, or with other data.
  """
  check_same_config(workdir, config)
  resumes = _is_resumable(workdir)
  if resumes:
    check_same_data(workdir, experiment)
  if jax.process_index() > 0:
    return
  write_json(workdir / "config.json", config)
  if not resumes or read_facts(workdir) is None:
    write_facts(workdir, experiment)
  write_environment(workdir, command)


def _is_resumable(workdir: pathlib.Path) -> bool:
  """Returns whether a folder has a run to continue; without a checkpoint there is none.

  Raises:
    ValueError: There are checkpoints, but no config that they belong to.
  """
  if not folders.list_newest_first(workdir / "checkpoints"):
    return False
  if not (workdir / "config.json").exists():
    raise ValueError(
      f"{workdir} holds checkpoints but no config.json; expected the folder of a run, or a new one"
    )
  return True


def config_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns "key: before -> now" for each setting that changes what is computed and differs.

  A section that only one of them has is a single difference. What `now` leaves to the weights, the
  input transform "auto", is what the run `before` has. A setting that `before` lacks, since it was
  made by an earlier version, was off: 0, False or empty.
  """
  free = [
    "data.root",
    "data.cache",
    "data.loader",
    "train.log_every",
    "train.on_nonfinite",
    "eval.batch_size",
    "checkpoint.every",
    "checkpoint.keep",
  ]
  has_patience = now["eval"].get("patience", 0) > 0
  if not has_patience:
    free.append("eval.every")
  if not has_patience and "lookahead" not in now:
    free.append("checkpoint.metric")
  return [
    f"{key}: {old} -> {new}"
    for key, old, new in _compare_sections(before, now)
    if not key.startswith(tuple(free)) and (key, new) != ("predictor.input_transform", repr(AUTO))
  ]


def _compare_sections(
  before: Mapping[str, Any], now: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, str, str]]:
  """Yields the dotted key of each difference, and what either side has there, in words."""
  for name in sorted(before.keys() | now.keys()):
    old, new = before.get(name), now.get(name)
    if name not in before and not isinstance(new, Mapping) and not new:
      continue
    if isinstance(old, Mapping) and isinstance(new, Mapping):
      yield from _compare_sections(old, new, path=f"{path}{name}.")
    elif as_lists(old) != as_lists(new):
      yield f"{path}{name}", _describe_side(old), _describe_side(new)


def _describe_side(value: Any) -> str:
  return "a section" if isinstance(value, Mapping) else repr(value)


def read_descriptor(workdir: str | pathlib.Path) -> Descriptor:
  """Reads the facts about the data set of a run, which itself may be gone.

  Raises:
    ValueError: The run has not written them, and its config does not have them either.
    FileNotFoundError: There is no run in `workdir`, or its data set is needed and missing.
  """
  facts = read_facts(workdir)
  return facts or find_descriptor(construct(Data, read_config(workdir)["data"], "data"))


def describe_environment() -> dict[str, str]:
  """Returns versions, devices, and the commit if the code lies in a Git repository."""
  kinds = [device.device_kind for device in jax.devices()]
  versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")}
  devices = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
  return {"python": platform.python_version(), **versions, "devices": devices, **_describe_commit()}


def write_environment(workdir: str | pathlib.Path, command: Sequence[str]) -> None:
  """Writes `describe_environment` and the command of a run into its folder."""
  write_json(
    pathlib.Path(workdir) / ENVIRONMENT, {"command": list(command), **describe_environment()}
  )


def reopen(
  workdir: str | pathlib.Path,
  *,
  data_root: str | None = None,
  split: str | None = None,
  extra_metrics: Collection[str] | None = None,
) -> Experiment:
  """Builds the experiment of a run again.

  Args:
    workdir: Folder of the run.
    data_root: Folder that the data set lies in now; None for the one in the config.
    split: Split to evaluate on; None for the config's.
    extra_metrics: Names of metrics that evaluation also computes, each of the tasks that have it;
      None for the config's. See `asmjax.tasks.base.Task.extra_metrics`.

  Raises:
    FileNotFoundError: The run or its data set is missing.
    ValueError: The run's config is invalid, the split or a metric unknown, or the data are not
      those of the run.
  """
  config = read_config(workdir, data_root)
  if split:
    config["eval"]["split"] = split
  if extra_metrics is not None:
    _set_extra_metrics(config["tasks"], extra_metrics)
  experiment = build_experiment(config)
  check_same_data(workdir, experiment)
  return experiment


def _set_extra_metrics(tasks: Mapping[str, dict[str, Any]], names: Collection[str]) -> None:
  """Sets the extra metrics of each task in a config; raises ValueError if no task has one."""
  kinds = {task: TASKS[task].extra_metric_kinds for task in tasks}
  known = sorted(set().union(*kinds.values()))
  for name in names:
    if name not in known:
      raise ValueError(f"unknown extra metric {name!r}; known: {', '.join(known)}")
  for task, section in tasks.items():
    section["extra_metrics"] = [name for name in names if name in kinds[task]]


def read_state(run: Experiment, workdir: str | pathlib.Path, which: str = "last") -> TrainState:
  """Restores the state of a run onto the devices.

  Args:
    run: Experiment of the run.
    workdir: Folder of the run.
    which: Checkpoint to restore, "last", the default, or "best"; the best of a run that was never
      evaluated is its last.

  Raises:
    FileNotFoundError: There is no such checkpoint.
    ValueError: The checkpoint does not fit the experiment, or numbers of the state are not finite.
  """
  like = run.random_state()

  def load(folder: pathlib.Path) -> TrainState:
    state = load_state(folder, like)
    check_finite_arrays(state.players, f"checkpoint {folder}")
    return state

  return replicate(read_checkpoint(workdir, which, load, metric=run.checkpointing.metric))


def read_checkpoint(
  workdir: str | pathlib.Path,
  which: str,
  read: Callable[[pathlib.Path], T],
  *,
  metric: str | None = None,
) -> T:
  """Reads the last or the best checkpoint of a run that is intact, also while the run trains.

  Damage of one that would have been preferred is printed to standard error.

  Args:
    workdir: Folder of the run.
    which: Checkpoint to read; see `read_state`.
    read: Function of the checkpoint's folder, whose result is returned; it raises DamagedError if
      it meets damage.
    metric: Metric by which checkpoints are ranked; None, the default, for the config's.

  Raises:
    FileNotFoundError: There is no checkpoint.
    DamagedError: None is intact.
  """
  directory = pathlib.Path(workdir) / "checkpoints"
  ranked_by: str = metric or read_config(workdir)["checkpoint"]["metric"]
  lists = {
    "last": lambda: folders.list_newest_first(directory),
    "best": lambda: folders.list_best_first(directory, ranked_by),
  }
  try:
    return folders.read_intact(choose(lists, which, "checkpoint"), read)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"no {which} checkpoint in {directory}; train first") from error


def find_checkpoint(workdir: str | pathlib.Path, which: str) -> pathlib.Path:
  """Returns the folder of an intact checkpoint; see `read_checkpoint`."""

  def verify(folder: pathlib.Path) -> pathlib.Path:
    folders.verify(folder)
    return folder

  return read_checkpoint(workdir, which, verify)


def _describe_commit() -> dict[str, str]:
  """Returns the commit of the code, with a plus if files differ from it."""
  describe = ["git", "describe", "--always", "--abbrev=40", "--match=", "--dirty=+"]
  root = pathlib.Path(__file__).resolve().parent
  try:
    process = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):  # No Git, or no repository.
    return {}
  return {"commit": process.stdout.strip()}
