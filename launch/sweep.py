"""Runs configs x seeds side by side, resumes what was interrupted, and compares them in a table.

`python launch/sweep.py --sweep=sweeps/FILE.py --out=DIR`, or without a file

    python launch/sweep.py --run=IID=configs/scenes.py:iid --run=ASM=configs/scenes.py:asm \\
      --set=train.steps=750 --seeds=0,1,2 --baseline=IID --out=DIR

Each run has its folder and log in DIR/LABEL; DIR/table.md and DIR/table.json hold means, spreads,
and differences to the baseline at the same seed. Run again, it does what is left. The exit status
is 1 if a run failed, 130 if the sweep was stopped.
"""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli.overrides import exit_on_config_error

_SWEEP = flags.DEFINE_string("sweep", None, "Python file with get_sweep(); FILE.py:ARGUMENT")
_RUNS = flags.DEFINE_multi_string("run", [], "LABEL=CONFIG, a row of the table")
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE, in every config")
_SEEDS = flags.DEFINE_list("seeds", None, "seeds of every row; 0 by default")
_BASELINE = flags.DEFINE_string("baseline", None, "LABEL of the row that others are held against")
_METRICS = flags.DEFINE_list("metrics", None, "names in results.json; by default the usual ones")
_SPLIT = flags.DEFINE_string("split", None, "split that is scored; the runs' own by default")
_ONLY = flags.DEFINE_list("only", None, "LABELs of the rows to run; all by default")
_OUT = flags.DEFINE_string("out", None, "folder for the runs and the table")
_JOBS = flags.DEFINE_integer(
  "jobs", 0, "runs at a time; by default one a CPU core, or one on accelerators", lower_bound=0
)
_THREADS = flags.DEFINE_integer(
  "threads", 0, "CPU cores of a run; by default they are shared among the jobs", lower_bound=0
)
_PER_DEVICE = flags.DEFINE_integer(
  "jobs_per_device", 0, "runs at a time on each GPU, instead of --jobs", lower_bound=0
)
_TABLE_ONLY = flags.DEFINE_bool("table_only", False, "only compare the runs that are finished")


def main(_: list[str]) -> int:
  """Reads the plan, runs it, prints the table."""
  from asmjax.sweep.run import Resources, find_devices, run_sweep, write_table

  logging.set_verbosity(logging.ERROR)
  out, failed = pathlib.Path(_OUT.value), 0
  with exit_on_config_error():
    sweep = read_plan()
    if not _TABLE_ONLY.value:
      resources = Resources(_JOBS.value, _THREADS.value, _PER_DEVICE.value)
      slots = resources.slots(*find_devices())
      say = lambda line: print(line, flush=True)
      try:
        failed = run_sweep(sweep, out, pathlib.Path(__file__).resolve().parent, slots, say)
      except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
        return 130
    print(f"\n{write_table(sweep, sweep.runs(out), out)}")
  return 1 if failed else 0


def read_plan():
  """The sweep of the file, with what the flags add or change.

  Raises:
    ValueError: a flag or the file says what cannot be run.
  """
  from asmjax.analysis.comparison import Metric
  from asmjax.sweep.plan import Row, Sweep, parse_pairs, read_sweep

  rows = tuple(Row(*pair) for pair in parse_pairs(_RUNS.value, "run").items())
  if _SWEEP.value:
    sweep = read_sweep(_SWEEP.value)
    sweep = dataclasses.replace(sweep, rows=(*sweep.rows, *rows))
  else:
    sweep = Sweep(rows)
  changes = {
    "baseline": _BASELINE.value,
    "seeds": _SEEDS.value and tuple(map(int, _SEEDS.value)),
    "metrics": _METRICS.value and tuple(map(Metric.parse, _METRICS.value)),
    "split": _SPLIT.value,
  }
  changes = {key: value for key, value in changes.items() if value is not None}
  sweep = dataclasses.replace(sweep, **changes).override(parse_pairs(_SET.value, "set"))
  return sweep.only(_ONLY.value) if _ONLY.value else sweep


if __name__ == "__main__":
  flags.mark_flags_as_required(["out"])
  app.run(main)
