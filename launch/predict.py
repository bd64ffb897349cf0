"""Predicts with a trained run: `python launch/predict.py --workdir=DIR --input=PATH --out=DIR`.

PATH is an image, a folder of images, a text file with their paths or a video. DIR gets a folder of
PNGs for every task; see `asmjax/inference/outputs.py`. Needs no data set. What cannot be read is
listed at the end; then the exit status is 1.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from launch.overrides import plainly

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")
_INPUT = flags.DEFINE_string("input", None, "image, folder, list of paths (.txt) or video")
_OUT = flags.DEFINE_string("out", None, "folder for the predictions")
_TASKS = flags.DEFINE_list("tasks", [], "tasks to predict; all by default")
_SCALES = flags.DEFINE_list("scales", ["1"], "scales to average over, as 0.5,0.75,1,1.25,1.5,1.75")
_FLIP = flags.DEFINE_bool("flip", False, "average over the image and its mirror image")
_WINDOW = flags.DEFINE_integer(
  "window", 0, "side of sliding windows, best that of training; 0 shows images whole"
)
_OVERLAP = flags.DEFINE_integer(
  "overlap", None, "pixels that windows share at least; a third of the window by default"
)
_BATCH = flags.DEFINE_integer("batch_size", 8, "images or windows at a time")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "write the classes' probabilities")
_OVERLAY = flags.DEFINE_bool("overlay", False, "draw classes over the image, depths in colours")
_CRF = flags.DEFINE_bool("crf", False, "refine the classes' probabilities with a dense CRF")


def main(_: list[str]) -> int:
  """Reads the predictor, predicts, and says how fast."""
  from asmjax.inference.multiscale import Inference
  from asmjax.inference.outputs import Products
  from asmjax.inference.predict import Job
  from asmjax.inference.trained import Trained

  logging.set_verbosity(logging.ERROR)
  with plainly():
    inference = Inference(
      scales=scales(_SCALES.value), flip=_FLIP.value, window=_WINDOW.value,
      overlap=_OVERLAP.value, batch_size=_BATCH.value, tasks=tuple(_TASKS.value),
    )
    products = Products(_PROBABILITIES.value, _OVERLAY.value, _CRF.value)
    trained = Trained.open(_WORKDIR.value, _WHICH.value)
    job = Job(trained, _INPUT.value, _OUT.value, inference, products)
  summary = job.run()
  for fault in summary.faults:
    print(f"skipped: {fault}", file=sys.stderr)
  print(summary)
  return 1 if summary.faults else 0


def scales(texts: list[str]) -> tuple[float, ...]:
  """Numbers, or ValueError with the flag's name."""
  try:
    return tuple(map(float, texts))
  except ValueError as error:
    raise ValueError(f"--scales={','.join(texts)}: {error}; expected numbers") from error


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "input", "out"])
  app.run(main)
