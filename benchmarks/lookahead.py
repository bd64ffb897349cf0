"""What LoAd costs beyond plain training: as many steps of the predictor, in one process.

  python benchmarks/lookahead.py --config=configs/scenes.py:load --config.train.steps=400

The plain side trains with the terms that have no critic, and evaluates at the end as LoAd does.
With `--before=1500`, the steps of the training that LoAd goes on from, both stages are also held
against the first alone, at the plain side's pace: that is how Jamali-Rad and Szabo (2022, Sec. 7)
come to 2.5.
Both sides run once before they are timed, so that everything is compiled; then they take turns.
What LoAd spends its time on is booked between its steps.
"""

import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from asmjax.cli import config_flag
from asmjax.config.build import build_experiment, build_schedule
from asmjax.lookahead.train import LookaheadSchedule
from asmjax.train.experiment import Experiment
from asmjax.train.loop import MakeSchedule, train
from benchmarks.harness import define_device_flag, record_ratio, use_device

config_flag.define_flags()
_ROUNDS = flags.DEFINE_integer("rounds", 3, "timed runs of each side")
_DEVICE = define_device_flag()
_BEFORE = flags.DEFINE_integer("before", 0, "steps of the first stage", lower_bound=0)


def main(arguments: list[str]) -> None:
  """Prints the ratio of each round and its median, and where the time goes."""
  logging.set_verbosity(logging.ERROR)
  use_device(_DEVICE.value)
  config = config_flag.read_config(arguments)
  with tempfile.TemporaryDirectory() as cache:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    ratios, stages, booked = [], [], []
    for i in range(1 + _ROUNDS.value):
      seconds, schedule = train_lookahead(config)
      steps = schedule.progress.predictor_steps
      seconds_without = train_without_critics(config, steps)
      if i == 0:
        continue  # It compiles.
      ratios.append(seconds / seconds_without)
      if _BEFORE.value:
        stages.append(1 + seconds / (_BEFORE.value * seconds_without / steps))
      booked.append(dict(schedule.seconds))
  progress = schedule.progress
  print(
    f"\npredictor's steps {progress.predictor_steps}, critics' steps {progress.critic_steps}, "
    f"propagations {progress.num_propagations}, cycles {progress.num_cycles}"
  )
  for title, values in (("LoAd / plain training", ratios), ("both stages / the first", stages)):
    if values:
      record_ratio(title, np.array(values))
      rounds = ", ".join(f"{ratio:.2f}" for ratio in values)
      print(f"{title} {rounds}; median {np.median(values):.2f}")
  medians = {name: np.median([of_run[name] for of_run in booked]) for name in booked[0]}
  for name, seconds in medians.items():
    print(f"  {name:20s} {seconds:7.1f} s  {seconds / sum(medians.values()):6.1%}")


def train_lookahead(config: ConfigDict) -> tuple[float, LookaheadSchedule]:
  """Measures the seconds of a run of LoAd; returns them and its schedule."""
  run, schedules = build_experiment(config), []
  make = build_schedule(config, run)

  def make_schedule(*arguments) -> LookaheadSchedule:
    schedules.append(make(*arguments))
    return schedules[0]

  return time_training(run, make_schedule), schedules[0]


def train_without_critics(config: ConfigDict, steps: int) -> float:
  """Measures the seconds of a run with as many steps and no critic."""
  config = config.to_dict()
  del config["lookahead"]
  config["terms"] = {
    name: section
    for name, section in config["terms"].items()
    if "critic" not in section and not section.get("adaptive")
  }
  config["train"]["steps"] = steps
  return time_training(build_experiment(config), None)


def time_training(run: Experiment, make_schedule: MakeSchedule | None) -> float:
  """Measures the seconds of a run in a folder of its own."""
  with tempfile.TemporaryDirectory() as workdir:
    start = time.perf_counter()
    train(run, workdir, make_schedule)
    return time.perf_counter() - start


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
