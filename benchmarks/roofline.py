"""Finds what limits a training step: its operations by time, each against its roofline bound.

An operation takes at least as long as its bytes do at the memory bandwidth, and as its
floating-point operations do at the peak rate: the longer of both is its bound. Bandwidth and peak
are measured first, on a large array that is changed in its place and on a product of large
matrices. The profiler gives the time of each operation of the compiled program, the mean of several
steps on a batch of noise; no data set is needed.

  ms       time of the operations of a step, on each device.
  bound    sum of their bounds over that time: 1 where nothing could be faster.
  compute  part of the time in operations that the peak bounds, not the bandwidth.

On CPUs the process keeps to one core: the profiler does not say what several do for an operation.
Other work on the machine makes times too long; small arrays stay in the cache, and can be faster
than the bandwidth.

  python benchmarks/roofline.py --config=scenes:asm --device=cpu
  python benchmarks/roofline.py --config=voc:asm@deeplab_v3_resnet50 --device=gpu
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
# Operations that a GPU takes as one graph have no times of their own.
_FLAGS = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="
os.environ["XLA_FLAGS"] = _FLAGS.strip()

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from asmjax.cli import config_flag
from benchmarks.abstract_step import lower_step
from benchmarks.harness import (
  define_device_flag,
  limit_cores,
  record_ratio,
  time_in_turns,
  use_device,
  wait_for,
)
from benchmarks.hlo import read_operations
from benchmarks.timed_operations import HEAD, Peak, make_rows, profile

config_flag.define_flags()
_STEPS = flags.DEFINE_integer("steps", 5, "profiled steps, after two that are not", lower_bound=1)
_COUNT = flags.DEFINE_integer("count", 10, "operations to list, the longest first", lower_bound=0)
_DEVICE = define_device_flag()
_SIDE = {"cpu": 2048, "gpu": 8192}  # Of the matrices: a product is long beside its start.


def measure_peak(dtype: str) -> Peak:
  """Measures the product of large matrices, and the change of a large array in its place."""
  side = _SIDE["gpu" if jax.default_backend() == "gpu" else "cpu"]
  matrix, array = jnp.ones((side, side), dtype), jnp.ones(16 * side * side, jnp.float32)
  product = _time_best(jax.jit(lambda x: x @ x * (1 / side), donate_argnums=0), matrix)
  change = _time_best(jax.jit(lambda x: x * 0.5, donate_argnums=0), array)
  return Peak(flops=2 * side**3 / product, bytes=2 * array.nbytes / change)


def _time_best(function: Callable[[Any], Any], value: Any, rounds: int = 7) -> float:
  """Returns the least seconds of a call, each on the result of the one before."""
  seconds = []
  for _ in range(rounds):
    start = time.perf_counter()
    value = function(value)
    wait_for(value)
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def main(arguments: list[str]) -> None:
  """Measures the peaks, profiles the step, and prints the table."""
  logging.set_verbosity(logging.ERROR)
  if _DEVICE.value != "gpu":
    limit_cores(1)
  use_device(_DEVICE.value)
  config = config_flag.read_config(arguments)
  name, dtype = flags.FLAGS.config, config.train.dtype
  peak = measure_peak(dtype)
  step = lower_step(config)
  compiled = step.lowered.compile()
  carry, batch = step.draw_inputs()

  def take_step() -> Any:
    nonlocal carry
    carry, reports = compiled(carry, batch)
    return reports

  measured = time_in_turns({"step": take_step}, _STEPS.value, warm_ups=2)["step"]
  profiled = profile(take_step, _STEPS.value, jax.local_device_count())
  rows = make_rows(profiled, read_operations(compiled.as_text() or ""), _COUNT.value)
  everything, (height, width) = rows[0], step.size
  print(f"{name}, {height}x{width}, batch {step.batch_size}, on {jax.devices()[0].device_kind}")
  print(f"peaks: {1e-9 * peak.flops:.0f} GFLOP/s ({dtype}), {1e-9 * peak.bytes:.0f} GB/s")
  ratio = everything.seconds / np.median(measured)
  print(f"operations / step without the profiler: {ratio:.2f}")
  print(HEAD)
  for row in rows:
    print(row.format(peak, everything.seconds))
  record_ratio(f"step of {name}: roofline bound / time", everything.compare_bound(peak))


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
