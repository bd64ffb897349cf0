"""Evaluates a trained run: `asmjax evaluate --workdir=DIR [--split=val]`.

Prints the means and tables of every class, and writes them to `DIR/results.best.json`; for another
split than the run's own, to `DIR/results.SPLIT.best.json`. With `--checkpoint=last` the names are
without `best`, and the results those that training ended with. Scales, flipped images, windows and
a dense CRF are those of `asmjax predict`, at the size of the evaluation; the protocol has them.
Where the folder is read-only or full, the results are printed alone, and the exit status is 4.
"""

import pathlib
import sys

from absl import flags

from asmjax.cli import view_flags
from asmjax.cli.errors import Status

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `evaluate`."""
  view_flags.define_flags()
  flags.DEFINE_string("workdir", None, "folder of the run")
  flags.DEFINE_string(
    "split", None, "split, or a part of one as 'train[80%:]'; by default the run's own"
  )
  flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
  flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "which checkpoint")
  flags.DEFINE_list(
    "extra_metrics",
    None,
    "such as boundary or instance, of the tasks that have them; by default the run's own",
  )
  flags.mark_flags_as_required(["workdir"])


def main(_: list[str]) -> int:
  """Restores the predictor, evaluates it, and prints and keeps the results."""
  from asmjax.analysis.runs import format_results, locate_results
  from asmjax.config.run_dir import read_state, reopen
  from asmjax.inference.evaluation import InferenceViews
  from asmjax.train.loop import make_eval_results, open_skipped_examples
  from asmjax.utils.exhaustion import WriteError
  from asmjax.utils.files import read_json_object, write_json

  values, workdir = flags.FLAGS, pathlib.Path(flags.FLAGS.workdir)
  inference = view_flags.read_inference()
  run = reopen(
    workdir, data_root=values.data_root, split=values.split, extra_metrics=values.extra_metrics
  )
  path = locate_results(workdir, run.validation.split, values.checkpoint)
  # What the training itself left there, such as the course of LoAd, stays.
  old = read_json_object(path) if path.exists() else {}
  state = read_state(run, workdir, values.checkpoint)
  as_trained = inference.is_single_view and not values.crf
  views = None if as_trained else InferenceViews(run, inference, values.crf)
  results = make_eval_results(run, open_skipped_examples(workdir).add, views)(state)
  print(format_results(results))
  for warning in results["warnings"]:
    print(warning, file=sys.stderr)
  try:
    write_json(path, old | results)
  except WriteError as error:  # As of an archived run, on a disk that is read-only.
    print(f"the results are printed, but not kept: {error}", file=sys.stderr)
    return Status.NO_ROOM
  return Status.DONE
