"""Times evaluation with every metric against evaluation with the sums on device alone.

The passes take turns, so that other work on the machine falls on both. What the host computes for
the further metrics goes on beside the devices' work; on a CPU they share the cores.

  python benchmarks/evaluation.py --workdir=runs/voc --data_root=VOCdevkit
"""

import pathlib
import resource
import sys
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np

from asmjax.config.build import build_experiment
from asmjax.config.run_dir import read_config, read_state
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment
from benchmarks.harness import add_device_flag, make_parser, time_in_turns, use_device


def build_run(workdir: pathlib.Path, data_root: str | None, *, all_metrics: bool) -> Experiment:
  """Builds the run with all metrics that the data set has the truth for, or with no extra ones."""
  config = read_config(workdir, data_root)
  for section in config["tasks"].values():
    section["extra_metrics"] = ()
  run = build_experiment(config)
  if not all_metrics:
    return run
  provided = run.descriptor.provides
  for name, task in run.game.tasks.items():
    config["tasks"][name]["extra_metrics"] = tuple(
      key for key, kind in task.extra_metric_kinds.items() if set(kind.truth_keys) <= provided
    )
  return build_experiment(config)


def main() -> None:
  """Benchmarks what the flags say."""
  parser = make_parser(__doc__)
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--data_root", help="the run's own by default")
  parser.add_argument("--rounds", type=int, default=3)
  add_device_flag(parser)
  args = parser.parse_args()
  use_device(args.device)
  runs = {
    name: build_run(args.workdir, args.data_root, all_metrics=name == "all")
    for name in ("sums", "all")
  }
  variables = read_state(runs["sums"], args.workdir).variables()
  metrics: dict[str, float] = {}

  def make_side(run: Experiment) -> Callable[[], None]:
    evaluate = make_evaluate(run.game)
    return lambda: metrics.update(evaluate(variables, run.eval_batches()).metrics)

  seconds = time_in_turns({name: make_side(run) for name, run in runs.items()}, args.rounds)
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
