"""A sweep from its plan to its table."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asmjax.analysis.comparison import Comparison, compare
from asmjax.analysis.runs import Group, usual_metrics
from asmjax.sweep.plan import Run, Sweep
from asmjax.sweep.processes import Job, Pool, Slot, core_slots, device_slots, tail
from asmjax.utils.files import atomic_write, write_json


@dataclasses.dataclass(frozen=True)
class Resources:
  """What runs may use at a time.

  Attributes:
    jobs: Number of runs; 0 for one a core on CPUs, and for one in all on accelerators.
    threads: CPU cores of a run; 0 shares the cores among the jobs.
    jobs_per_device: Number of runs on each GPU; 0 leaves that to `jobs`.

  Raises:
    ValueError: A number is negative, or both `jobs` and `jobs_per_device` are given.
  """

  jobs: int = 0
  threads: int = 0
  jobs_per_device: int = 0

  def __post_init__(self) -> None:
    """Checks the numbers."""
    for name, value in dataclasses.asdict(self).items():
      if value < 0:
        raise ValueError(f"{name}={value}; expected 0 or more")
    if self.jobs and self.jobs_per_device:
      raise ValueError("both jobs and jobs_per_device are given; expected one of them")

  def slots(self, platform: str, devices: Sequence[str]) -> list[Slot]:
    """Returns a slot for each run at a time.

    Args:
      platform: Of JAX: "cpu", "gpu", "tpu".
      devices: Ids of the GPUs.

    Raises:
      ValueError: There are not enough cores, or the accelerators cannot be shared.
    """
    if platform == "cpu":
      return core_slots(self.jobs, self.threads)
    jobs = self.jobs or self.jobs_per_device * len(devices)
    if jobs <= 1 and not self.jobs_per_device:
      return [Slot()]  # Alone, with all devices.
    if platform != "gpu":
      raise ValueError(f"{jobs} jobs on {platform}; only GPUs and CPUs can be shared")
    return device_slots(jobs, devices)


def find_devices() -> tuple[str, list[str]]:
  """Returns JAX's platform and the ids of the GPUs, without taking hold of them."""
  code = "import jax; print(jax.default_backend(), jax.local_device_count())"
  found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  if found.returncode:
    raise ValueError(f"JAX finds no devices: {found.stderr.strip().splitlines()[-1]}")
  platform, count = found.stdout.split()
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  return platform, visible.split(",") if visible else [str(n) for n in range(int(count))]


def command_line(name: str) -> tuple[str, ...]:
  """Returns the arguments that begin a process which runs a command of `asmjax.cli`."""
  return sys.executable, "-m", "asmjax.cli", name


def run_sweep(
  sweep: Sweep,
  out: pathlib.Path,
  slots: Sequence[Slot],
  say: Callable[[str], None] = print,
  command: Callable[[str], tuple[str, ...]] = command_line,
) -> int:
  """Runs what is not finished, and writes the table whenever a run has ended.

  Args:
    sweep: What to run.
    out: Folder for the runs, `table.md` and `table.json`.
    slots: See `Resources.slots`.
    say: Called with lines about the progress.
    command: Arguments that begin a process which runs the command of a name, "train" or "evaluate".

  Returns:
    The number of runs that have failed.

  Raises:
    ValueError: A config is wrong, or another sweep is at work in `out`.
    KeyboardInterrupt: The sweep was stopped; called again it goes on.
  """
  runs = sweep.runs(out)
  with _locked(out) as lock:
    jobs, faults = [], {}
    for run in runs:
      try:
        run.check()
      except ValueError as error:
        faults[run.name] = str(error)
        say(f"{run.name} FAILED: {error}")
        continue
      if run.is_finished():
        say(f"{run.name} was finished before")
      else:
        jobs.append(_job(run, command, lock))

    def update_table(job: Job) -> None:
      try:
        write_table(sweep, runs, out)
      except ValueError as error:  # A mistake in the table must not end a night's runs.
        say(f"no table: {error}")

    Pool(slots, say=say, on_end=update_table).run(jobs, faults)
  by_name = {run.name: run for run in runs}
  for name, fault in faults.items():
    say(f"FAILED {name}: {fault}")
    if fault.startswith(("exit status", "SIG")):
      say(tail(by_name[name].log))
  return len(faults)


def write_table(sweep: Sweep, runs: Sequence[Run], out: pathlib.Path) -> str:
  """Writes `table.md` and `table.json` of the finished runs, unless there are none.

  Args:
    sweep: Whose rows, metrics and baseline.
    runs: All runs.
    out: Folder of both files.

  Returns:
    The text of `table.md`.

  Raises:
    ValueError: A metric is unknown, or runs were evaluated on different examples.
  """
  finished = [run for run in runs if run.is_finished()]
  missing = [run.name for run in runs if run not in finished]
  note = [f"Not finished: {', '.join(missing)}."] if missing else []
  compared = _compared(sweep, finished)
  if compared is None:
    return "".join(note)
  text = "\n\n".join([compared.markdown(), compared.caption(), *note]) + "\n"
  content = compared.to_dict() | {"missing": missing}
  _add_settings(content, sweep, finished)
  with atomic_write(out / "table.md") as path:
    path.write_text(text)
  write_json(out / "table.json", content)
  return text


def _compared(sweep: Sweep, finished: Sequence[Run]) -> Comparison | None:
  """The rows that have finished runs, side by side; None if there are none."""
  workdirs = {
    row.label: tuple(run.workdir for run in finished if run.label == row.label)
    for row in sweep.rows
  }
  groups = [Group(label, found, sweep.split) for label, found in workdirs.items() if found]
  if not groups:
    return None
  baseline = sweep.baseline if workdirs.get(sweep.baseline) else None
  return compare(groups, sweep.metrics or usual_metrics(groups), baseline)


def _add_settings(content: dict[str, Any], sweep: Sweep, finished: Sequence[Run]) -> None:
  """What each row of `table.json` was run with."""
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


def _job(run: Run, command: Callable[[str], tuple[str, ...]], lock: int) -> Job:
  """The commands that are left to do of a run."""
  workdir = f"--workdir={run.workdir}"
  train = (*command("train"), *run.arguments, workdir)
  score = (*command("evaluate"), workdir, f"--split={run.split}")
  trained = run.is_trained()
  own = not run.split or run.split == run.config.eval.split
  commands = ([] if trained else [train]) + ([] if own else [score])
  return Job(run.name, run.label, tuple(commands), run.log, run.start, (lock,))


@contextlib.contextmanager
def _locked(out: pathlib.Path) -> Iterator[int]:
  """Holds the sweep's folder, as long as any of its processes lives.

  Raises:
    ValueError: Another sweep, or a run that one has left behind, holds it.
  """
  out.mkdir(parents=True, exist_ok=True)
  with (out / ".lock").open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(f"another sweep, or a run that it started, is at work in {out}") from error
    yield file.fileno()
