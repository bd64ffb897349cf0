"""Runs configs x seeds side by side, resumes what was interrupted, and compares them in a table.

`asmjax sweep --sweep=FILE --out=DIR`, or without a file

    asmjax sweep --run=IID=scenes:iid --run=ASM=scenes:asm \\
      --set=train.steps=750 --seeds=0,1,2 --baseline=IID --out=DIR

Each run has its folder and log in DIR/LABEL; DIR/table.md and DIR/table.json hold means, spreads,
and differences to the baseline at the same seed. Run again, it does what is left. The exit status
is 1 if a run failed, 130 if the sweep was stopped.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from asmjax.cli.errors import Status
from asmjax.config.library import list_sweeps

if TYPE_CHECKING:
  from asmjax.sweep.plan import Sweep

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `sweep`."""
  known = ", ".join(list_sweeps())
  flags.DEFINE_string(
    "sweep", None, f"FILE:ARGUMENT, a Python file with get_sweep() or one of {known}"
  )
  flags.DEFINE_multi_string("run", [], "LABEL=CONFIG, a row of the table")
  flags.DEFINE_multi_string("set", [], "KEY=VALUE, in every config")
  flags.DEFINE_list("seeds", None, "seeds of every row; 0 by default")
  flags.DEFINE_string("baseline", None, "LABEL of the row that others are held against")
  flags.DEFINE_list("metrics", None, "names in results.json; by default the usual ones")
  flags.DEFINE_string("split", None, "split that is scored; the runs' own by default")
  flags.DEFINE_list("only", None, "LABELs of the rows to run; all by default")
  flags.DEFINE_string("out", None, "folder for the runs and the table")
  flags.DEFINE_integer("jobs", 0, "runs at a time; by default one a CPU core or all accelerators")
  flags.DEFINE_integer("threads", 0, "CPU cores of a run; by default shared among the jobs")
  flags.DEFINE_integer("jobs_per_device", 0, "runs at a time on each GPU, instead of --jobs")
  flags.DEFINE_bool("table_only", False, "only compare the runs that are finished")
  flags.mark_flags_as_required(["out"])


def main(_: list[str]) -> int:
  """Reads the plan, runs it, and prints the table."""
  from asmjax.sweep.run import Resources, find_devices, run_sweep, write_table

  values, out, num_failed = flags.FLAGS, pathlib.Path(flags.FLAGS.out), 0
  sweep = read_sweep_flags()
  if not values.table_only:
    _export_python_path()
    resources = Resources(values.jobs, values.threads, values.jobs_per_device)
    slots = resources.slots(*find_devices())
    say = lambda line: print(line, flush=True)
    try:
      num_failed = run_sweep(sweep, out, slots, say)
    except KeyboardInterrupt:
      print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
      return Status.INTERRUPTED
  print(f"\n{write_table(sweep, sweep.runs(out), out)}")
  return 1 if num_failed else 0


def _export_python_path() -> None:
  """Lets the processes of the runs import this package and `configs` from a checkout, too."""
  root = str(pathlib.Path(__file__).resolve().parents[2])
  os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def _parse_seeds(texts: Sequence[str]) -> tuple[int, ...]:
  if not all(text.strip().isdecimal() for text in texts):
    raise ValueError(f"--seeds={','.join(texts)}; expected whole numbers, as 0,1,2")
  return tuple(map(int, texts))


def read_sweep_flags() -> "Sweep":
  """Returns the sweep of the file, with what the flags add or change.

  Raises:
    ValueError: A flag or the file asks for what cannot be run.
    FileNotFoundError: There is no such file.
  """
  from asmjax.analysis.comparison import MetricColumn
  from asmjax.sweep.plan import Row, Sweep, parse_pairs, read_sweep

  values = flags.FLAGS
  rows = tuple(Row(label, config) for label, config in parse_pairs(values.run, "run").items())
  if values.sweep:
    sweep = read_sweep(values.sweep)
    sweep = dataclasses.replace(sweep, rows=(*sweep.rows, *rows))
  else:
    sweep = Sweep(rows)
  changes: dict[str, Any] = {
    "baseline": values.baseline,
    "seeds": values.seeds and _parse_seeds(values.seeds),
    "metrics": values.metrics and tuple(map(MetricColumn.parse, values.metrics)),
    "split": values.split,
  }
  changes = {key: value for key, value in changes.items() if value is not None}
  sweep = dataclasses.replace(sweep, **changes).override(parse_pairs(values.set, "set"))
  return sweep.only(values.only) if values.only else sweep
