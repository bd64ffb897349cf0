"""What the benchmarks share: sides that take turns, memory in fresh processes, flags."""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def time_in_turns(
  sides: Mapping[str, Callable[[], Any]], rounds: int, *, warm_ups: int = 1, pause: float = 0.0
) -> dict[str, np.ndarray]:
  """Measures the seconds of a call by side and round, so that other work falls on all sides.

  Args:
    sides: Functions to time, by name.
    rounds: Number of measured calls of each side.
    warm_ups: Number of calls before those.
    pause: Seconds before each call, in which another side's worker threads stop to spin.
  """
  seconds: dict[str, list[float]] = {name: [] for name in sides}
  for i in range(warm_ups + rounds):
    for name, run in sides.items():
      time.sleep(pause)
      start = time.perf_counter()
      run()
      if i >= warm_ups:
        seconds[name].append(time.perf_counter() - start)
  return {name: np.asarray(of_side) for name, of_side in seconds.items()}


def format_ratio(ratios: np.ndarray) -> str:
  """Formats the median and the range of the rounds' ratios."""
  return f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})"


def run_in_new_process(function: Callable[..., Any], *args: Any) -> Any:
  """Returns what a function of a module returns in a process of its own."""
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
    return pool.submit(function, *args).result()


def reset_peak_memory() -> None:
  """Makes Linux forget the process's peak of memory so far."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")


def read_memory(key: str) -> int:
  """Reads the bytes in memory now ("VmRSS") or at the peak ("VmHWM"), on Linux."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def limit_cores(count: int) -> None:
  """Limits the process to so many cores; JAX starts one thread for each that it may use."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def make_parser(description: str | None) -> argparse.ArgumentParser:
  """Makes a parser of flags whose help is a script's docstring as it stands."""
  return argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )


def parse_size(text: str) -> tuple[int, ...]:
  """Reads a size such as "375x500"."""
  return tuple(int(side) for side in text.split("x"))
