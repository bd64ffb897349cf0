"""Makes one HTML page of finished runs, to open in a browser or to send to somebody.

`asmjax report --group="IID=runs/iid_0,runs/iid_1" --group="ASM=runs/asm_0" --out=FILE`

The page holds the final metrics beside what papers report, learning curves, the critics' health,
IoUs by class, validation photos with sliders between the predictions of the groups, the cycles of
LoAd, and the settings and commands that repeat the runs. It needs neither a network nor a server;
without JavaScript, and in print, the predictions stand side by side.
"""

import pathlib
import sys

from absl import flags

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `report`."""
  flags.DEFINE_multi_string("group", None, "LABEL=DIR,DIR,...: runs that differ in seed")
  flags.DEFINE_string("out", None, "the HTML file")
  flags.DEFINE_integer("count", 6, "validation examples in pictures", lower_bound=0)
  flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
  flags.DEFINE_string(
    "baseline", None, "LABEL of the group that others are held against; the first one by default"
  )
  flags.mark_flags_as_required(["group", "out"])


def main(_: list[str]) -> None:
  """Writes the page, and prints what is missing in it."""
  from asmjax.analysis import report
  from asmjax.analysis.runs import Group
  from asmjax.utils.files import check_file

  values, path = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
  check_file(path)
  content = report.write_report(
    [Group.parse(text) for text in values.group],
    path,
    count=values.count,
    data_root=values.data_root,
    baseline=values.baseline,
    command=["asmjax", "report", *sys.argv[1:]],
  )
  for note in content.notes:
    print(f"missing: {note}", file=sys.stderr)
  print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
