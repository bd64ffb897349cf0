"""Checks a data set before a long run, and draws it.

`python launch/inspect_data.py --config=configs/FILE.py --config.data.root=DIR --out=DIR` prints
what the splits hold and what is wrong with them, and writes `report.json` and `SPLIT.png`. The
exit status is 1 if anything is wrong.
"""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging
from ml_collections import config_flags

from asmjax.cli.overrides import parse

_CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/FILE.py:VARIANT")
_OUT = flags.DEFINE_string("out", None, "folder for the report and the contact sheets")
_SPLITS = flags.DEFINE_list("splits", None, "the splits to check; by default those the run uses")
_EXAMPLES = flags.DEFINE_integer(
  "examples", None, "check only so many of every split, evenly spread", lower_bound=1
)


def main(_: list[str]) -> int:
  """Inspects, prints, draws."""
  from rich.console import Console
  from rich.progress import Progress

  from asmjax.analysis.dataset import contact_sheet, text
  from asmjax.config.build import Data, open_source
  from asmjax.config.schema import construct
  from asmjax.data.inspection import inspect, open_splits
  from asmjax.utils.files import write_json

  logging.set_verbosity(logging.ERROR)
  config, out = _CONFIG.value, pathlib.Path(_OUT.value)
  data = construct(Data, config.data, "data")
  splits = dict.fromkeys(_SPLITS.value or (data.split, config.eval.split))
  sources, broken = open_splits(lambda split: open_source(data, split), splits)
  with Progress(console=Console(stderr=True), transient=True) as progress:
    bars = {
      split: progress.add_task(split, total=min(len(each), _EXAMPLES.value or len(each)))
      for split, each in sources.items()
    }
    report = inspect(
      sources, limit=_EXAMPLES.value, advance=lambda split: progress.advance(bars[split])
    )
  report = dataclasses.replace(report, problems=(*broken, *report.problems))
  print(text(report))
  write_json(out / "report.json", report.to_dict())
  for split in splits:
    sheet = out / f"{split}.png"
    sheet.unlink(missing_ok=True)
    if split in sources and report.splits[split].whole:
      contact_sheet(sources[split], report.splits[split], sheet)
  return 1 if report.problems else 0


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "out"])
  app.run(main, flags_parser=parse)
