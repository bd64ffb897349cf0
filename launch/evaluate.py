"""Evaluates a trained run: `python launch/evaluate.py --workdir=DIR [--split=val]`.

Prints the means and tables of every class, and rewrites `DIR/results.json`; for another split than
the run's own, `DIR/results.SPLIT.json`. Scales, flipped images, windows and a dense CRF are those
of `launch/predict.py`, at the size of the evaluation; the protocol names them. Without any
of them the results are those that training ended with.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli import view_flags as views
from asmjax.cli.overrides import exit_on_config_error

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_SPLIT = flags.DEFINE_string(
  "split", None, "split, or a part of one as 'train[80%:]'; by default the run's own"
)
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")


def main(_: list[str]) -> None:
  """Restores the predictor and evaluates it."""
  from asmjax.analysis.runs import results_path, results_table
  from asmjax.config.run_dir import read_state, reopen
  from asmjax.inference.evaluation import InferenceViews
  from asmjax.train.loop import make_measure, open_skips
  from asmjax.utils.files import read_json, write_json

  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  with exit_on_config_error():
    inference, crf = views.inference(), views.crf()
    run = reopen(workdir, data_root=_ROOT.value, split=_SPLIT.value)
    state = read_state(run, workdir, _WHICH.value)
    plain = inference.is_plain and not crf
    looked = None if plain else InferenceViews(run, inference, crf)
  results = make_measure(run, open_skips(workdir).add, looked)(state)
  path = results_path(workdir, results["split"])
  # What the training itself left there, such as the course of LoAd, stays.
  kept = read_json(path) if path.exists() else {}
  write_json(path, kept | results)
  print(results_table(results))


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  app.run(main)
