"""Execution of a sweep, from its plan to its table."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from asmjax.analysis.comparison import Comparison, compare
from asmjax.analysis.runs import Group, select_main_metrics
from asmjax.sweep.plan import Run, Sweep
from asmjax.sweep.processes import Job, Pool, Slot, core_slots, device_slots, file_size, tail
from asmjax.utils.files import atomic_write, write_json
from asmjax.utils.lock import lock_folder


@dataclasses.dataclass(frozen=True)
class Resources:
  """Resources that the runs of a sweep may use at the same time.

  Attributes:
    jobs: Number of parallel runs; 0, the default, for as many as the cores allow on CPUs, and for
      one on accelerators.
    threads: Number of CPU cores of a run; 0, the default, divides the cores among `jobs`, or gives
      every run one core if `jobs` is 0 too. Without effect on accelerators.
    jobs_per_device: Number of parallel runs on each GPU; 0, the default, distributes `jobs`.
      Without effect on CPUs.

  Raises:
    ValueError: A number is negative, or both `jobs` and `jobs_per_device` are given.
  """

  jobs: int = 0
  threads: int = 0
  jobs_per_device: int = 0

  def __post_init__(self) -> None:
    """Raises ValueError for a negative number, or if both numbers of runs are given."""
    for name, value in dataclasses.asdict(self).items():
      if value < 0:
        raise ValueError(f"{name}={value}; expected 0 or more")
    if self.jobs and self.jobs_per_device:
      raise ValueError("both jobs and jobs_per_device are given; expected one of them")

  def slots(self, platform: str, devices: Sequence[str]) -> list[Slot]:
    """Returns one slot for each parallel run.

    Args:
      platform: Name of JAX's platform: "cpu", "gpu" or "tpu".
      devices: Ids of the GPUs, as for `CUDA_VISIBLE_DEVICES`.

    Raises:
      ValueError: There are too few cores, or the accelerators cannot be shared.
    """
    if platform == "cpu":
      return core_slots(self.jobs, self.threads)
    jobs = self.jobs or self.jobs_per_device * len(devices)
    if jobs <= 1 and not self.jobs_per_device:
      return [Slot()]  # One run at a time, on all devices.
    if platform != "gpu":
      raise ValueError(f"{jobs} jobs on {platform}; only GPUs and CPUs can be shared")
    return device_slots(jobs, devices)


def find_devices() -> tuple[str, list[str]]:
  """Returns the name of JAX's platform and the ids of its devices.

  Runs JAX in a process of its own, since it occupies the devices until its process ends.

  Raises:
    ValueError: JAX finds no device.
  """
  code = "import jax; print(jax.default_backend(), jax.local_device_count())"
  process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  if process.returncode:
    raise ValueError(f"JAX finds no devices: {process.stderr.strip().splitlines()[-1]}")
  platform, count = process.stdout.split()
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  return platform, visible.split(",") if visible else [str(n) for n in range(int(count))]


def command_line(name: str) -> tuple[str, ...]:
  """Returns the first arguments of a process that runs the command `name` of `asmjax.cli`."""
  return sys.executable, "-m", "asmjax.cli", name


def run_sweep(
  sweep: Sweep,
  out: pathlib.Path,
  slots: Sequence[Slot],
  say: Callable[[str], None] = print,
  command: Callable[[str], tuple[str, ...]] = command_line,
) -> int:
  """Runs the unfinished runs of a sweep, and writes its table whenever a run succeeds.

  Args:
    sweep: Sweep to run.
    out: Path of the folder for the runs, `table.md` and `table.json`.
    slots: Slots for parallel runs; see `Resources.slots`.
    say: Function called with lines of progress.
    command: Function from the name of a command, "train" or "evaluate", to the first arguments of a
      process that runs it.

  Returns:
    Number of runs that failed.

  Raises:
    ValueError: A config is invalid, or another sweep is running in `out`.
    KeyboardInterrupt: The sweep was stopped; another call continues it.
  """
  runs = sweep.runs(out)

  def update_table(job: Job) -> None:
    try:
      write_table(sweep, runs, out)
    except (ValueError, OSError) as error:  # Without a table the remaining runs go on.
      say(f"no table: {error}")

  with lock_folder(out, "another sweep, or a run that it started,") as lock:
    unfinished, faults = _find_unfinished(runs, say)
    written = {run.name: file_size(run.log) for run in runs}  # By earlier sweeps.
    jobs = [_make_job(run, command, lock) for run in unfinished]
    Pool(slots, say=say, on_end=update_table).run(jobs, faults)
  logs = {run.name: run.log for run in runs}
  for name, fault in faults.items():
    say(f"FAILED {name}: {fault}")
    if last_lines := tail(logs[name], written[name]):
      say(last_lines)
  return len(faults)


def _find_unfinished(
  runs: Sequence[Run], say: Callable[[str], None]
) -> tuple[list[Run], dict[str, str]]:
  """Returns the runs to start, and by name why others cannot be.

  Their folders have runs of other configs, or files that cannot be read.
  """
  unfinished, faults = [], {}
  for run in runs:
    try:
      run.check()
      finished = run.is_finished()
    except (ValueError, OSError) as error:
      faults[run.name] = str(error)
      say(f"{run.name} FAILED: {error}")
      continue
    if finished:
      say(f"{run.name} was finished before")
    else:
      unfinished.append(run)
  return unfinished, faults


def write_table(sweep: Sweep, runs: Sequence[Run], out: pathlib.Path) -> str:
  """Writes `table.md` and `table.json` of the finished runs, unless there are none.

  Args:
    sweep: Sweep, which defines rows, metrics and baseline.
    runs: All runs of the sweep, finished or not.
    out: Path of the folder for both files.

  Returns:
    Text of `table.md`; without finished runs, the list of the others. Those whose files cannot be
    read count among them.

  Raises:
    ValueError: A metric is unknown, or runs were evaluated on different examples.
  """
  finished = [run for run in runs if _is_readable_and_finished(run)]
  missing = [run.name for run in runs if run not in finished]
  note = [f"Not finished: {', '.join(missing)}."] if missing else []
  compared = _compare_rows(sweep, finished)
  if compared is None:
    return "".join(note)
  text = "\n\n".join([compared.to_markdown(), compared.caption(), *note]) + "\n"
  content = compared.to_dict() | {"missing": missing}
  _add_settings(content, sweep, finished)
  with atomic_write(out / "table.md") as path:
    path.write_text(text)
  write_json(out / "table.json", content)
  return text


def _is_readable_and_finished(run: Run) -> bool:
  try:
    return run.is_finished()
  except (ValueError, OSError):
    return False


def _compare_rows(sweep: Sweep, finished: Sequence[Run]) -> Comparison | None:
  """Compares the rows that have finished runs; None if there are none."""
  workdirs = {
    row.label: tuple(run.workdir for run in finished if run.label == row.label)
    for row in sweep.rows
  }
  groups = [Group(label, paths, sweep.split) for label, paths in workdirs.items() if paths]
  if not groups:
    return None
  baseline = sweep.baseline if workdirs.get(sweep.baseline) else None
  return compare(groups, sweep.metrics or select_main_metrics(groups), baseline)


def _add_settings(content: dict[str, Any], sweep: Sweep, finished: Sequence[Run]) -> None:
  """Adds config, overrides and folders of the runs to each row of `table.json`."""
  rows = {row.label: row for row in sweep.rows}
  for entry in content["rows"]:
    row = rows[entry["label"]]
    entry["config"] = row.config
    entry["overrides"] = {
      key: str(value) for key, value in {**sweep.overrides, **row.overrides}.items()
    }
    entry["workdirs"] = {
      str(run.seed): str(run.workdir) for run in finished if run.label == row.label
    }


def _make_job(run: Run, command: Callable[[str], tuple[str, ...]], lock: int) -> Job:
  """Returns the job of a run's remaining commands."""
  workdir = f"--workdir={run.workdir}"
  train = (*command("train"), *run.arguments, workdir)
  score = (*command("evaluate"), workdir, f"--split={run.split}", "--checkpoint=last")
  trained = run.is_trained()
  own = not run.split or run.split == run.config.eval.split
  commands = ([] if trained else [train]) + ([] if own else [score])
  return Job(run.name, run.label, tuple(commands), run.log, run.start, (lock,))
