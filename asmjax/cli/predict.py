"""Predicts with a trained run: `asmjax predict --workdir=DIR --input=PATH --out=DIR`.

PATH is an image, a folder of images, a text file with their paths or a video. DIR gets a folder of
PNGs for every task; see `asmjax/inference/outputs.py`. Needs no data set. What cannot be read, and
what in a folder is left out, is listed at the end; then the exit status is 1.
"""

import sys

from absl import flags

from asmjax.cli import view_flags
from asmjax.utils.printable import one_line

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `predict`."""
  view_flags.define_flags()
  flags.DEFINE_string("workdir", None, "folder of the run")
  flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "which checkpoint")
  flags.DEFINE_string("input", None, "image, folder, list of paths (.txt) or video")
  flags.DEFINE_string("out", None, "folder for the predictions")
  flags.DEFINE_list("tasks", [], "tasks to predict; all by default")
  flags.DEFINE_bool("probabilities", False, "write the classes' probabilities")
  flags.DEFINE_bool("overlay", False, "draw classes over the image, depths in colors")
  flags.mark_flags_as_required(["workdir", "input", "out"])


def main(_: list[str]) -> int:
  """Restores the predictor, predicts every image, and prints where to and how fast."""
  from asmjax.inference.outputs import OutputOptions
  from asmjax.inference.predict import PredictionJob
  from asmjax.inference.trained import TrainedPredictor

  values = flags.FLAGS
  inference = view_flags.read_inference(tuple(values.tasks))
  options = OutputOptions(
    probabilities=values.probabilities, overlay=values.overlay, crf=values.crf
  )
  trained = TrainedPredictor.open(values.workdir, values.checkpoint)
  job = PredictionJob(trained, values.input, values.out, inference, options)
  summary = job.run()
  for fault in summary.faults:
    print(f"skipped: {one_line(fault)}", file=sys.stderr)
  for image in summary.cut:
    print(f"too large to be predicted at once: {one_line(image)}", file=sys.stderr)
  print(f"{values.out}: {summary}")
  return 1 if summary.faults else 0
