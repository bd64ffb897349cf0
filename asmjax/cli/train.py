"""Trains: `asmjax train --config=FILE:VARIANT --workdir=DIR`.

Any setting can be overridden: `--config.train.steps=100`. A run whose workdir holds a checkpoint
is resumed.
"""

import sys

from absl import flags

from asmjax.cli import config_flag
from asmjax.cli.errors import Status
from asmjax.utils.supervision import run_supervised

_LOST = (
  "FATAL another process of the run was lost, or cannot be reached; start all of them again, and "
  "they go on from the last checkpoint"
)

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `train`."""
  config_flag.define_flags()
  flags.DEFINE_string(
    "distributed", None, "'auto' on a pod or cluster that JAX knows, or HOST:PORT,PROCESSES,INDEX"
  )
  flags.DEFINE_string("workdir", None, "folder of the run")
  flags.mark_flags_as_required(["workdir"])


def main(arguments: list[str]) -> None:
  """Checks the config, trains, and prints the final metrics."""
  if flags.FLAGS.distributed:
    run_supervised(_LOST, Status.STOPPED)
  import jax

  from asmjax.analysis.runs import describe_best, format_results
  from asmjax.config.load import load_config
  from asmjax.config.reference import compare_to_reference
  from asmjax.run import prepare_run
  from asmjax.train.parallel import initialize_distributed

  if flags.FLAGS.distributed:
    initialize_distributed(flags.FLAGS.distributed)
  config = config_flag.read_config(arguments)
  given = config.to_dict()  # Before "auto" in it is replaced by what it stands for.
  command = ["asmjax", "train", *sys.argv[1:]]
  train = prepare_run(config, flags.FLAGS.workdir, command=command)
  run = train()
  if jax.process_index() == 0:
    print(f"\n{format_results(run.results)}\n\n{describe_best(run.results)}")
    default = load_config(flags.FLAGS.config).to_dict()
    if lines := compare_to_reference(given, default, run.metrics):
      print(lines)
