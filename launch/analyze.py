"""Compares finished runs: a table, learning curves, the critics' health, a grid of predictions.

`python launch/analyze.py --group="IID=runs/iid_0,runs/iid_1" --group="ASM=runs/asm_0" --out=DIR`
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

_GROUPS = flags.DEFINE_multi_string("group", None, "LABEL=DIR,DIR,...: runs that differ in seed")
_OUT = flags.DEFINE_string("out", None, "folder for the figures")
_METRICS = flags.DEFINE_list(
  "metrics", ["segmentation/mean_iou", "segmentation/pixel_accuracy"], "the first one is drawn"
)
_COUNT = flags.DEFINE_integer("count", 6, "held-out examples in the grid")
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")


def main(_: list[str]) -> None:
  """Prints the table; writes `curves.png`, `predictions.png` and, of critics, `health.png`."""
  from asmjax.analysis import figures, runs

  logging.set_verbosity(logging.ERROR)
  groups = [runs.Group.parse(text) for text in _GROUPS.value]
  print(runs.table(groups, _METRICS.value))
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  figures.curves(groups, _METRICS.value[0], out / "curves.png")
  figures.health(groups, out / "health.png")
  figures.predictions(
    groups, out / "predictions.png", count=_COUNT.value, data_root=_ROOT.value
  )


if __name__ == "__main__":
  flags.mark_flags_as_required(["group", "out"])
  app.run(main)
