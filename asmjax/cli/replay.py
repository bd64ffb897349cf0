"""Takes a step again that was not finite: `asmjax replay --workdir=DIR [--step=STEP]`.

A training that halts at such a step leaves its batch and the state before it in
`DIR/nonfinite/STEP`. Prints the step's losses and the norms of its gradients, and which modules,
gradients and updated arrays are not finite, in the order of their computation.
"""

import pathlib

from absl import flags

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `replay`."""
  flags.DEFINE_string("workdir", None, "folder of the run")
  flags.DEFINE_integer("step", None, "number of steps before it; by default the last one stored")
  flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
  flags.DEFINE_bool("debug_nans", False, "stop at the operation that gives the first NaN")
  flags.mark_flags_as_required(["workdir"])


def main(_: list[str]) -> None:
  """Takes the step, and prints what it computes."""
  import jax

  from asmjax.config.run_dir import reopen
  from asmjax.train.replay import read_step, replay_step

  values, workdir = flags.FLAGS, pathlib.Path(flags.FLAGS.workdir)
  run = reopen(workdir, data_root=values.data_root)
  stored = read_step(workdir, run, values.step)
  print(f"step {stored.step}, of {', '.join(stored.active_players)}")
  print(f"examples: {', '.join(stored.examples)}")
  print(f"not finite in the run: {', '.join(stored.nonfinite)}\n")
  with jax.debug_nans(values.debug_nans):
    replayed = replay_step(run, stored)
  width = max(map(len, replayed.metrics), default=0)
  for name, value in replayed.metrics.items():
    print(f"{name:{width}}  {value:.6g}")
  print()
  for title, names in (
    ("outputs of modules", replayed.modules),
    ("gradients", replayed.gradients),
    ("arrays after the update", replayed.updated),
  ):
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    print(f"not finite, {title}: {', '.join(names[:5]) or 'none'}{more}")
