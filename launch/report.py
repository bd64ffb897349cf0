"""Makes one HTML page of finished runs, to open in a browser or to send to somebody.

`python launch/report.py --group="IID=runs/iid_0,runs/iid_1" --group="ASM=runs/asm_0" --out=FILE`

The page holds the final metrics beside what papers report, learning curves, the critics' health,
IoUs by class, held-out photos with sliders between the predictions of the groups, the cycles of
LoAd, and the settings and commands that repeat the runs. It needs neither a network nor a server;
without JavaScript, and in print, the predictions stand side by side.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli.overrides import exit_on_config_error

_GROUPS = flags.DEFINE_multi_string("group", None, "LABEL=DIR,DIR,...: runs that differ in seed")
_OUT = flags.DEFINE_string("out", None, "the HTML file")
_COUNT = flags.DEFINE_integer("count", 6, "held-out examples in pictures", lower_bound=0)
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
_BASELINE = flags.DEFINE_string(
  "baseline", None, "LABEL of the group that others are held against; the first one by default"
)


def main(_: list[str]) -> None:
  """Writes the page, and prints what is missing in it."""
  from asmjax.analysis import report
  from asmjax.analysis.runs import Group

  logging.set_verbosity(logging.ERROR)
  path = pathlib.Path(_OUT.value)
  with exit_on_config_error():
    made = report.write(
      [Group.parse(text) for text in _GROUPS.value],
      path,
      count=_COUNT.value,
      data_root=_ROOT.value,
      baseline=_BASELINE.value,
      command=["python", *sys.argv],
    )
  for note in made.notes:
    print(f"missing: {note}", file=sys.stderr)
  print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
  flags.mark_flags_as_required(["group", "out"])
  app.run(main)
