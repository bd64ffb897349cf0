"""Times the training loop against its step alone: what reading, sending and logging cost.

  loop  `asmjax train` between two logged steps: batches are read, augmented and sent, steps taken,
        reports read and written.
  step  the same compiled step, as often, on a batch that stays on the device.

The loop runs, and whenever it logs, the step alone takes its turn in the same process, so that
other work on the machine falls on both. On a CPU the loader and the step share the cores, which the
ratio shows, too.

  python benchmarks/loop.py --config=horse:asm --config.data.root=FOLDER
  python benchmarks/loop.py --config=scenes:iid --rounds=4 --config.train.steps_per_call=10
"""

import dataclasses
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, flags, logging

from asmjax.cli import config_flag
from asmjax.config.build import build_experiment
from asmjax.train.experiment import Experiment
from asmjax.train.logger import Logger
from asmjax.train.loop import train
from benchmarks.harness import define_device_flag, format_ratio, record_ratio, use_device, wait_for
from benchmarks.step_alone import make_step_alone

config_flag.define_flags()
_ROUNDS = flags.DEFINE_integer("rounds", 5, "timed intervals between logs, after the first")
_DEVICE = define_device_flag()


class TurnTaker(Logger):
  """Logger that times the loop between two logs, and lets the step alone take its turn."""

  def __init__(self, step_alone: Callable[[], None]):
    """Starts before the loop does; `step_alone` takes the steps of an interval."""
    self.loop: list[float] = []
    self.alone: list[float] = []
    self._step_alone, self._since = step_alone, time.perf_counter()

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Ends an interval of the loop, and measures the step alone."""
    del step, means, scores
    now = time.perf_counter()
    self.loop.append(now - self._since)
    self._step_alone()
    self._since = time.perf_counter()
    self.alone.append(self._since - now)

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Does nothing."""


def make_interval_alone(run: Experiment) -> Callable[[], None]:
  """Makes a function that takes the steps of an interval on the first batch of the run."""
  step_alone = make_step_alone(run)
  calls = run.training.log_every // run.training.steps_per_call

  def interval_alone() -> None:
    for _ in range(calls):
      result = step_alone()
    wait_for(result)

  interval_alone()
  return interval_alone


def main(arguments: list[str]) -> None:
  """Prints the rates of both sides, and the ratio of each interval."""
  logging.set_verbosity(logging.ERROR)
  use_device(_DEVICE.value)
  run = build_experiment(config_flag.read_config(arguments))
  interval = run.training.log_every
  run = dataclasses.replace(
    run,
    training=dataclasses.replace(run.training, steps=interval * (_ROUNDS.value + 2)),
    evaluation=dataclasses.replace(run.evaluation, every=0),
    checkpointing=dataclasses.replace(run.checkpointing, every=0),
  )
  turns = TurnTaker(make_interval_alone(run))
  with tempfile.TemporaryDirectory() as workdir:
    train(run, workdir, loggers=[turns])
  # The first interval compiles, and the last one includes the evaluation.
  loop, alone = np.array(turns.loop[1:-1]), np.array(turns.alone[1:-1])
  ratios = alone / loop
  print(f"\nJAX {jax.__version__} on {jax.devices()[0].device_kind}, {interval} steps an interval")
  for name, seconds in (("loop", loop), ("step", alone)):
    rate = interval / np.median(seconds)
    print(f"  {name}  {rate:8.2f} steps/s  {rate * run.training.batch_size:8.1f} images/s")
  print(f"  rate of the loop / of the step alone = {format_ratio(ratios)}")
  name = flags.FLAGS.config
  record_ratio(
    f"training of {name}, {run.training.steps_per_call} steps a call: rate / step's", ratios
  )


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
