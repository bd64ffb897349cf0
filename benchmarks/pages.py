"""Times training steps on the CPU with their memory in pages of 4 KiB, and in large ones.

  small  what Linux gives unless it is asked for more.
  large  what glibc from 2.35 on asks for with GLIBC_TUNABLES=glibc.malloc.hugetlb=1.

XLA asks for a program's memory anew in every step, and Linux maps it page by page where it is first
touched: a page fault each. The sides are processes of their own, on one core, and take turns;
seconds are the processor's.

  python benchmarks/pages.py --configs=scenes:iid,scenes:aaf_released+dice
  python benchmarks/pages.py --configs=voc_animals:iid --data_root=FOLDER
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import resource
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.harness import format_ratio, limit_cores, make_parser, record_ratio, wait_for
from benchmarks.step_alone import make_step_of

SIDES = {"small": "", "large": "glibc.malloc.hugetlb=1"}
WARM_UPS = 2

_step: Callable[[], Any]


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--configs", required=True, help="separated by commas")
  parser.add_argument("--data_root", help="config.data.root of all of them")
  parser.add_argument("--rounds", type=int, default=7, help="steps of each side, in turn")
  return parser.parse_args()


def prepare(config: str, data_root: str | None) -> None:
  """Compiles the step that this process takes."""
  global _step
  limit_cores(1)
  _step = make_step_of(config, data_root)


def take_step() -> tuple[float, float, int]:
  """Takes a step; returns its seconds, those of them in the kernel, and its page faults."""
  before = resource.getrusage(resource.RUSAGE_SELF)
  wait_for(_step())
  after = resource.getrusage(resource.RUSAGE_SELF)
  system = after.ru_stime - before.ru_stime
  return after.ru_utime - before.ru_utime + system, system, after.ru_minflt - before.ru_minflt


def compare(config: str, data_root: str | None, rounds: int) -> None:
  """Prints what a step of a config costs on both sides, and the ratio of their seconds."""
  spawn = multiprocessing.get_context("spawn")
  start = {"mp_context": spawn, "initializer": prepare, "initargs": (config, data_root)}
  sides = {name: concurrent.futures.ProcessPoolExecutor(1, **start) for name in SIDES}
  readings: dict[str, list[tuple[float, float, int]]] = {name: [] for name in SIDES}
  for _ in range(WARM_UPS + rounds):
    for name, side in sides.items():
      os.environ["GLIBC_TUNABLES"] = SIDES[name]  # Read at the start of its process.
      readings[name].append(side.submit(take_step).result())
  for side in sides.values():
    side.shutdown()
  columns = {name: np.asarray(values[WARM_UPS:]).T for name, values in readings.items()}
  for name, column in columns.items():
    seconds, system, faults = np.median(column, axis=1)
    print(
      f"{config:32}{name:7}{1e3 * seconds:9.1f} ms, {1e3 * system:7.1f} of them in the kernel,"
      f" {faults:9.0f} page faults"
    )
  ratios = columns["large"][0] / columns["small"][0]
  print(f"{config:32}large / small {format_ratio(ratios)}", flush=True)
  record_ratio(f"step: {config}, large / small pages", ratios)


def main() -> None:
  """Compares both sides of each config."""
  args = parse_flags()
  for config in args.configs.split(","):
    compare(config, args.data_root, args.rounds)


if __name__ == "__main__":
  main()
