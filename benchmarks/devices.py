"""Holds short trainings on several devices and processes against one device: the same numbers?

Each training is `asmjax train` in processes of its own, on simulated devices of the CPU. What is
printed is the largest relative difference of all logged losses and gradient norms from those on one
device. All players descend by SGD: Adam divides gradients by their size, so that one that is hardly
more than rounding moves its parameter as far as any other, and trajectories part after a few steps.

  python benchmarks/devices.py
  python benchmarks/devices.py --variants=asm --devices=2,8 --processes=2
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.harness import make_parser

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# A small game: 8 examples a step, which 8 devices can share.
_SMALL = {
  "train.steps": 6,
  "train.log_every": 1,
  "train.batch_size": 8,
  "data.size": "(32, 32)",
  "data.options.length": 32,
  "predictor.levels": 3,
  "predictor.width": 8,
  "predictor.norm.kind": "sync_batch",
  "eval.every": 0,
  "eval.batch_size": 8,
  "checkpoint.every": 0,
  "init.required": False,
  "optimizer.predictor.name": "sgd",
  "optimizer.predictor.learning_rate": 0.01,
  "optimizer.critic.name": "sgd",
  "optimizer.critic.learning_rate": 0.005,
}
_LOAD = {
  "lookahead.steps_per_propagation": 2,
  "lookahead.retraining.batch_size": 8,
  "lookahead.retraining.epochs": 0.25,
}


def train(
  variant: str, workdir: pathlib.Path, *, devices: int, processes: int = 1
) -> list[dict[str, float]]:
  """Trains on `devices` simulated devices a process; returns what was logged."""
  overrides = _SMALL | (_LOAD if variant == "load" else {})
  command = [sys.executable, "-m", "asmjax.cli", "train", f"--config=scenes:{variant}"]
  command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in overrides.items())]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
  }
  ranks = [f"--distributed={address},{processes},{i}" for i in range(processes)]
  running = [
    subprocess.Popen(
      [*command, *([rank] if processes > 1 else [])],
      cwd=_ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
    )
    for rank in ranks
  ]
  if any([process.wait() for process in running]):
    raise RuntimeError(f"{' '.join(command)} failed")
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def compare(lines: list[dict[str, float]], reference: list[dict[str, float]]) -> float:
  """Returns the largest relative difference of losses and gradient norms."""
  return max(
    abs(line[name] - value) / abs(value)
    for line, expected in zip(lines, reference, strict=True)
    for name, value in expected.items()
    if isinstance(value, float) and value and np.isfinite(value) and _is_of_a_step(name)
  )


def _is_of_a_step(name: str) -> bool:
  """Tells the metrics of steps from scores, which decide for one class and so jump."""
  kinds = (
    "gradient_norm",
    "pixel",
    "structure",
    "affinity",
    "adversarial",
    "lookahead/critic_loss",
  )
  return name == "loss" or name.startswith(kinds)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  numbers = lambda text: tuple(map(int, filter(None, text.split(","))))
  parser = make_parser(__doc__)
  parser.add_argument("--variants", default="asm,aaf,load", help="of configs/scenes.py")
  parser.add_argument("--devices", type=numbers, default=(2, 8), help="of one process")
  parser.add_argument("--processes", type=numbers, default=(2, 4), help="of one device each")
  return parser.parse_args()


def main() -> None:
  """Compares what the flags say."""
  args = parse_flags()
  cases = {f"{n} devices": {"devices": n} for n in args.devices}
  cases |= {f"{n} processes": {"devices": 1, "processes": n} for n in args.processes}
  for variant in args.variants.split(","):
    with tempfile.TemporaryDirectory() as folder:
      workdir = pathlib.Path(folder)
      reference = train(variant, workdir / "one", devices=1)
      for name, case in cases.items():
        lines = train(variant, workdir / name.replace(" ", "_"), **case)
        print(f"{variant}: {name} differ by {compare(lines, reference):.1e}", flush=True)


if __name__ == "__main__":
  main()
