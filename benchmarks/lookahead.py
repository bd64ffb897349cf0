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
from asmjax.train.loop import train

config_flag.define_flags()
_ROUNDS = flags.DEFINE_integer("rounds", 3, "timed runs of each side")
_BEFORE = flags.DEFINE_integer("before", 0, "steps of the first stage", lower_bound=0)


def main(arguments: list[str]) -> None:
  """Prints the ratio of each round and its median, and where the time goes."""
  logging.set_verbosity(logging.ERROR)
  config = config_flag.read_config(arguments)
  with tempfile.TemporaryDirectory() as cache:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _, plan = ahead(config)
    plain(config, plan.progress.predictor_steps)
    ratios, stages, booked = [], [], []
    for _ in range(_ROUNDS.value):
      seconds, plan = ahead(config)
      seconds_plain = plain(config, plan.progress.predictor_steps)
      ratios.append(seconds / seconds_plain)
      if _BEFORE.value:
        stages.append(1 + seconds / (_BEFORE.value * seconds_plain / plan.progress.predictor_steps))
      booked.append(dict(plan.seconds))
  print(
    f"\npredictor's steps {plan.progress.predictor_steps}, "
    f"critics' steps {plan.progress.critic_steps}, "
    f"propagations {plan.progress.num_propagations}, cycles {plan.progress.num_cycles}"
  )
  for title, each in (("LoAd / plain training", ratios), ("both stages / the first", stages)):
    if each:
      print(f"{title} {', '.join(f'{ratio:.2f}' for ratio in each)}; median {np.median(each):.2f}")
  total = sum(np.median([each[name] for each in booked]) for name in booked[0])
  for name in booked[0]:
    seconds = np.median([each[name] for each in booked])
    print(f"  {name:20s} {seconds:7.1f} s  {seconds / total:6.1%}")


def ahead(config: ConfigDict) -> tuple[float, LookaheadSchedule]:
  """Seconds of a run of LoAd, and its schedule."""
  run, plans = build_experiment(config), []
  make = build_schedule(config, run)

  def kept(*arguments) -> LookaheadSchedule:
    plans.append(make(*arguments))
    return plans[0]

  return timed(run, kept), plans[0]


def plain(config: ConfigDict, steps: int) -> float:
  """Seconds of a run with as many steps and no critic."""
  config = config.to_dict()
  del config["lookahead"]
  config["terms"] = {
    name: section
    for name, section in config["terms"].items()
    if "critic" not in section and not section.get("adaptive")
  }
  config["train"]["steps"] = steps
  return timed(build_experiment(config), None)


def timed(run, make) -> float:
  """Seconds of a run in a folder of its own."""
  with tempfile.TemporaryDirectory() as workdir:
    start = time.perf_counter()
    train(run, workdir, make)
    return time.perf_counter() - start


if __name__ == "__main__":
  app.run(main, flags_parser=config_flag.parse)
