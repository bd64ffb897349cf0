"""Times evaluation with every metric against evaluation with the sums on device alone.

The passes take turns, so that other work on the machine falls on both. What the host computes for
the further metrics goes on beside the devices' work; on a CPU they share the cores.

  python benchmarks/evaluation.py --workdir=runs/voc --data_root=VOCdevkit
"""

import argparse
import pathlib
import resource
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np

from asmjax.config.build import build_experiment
from asmjax.config.run_dir import read_config, read_state
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment


def prepared(workdir: pathlib.Path, data_root: str | None, detailed: bool) -> Experiment:
  """The run, its tasks with all metrics that the data set has the truth for, or with none."""
  config = read_config(workdir, data_root)
  for section in config["tasks"].values():
    section["extra_metrics"] = ()
  run = build_experiment(config)
  if not detailed:
    return run
  provided = run.descriptor.provides
  for name, task in run.game.tasks.items():
    config["tasks"][name]["extra_metrics"] = tuple(
      key for key, kind in task.extra_metric_kinds.items() if set(kind.truth_keys) <= provided
    )
  return build_experiment(config)


def side(run: Experiment, variables: dict) -> Callable[[], tuple[float, dict[str, float]]]:
  """Seconds of one evaluation, and its metrics."""
  evaluate = make_evaluate(run.game)

  def pass_over() -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    metrics = evaluate(variables, run.eval_batches()).metrics
    return time.perf_counter() - start, metrics

  return pass_over


def main() -> None:
  """Benchmarks what the flags say."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--data_root", help="the run's own by default")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  runs = {name: prepared(args.workdir, args.data_root, name == "all") for name in ("sums", "all")}
  variables = read_state(runs["sums"], args.workdir).variables()
  sides = {name: side(run, variables) for name, run in runs.items()}
  for each in sides.values():
    each()  # Compiles.
  seconds = {name: [] for name in sides}
  for _ in range(args.rounds):
    for name, each in sides.items():
      taken, metrics = each()
      seconds[name].append(taken)
  sums, everything = (np.median(seconds[name]) for name in ("sums", "all"))
  count = len(runs["all"].validation)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f"JAX {jax.__version__} on {jax.devices()[0].device_kind}: {count} examples, "
    f"{len(metrics)} metrics"
  )
  print(
    f"  sums on device {sums:.1f} s, all metrics {everything:.1f} s: all / sums = "
    f"{everything / sums:.2f}; the further ones cost {(everything - sums) / sums:.2f} of the "
    f"passes; peak memory {memory:.2f} GiB"
  )


if __name__ == "__main__":
  main()
