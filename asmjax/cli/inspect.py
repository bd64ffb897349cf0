"""Checks a data set before a long run, and draws it.

`asmjax inspect --config=FILE --config.data.root=DIR --out=DIR` prints
what the splits hold and what is wrong with them, and writes `report.json` and `SPLIT.png`. The
exit status is 1 if anything is wrong.
"""

import dataclasses
import pathlib

from absl import flags

from asmjax.cli import config_flag

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `inspect`."""
  config_flag.define_flags()
  flags.DEFINE_string("out", None, "folder for the report and the contact sheets")
  flags.DEFINE_list("splits", None, "the splits to check; by default those the run uses")
  flags.DEFINE_integer(
    "examples", None, "check only so many of every split, evenly spread", lower_bound=1
  )
  flags.mark_flags_as_required(["out"])


def main(arguments: list[str]) -> int:
  """Inspects the splits, prints and writes the report, and draws contact sheets."""
  from rich.progress import Progress

  from asmjax.analysis.dataset import format_report, save_contact_sheet
  from asmjax.config.data import Data, open_source
  from asmjax.config.schema import construct
  from asmjax.data.inspection import inspect, open_splits
  from asmjax.utils.files import write_json
  from asmjax.utils.terminal import make_console

  values, out = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
  config = config_flag.read_config(arguments)
  data = construct(Data, config.data, "data")
  splits = dict.fromkeys(values.splits or (data.split, config.eval.split))
  sources, broken = open_splits(lambda split: open_source(data, split), splits)
  with Progress(console=make_console(stderr=True), transient=True) as progress:
    count = lambda examples: min(len(examples), values.examples or len(examples))
    bars = {split: progress.add_task(split, total=count(sources[split])) for split in sources}
    advance = lambda split: progress.advance(bars[split])
    report = inspect(sources, limit=values.examples, advance=advance)
  report = dataclasses.replace(report, problems=(*broken, *report.problems))
  print(format_report(report))
  write_json(out / "report.json", report.to_dict())
  for split in splits:
    sheet = out / f"{split}.png"
    sheet.unlink(missing_ok=True)
    if split in sources and report.splits[split].counts:
      save_contact_sheet(sources[split], report.splits[split], sheet)
  return 1 if report.problems else 0
