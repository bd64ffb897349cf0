"""Counts what devices exchange in a training step, and what that costs on more of them.

Nothing is compiled or computed: the bytes are those of all reductions over devices in the program
that JAX hands to the compiler. They are held against the bytes of the updated parameters, whose
gradients a data-parallel step must average.

The model of weak scaling, with the same share of the batch on every device: a ring all-reduce of B
bytes over N devices takes 2 (N - 1) / N x B / bandwidth, after a step that takes --step_ms on one.
The efficiency is that without any overlap of both, the worst case; XLA hides most of it behind the
backward pass.

  python benchmarks/collectives.py --config=voc:asm@pspnet_resnet101 --step_ms=300
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
if "jax" not in sys.modules:
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import math
import re
from collections.abc import Mapping

import jax
import numpy as np
from absl import app, flags, logging
from jaxtyping import PyTree

from asmjax.cli import config_flag
from asmjax.train.state import Player
from benchmarks.abstract_step import lower_step
from benchmarks.harness import record_ratio

config_flag.define_flags()
_STEP_MS = flags.DEFINE_float("step_ms", 300.0, "milliseconds of a step on one device")

# Published rates of one direction and one device in bytes a second.
INTERCONNECTS = {
  "NVLink 4 (450 GB/s)": 450e9,
  "InfiniBand NDR (400 Gb/s)": 50e9,
  "Ethernet (100 Gb/s)": 12.5e9,
}
_BYTES = {"f64": 8, "f32": 4, "i32": 4, "ui32": 4, "bf16": 2, "f16": 2, "i1": 1}


def count_reduced_bytes(program: str) -> list[int]:
  """Counts the bytes of each reduction over devices in a StableHLO program."""
  counts = []
  for match in re.finditer(r'"stablehlo\.all_reduce".*?\}\) : \((.*?)\) ->', program, re.DOTALL):
    for shape, kind in re.findall(r"tensor<((?:\d+x)*)(\w+)>", match[1]):
      counts.append(math.prod(map(int, shape.split("x")[:-1])) * _BYTES[kind])
  return counts


def count_bytes(tree: PyTree) -> int:
  """Counts the bytes of arrays or their shapes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def report(counts: list[int], players: Mapping[str, Player]) -> int:
  """Prints what is exchanged, and what of it are gradients; returns the bytes."""
  total = sum(counts)
  params = {name: count_bytes(player.params) for name, player in players.items()}
  for name, size in params.items():
    stats = count_bytes(players[name].batch_stats)
    print(f"  {name:12} parameters {size / 2**20:9.2f} MiB, statistics {stats / 2**20:7.2f} MiB")
  ratio = total / sum(params.values())
  print(
    f"  exchanged    {total / 2**20:9.2f} MiB in {len(counts)} arrays: {ratio:.4f} of the "
    "parameters"
  )
  record_ratio(f"{flags.FLAGS.config}, bytes reduced in a step / bytes of the parameters", ratio)
  return total


def main(arguments: list[str]) -> None:
  """Counts, and prints the model."""
  logging.set_verbosity(logging.ERROR)
  step = lower_step(config_flag.read_config(arguments))
  print(f"{flags.FLAGS.config}, {step.size[0]}x{step.size[1]}, batch {step.batch_size}")
  total = report(count_reduced_bytes(step.lowered.as_text()), step.state.players)
  sizes = (8, 32, 128, 256)
  print(f"  efficiency without overlap, steps of {_STEP_MS.value:.0f} ms, by number of devices")
  print(f"  {'':28}" + "".join(f"{size:8}" for size in sizes))
  for name, bandwidth in INTERCONNECTS.items():
    seconds = [2 * (size - 1) / size * total / bandwidth for size in sizes]
    efficiency = 1 / (1 + np.array(seconds) / (1e-3 * _STEP_MS.value))
    print(f"  {name:28}" + "".join(f"{value:8.3f}" for value in efficiency))


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
