"""What the benchmarks share: sides that take turns, rows of the table, memory, devices, flags."""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

# Environment variable with the path of a JSON Lines file that `record_ratio` appends to.
ROWS = "ASMJAX_BENCHMARK_ROWS"

# JAX's platforms by device. On GPUs the CPU stays, on which sides are held against each other.
PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu"}


def time_in_turns(
  sides: Mapping[str, Callable[[], Any]],
  rounds: int,
  *,
  warm_ups: int = 1,
  calls: int = 1,
  pause: float = 0.0,
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
  """Measures the seconds of a call by side and round, so that other work falls on all sides.

  Args:
    sides: Functions to time, by name; they may return before a device has computed their result.
    rounds: Number of measurements of each side.
    warm_ups: Number of rounds before those.
    calls: Number of calls of a side in its turn, waited for at its end only, as in a training: more
      than 1 where a device works on its own.
    pause: Seconds before each turn, in which another side's worker threads stop to spin.
    clock: Function that returns seconds; `time.process_time` leaves out other processes.
  """
  seconds: dict[str, list[float]] = {name: [] for name in sides}
  for i in range(warm_ups + rounds):
    for name, run in sides.items():
      time.sleep(pause)
      start = clock()
      for _ in range(calls):
        result = run()
      wait_for(result)
      if i >= warm_ups:
        seconds[name].append((clock() - start) / calls)
  return {name: np.asarray(of_side) for name, of_side in seconds.items()}


def wait_for(result: Any) -> None:
  """Waits until devices have computed a result, of JAX's or PyTorch's."""
  jax.block_until_ready(result)
  torch = sys.modules.get("torch")
  if torch and torch.cuda.is_initialized():
    torch.cuda.synchronize()


def record_ratio(row: str, ratios: np.ndarray | float) -> None:
  """Appends a row to the table of `run.py`, if that runs the script.

  Args:
    row: Name of the row, which says what is over what.
    ratios: Ratio in each round, or a single one.
  """
  if path := os.environ.get(ROWS):
    values = np.atleast_1d(ratios).astype(float)
    entry = {"row": row, "median": np.median(values), "low": values.min(), "high": values.max()}
    entry |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if torch := sys.modules.get("torch"):
      entry["torch"] = torch.__version__
    with open(path, "a") as file:
      file.write(json.dumps(entry) + "\n")


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


def add_device_flag(parser: argparse.ArgumentParser) -> None:
  """Adds the flag `--device`, for `use_device`."""
  parser.add_argument("--device", choices=("cpu", "gpu"), help="of all sides; JAX's own by default")


def define_device_flag() -> flags.FlagHolder[str | None]:
  """Defines the same flag for scripts that take the flags of configs."""
  return flags.DEFINE_enum("device", None, ["cpu", "gpu"], "of all sides; JAX's own by default")


def use_device(name: str | None) -> str:
  """Lets JAX compute on a device, before it has been used; returns PyTorch's name of it.

  PyTorch, if it is imported, then rounds the factors of float32 products to TF32 where JAX does.
  """
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of it.
  if name:
    jax.config.update("jax_platforms", PLATFORMS[name])
    os.environ["JAX_PLATFORMS"] = PLATFORMS[name]  # Of the processes that a script starts.
  if jax.default_backend() != "gpu":
    return "cpu"
  if torch := sys.modules.get("torch"):
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
  return "cuda"


def choose_clock(device: str) -> Callable[[], float]:
  """Returns the processor's clock on CPUs, which leaves out other work, or the wall's."""
  return time.process_time if device == "cpu" else time.perf_counter


def count_calls(device: str) -> int:
  """Returns the calls of a turn: one on CPUs, many where the host only sends work."""
  return 1 if device == "cpu" else 20


def parse_size(text: str) -> tuple[int, ...]:
  """Reads a size such as "375x500"."""
  return tuple(int(side) for side in text.split("x"))
