"""Evaluates a trained run: `python launch/evaluate.py --workdir=DIR [--split=val]`.

Prints the IoU of every class and the means, and rewrites `DIR/results.json`; for another split than
the run's own, `DIR/results.SPLIT.json`.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from launch.overrides import plainly

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_SPLIT = flags.DEFINE_string("split", None, "split of the data set; the run's own by default")
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")


def main(_: list[str]) -> None:
  """Restores the predictor and evaluates it."""
  from asmjax.config import experiment
  from asmjax.train.loop import make_measure, open_checkpoints, open_skips
  from asmjax.train.record import write_json
  from asmjax.train.schedule import restore

  logging.set_verbosity(logging.ERROR)
  workdir = pathlib.Path(_WORKDIR.value)
  with plainly():
    config = read_config(workdir)
    own = config["eval"]["split"]
    config["eval"]["split"] = _SPLIT.value or own
    run = experiment(config)
  with open_checkpoints(run, workdir) as checkpoints:
    step = getattr(checkpoints, _WHICH.value)()
    if step is None:
      raise FileNotFoundError(f"no checkpoint in {workdir / 'checkpoints'}; train first")
    state = restore(run, checkpoints, step)
  results = make_measure(run, open_skips(workdir).add)(state)
  name = "results.json" if results["split"] == own else f"results.{results['split']}.json"
  write_json(workdir / name, results)
  print_table(results)


def read_config(workdir: pathlib.Path) -> dict:
  """The run's config, with the data where it lies now.

  Raises:
    FileNotFoundError: there is no run in `workdir`.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist; expected the workdir of a run")
  config = json.loads(path.read_text())
  if _ROOT.value:
    config["data"]["root"] = _ROOT.value
  return config


def print_table(results: dict) -> None:
  """One line a metric, IoUs first."""
  print(f"{results['data_set']} {results['split']}, {results['examples']} examples, "
        f"step {results['step']}")
  for name, value in sorted(results["metrics"].items(), key=lambda item: "/iou/" not in item[0]):
    print(f"{name:48s} {value:9.4f}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  app.run(main)
