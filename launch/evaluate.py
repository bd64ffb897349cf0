"""Evaluates a trained run: `python launch/evaluate.py --workdir=DIR [--split=val]`.

Prints the IoU of every class and the means, and rewrites `DIR/results.json`.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_SPLIT = flags.DEFINE_string("split", None, "split of the data set; the run's own by default")
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")


def main(_: list[str]) -> None:
  """Restores the predictor and evaluates it."""
  from asmjax.config import experiment
  from asmjax.train.evaluate import make_evaluate
  from asmjax.train.loop import open_checkpoints, open_skips, restore, write_results

  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  run = experiment(read_config(workdir))
  with open_checkpoints(run, workdir) as checkpoints:
    step = getattr(checkpoints, _WHICH.value)()
    if step is None:
      raise FileNotFoundError(f"no checkpoint in {workdir / 'checkpoints'}; train first")
    state = restore(run, checkpoints, step)
  skips = open_skips(workdir)
  scores = make_evaluate(run.game)(state.variables(), run.eval_batches(skips.add))
  results = write_results(run, workdir, step, scores, skips.faults)
  print_table(results)


def read_config(workdir: pathlib.Path) -> dict:
  """The run's config with what the flags change.

  Raises:
    FileNotFoundError: there is no run in `workdir`.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist; expected the workdir of a run")
  config = json.loads(path.read_text())
  if _SPLIT.value:
    config["eval"]["split"] = _SPLIT.value
  if _ROOT.value:
    config["data"]["root"] = _ROOT.value
  return config


def print_table(results: dict) -> None:
  """One line a metric, IoUs first."""
  print(f"{results['data_set']} {results['split']}, {results['examples']} examples, "
        f"step {results['step']}")
  for name, value in sorted(results["metrics"].items(), key=lambda item: "/iou/" not in item[0]):
    print(f"{name:48s} {100 * value:6.2f}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  app.run(main)
