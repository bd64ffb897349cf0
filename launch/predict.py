"""Predicts with a trained run: `python launch/predict.py --workdir=DIR --input=PATH --out=DIR`.

PATH is an image, a folder of images, a text file with their paths or a video. DIR gets a folder of
PNGs for every task; see `asmjax/inference/outputs.py`. Needs no data set. What cannot be read is
listed at the end; then the exit status is 1.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli import view_flags as views
from asmjax.cli.overrides import exit_on_config_error

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")
_INPUT = flags.DEFINE_string("input", None, "image, folder, list of paths (.txt) or video")
_OUT = flags.DEFINE_string("out", None, "folder for the predictions")
_TASKS = flags.DEFINE_list("tasks", [], "tasks to predict; all by default")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "write the classes' probabilities")
_OVERLAY = flags.DEFINE_bool("overlay", False, "draw classes over the image, depths in colors")


def main(_: list[str]) -> int:
  """Reads the predictor, predicts, and says how fast."""
  from asmjax.inference.outputs import Products
  from asmjax.inference.predict import Job
  from asmjax.inference.trained import Trained

  logging.set_verbosity(logging.ERROR)
  with exit_on_config_error():
    inference = views.inference(tuple(_TASKS.value))
    products = Products(_PROBABILITIES.value, _OVERLAY.value, views.crf())
    trained = Trained.open(_WORKDIR.value, _WHICH.value)
    job = Job(trained, _INPUT.value, _OUT.value, inference, products)
  summary = job.run()
  for fault in summary.faults:
    print(f"skipped: {fault}", file=sys.stderr)
  print(summary)
  return 1 if summary.faults else 0


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "input", "out"])
  app.run(main)
