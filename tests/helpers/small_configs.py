"""Shipped configs made small."""

import importlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import jax

from asmjax.config import methods
from asmjax.config.build import build_experiment
from asmjax.train.loop import open_checkpoints
from asmjax.train.schedule import restore_state
from tests.helpers.xla_flags import xla_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# The processes of one test run compile everything once.
CACHE = tempfile.TemporaryDirectory(prefix="asmjax_tests_")

SMALL = {
  "tasks.segmentation.extra_metrics": (),
  "data.options.length": 24,
  "data.size": (16, 16),
  "predictor.levels": 2,
  "predictor.width": 4,
  "terms.structure.critic.filters": (4, 6),
  "train.batch_size": 8,
  "train.steps": 12,
  "train.log_every": 5,
  "eval.every": 6,
  "eval.batch_size": 16,
  "checkpoint.every": 4,
}

# Of LoAd: short cycles, and a small discriminator.
AHEAD = {
  "lookahead.steps_per_propagation": 2,
  "lookahead.rules.patience": 2,
  "lookahead.retraining.eval_every": 2,
  "lookahead.retraining.patience": 1,
  "lookahead.retraining.epochs": 0.5,
  "lookahead.retraining.batch_size": 8,
  "terms.adversarial.critic": methods.critic("patch", filters=(4, 6)),
  "optimizer.predictor.learning_rate": 0.05,
  "eval.every": 0,
  "init.required": False,
}


def config(variant="asm", file="scenes", **changes):
  """A config as `launch/main.py` would get it."""
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  for key, value in (SMALL | changes).items():
    section, _, name = key.rpartition(".")
    target = config
    for part in filter(None, section.split(".")):
      target = target.get(part)
      if target is None:
        break
    if target is not None and (key in changes or name in target):
      target[name] = value
  return config


def flags(**changes):
  """The same changes as command line flags."""
  return [f"--config.{key}={value}" for key, value in (SMALL | changes).items()]


def launch(script, *arguments, devices=2, wait=True):
  """Runs a launcher in a process of its own."""
  environment = os.environ | {
    "XLA_FLAGS": xla_flags(devices),
    "JAX_COMPILATION_CACHE_DIR": CACHE.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  process = subprocess.Popen(
    [sys.executable, str(ROOT / "launch" / script), *arguments],
    env=environment,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  if not wait:
    return process
  output, _ = process.communicate(timeout=600)
  return process.returncode, output


def start_two(script, *arguments):
  """Starts a launcher on two hosts of two devices each."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  return [
    launch(script, *arguments, f"--distributed={address},2,{index}", wait=False)
    for index in range(2)
  ]


def launch_two(script, *arguments):
  """Runs a launcher on two hosts of two devices each, to a good end."""
  processes = start_two(script, *arguments)
  outputs = [process.communicate(timeout=600)[0] for process in processes]
  assert all(process.returncode == 0 for process in processes), outputs


def logged(workdir):
  """The complete lines of `metrics.jsonl`."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  return [json.loads(line) for line in lines]


def last_state(workdir):
  """The state of a run's last checkpoint, on the host."""
  workdir = pathlib.Path(workdir)
  run = build_experiment(json.loads((workdir / "config.json").read_text()))
  with open_checkpoints(run, workdir) as checkpoints:
    return jax.device_get(restore_state(run, checkpoints, checkpoints.latest_step()))
