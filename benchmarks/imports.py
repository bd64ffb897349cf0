"""Time of importing losses and metrics, against JAX and Flax alone: `python benchmarks/imports.py`.

Processor time of processes that import one or the other in turn, so that other work on the machine
matters little.
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.harness import record_ratio

SIDES = {"jax, flax": "import jax, flax", "asmjax": "import asmjax.losses, asmjax.metrics"}


def processor_seconds(code: str) -> float:
  """Measures user and system time of a Python process that executes `code`."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  subprocess.run([sys.executable, "-c", code], check=True)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--repeats", type=int, default=10)
args = parser.parse_args()

for code in SIDES.values():
  processor_seconds(code)  # Writes bytecode.
times = [[processor_seconds(code) for code in SIDES.values()] for _ in range(args.repeats)]
ratios = sorted(ours / theirs for theirs, ours in times)
for name, seconds in zip(SIDES, zip(*times, strict=True), strict=True):
  print(f"{name:10} {statistics.median(seconds):.2f} s")
record_ratio("import, processor time: losses and metrics / JAX and Flax", np.array(ratios))
print(f"ratio      {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
