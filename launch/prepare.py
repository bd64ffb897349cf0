"""Packs a data set: `python launch/prepare.py --config=configs/FILE.py --out=DIR [--splits=val]`.

Writes the splits that the config trains and evaluates on, or those that are named, as they are
published into ArrayRecord shards that the source `tfds` reads.  Run again, it finishes what was
begun.  With `--config.data.reading.on_error=skip` everything is read twice, and what cannot be read
is listed and left out.
"""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from asmjax.cli.overrides import exit_on_config_error, parse

_CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/FILE.py:VARIANT")
_OUT = flags.DEFINE_string("out", None, "local folder to pack into")
_SHARD = flags.DEFINE_integer("examples_per_shard", 256, "of a split's shards but its last")
_SPLITS = flags.DEFINE_list("splits", None, "splits to pack; by default those of the run")


def main(_: list[str]) -> None:
  """Packs with a progress bar, then says what there is."""
  import tensorflow_datasets as tfds

  logging.set_verbosity(logging.ERROR)
  with exit_on_config_error():
    pack_visibly(find(_CONFIG.value, _SPLITS.value), _OUT.value)
  for split in tfds.builder_from_directory(_OUT.value).info.splits.values():
    print(
      f"{split.name}: {split.num_examples} examples, {split.num_shards} shards, "
      f"{split.num_bytes / 1e6:.1f} MB"
    )
  print(f"read it with --config=configs/any.py:tfds --config.data.root={_OUT.value}")


def find(config: ConfigDict, splits: list[str] | None) -> dict:
  """The sources of splits, by name; what cannot be read is left out if the config says so.

  Args:
    config: of a run.
    splits: names; by default those that the run trains and is evaluated on, whole even if the run
      has slices of them.

  Raises:
    FileNotFoundError: a split, or one of its files, is not there.
    ValueError: an unknown split.
  """
  from asmjax.config.build import Data, open_source
  from asmjax.config.schema import construct
  from asmjax.data.files import check_files
  from asmjax.data.wrappers import readable, whole_split

  data = dataclasses.replace(construct(Data, config.data, "data"), classes={})
  names = dict.fromkeys(splits or map(whole_split, (data.split, config.eval.split)))
  sources = {split: open_source(data, split) for split in names}
  for split, each in sources.items():
    if data.reading.on_error == "skip":
      sources[split] = readable(each, lambda fault: print(f"skipped: {fault}", file=sys.stderr))
    else:
      check_files(each)
  return sources


def pack_visibly(sources: dict, folder: str) -> None:
  """Packs `sources`, with a progress bar for every split."""
  from rich import progress

  from asmjax.data.packing import pack

  columns = (
    progress.TextColumn("{task.description}"),
    progress.BarColumn(30),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
  )
  with progress.Progress(*columns) as bar:
    tasks = {split: bar.add_task(split, total=len(each)) for split, each in sources.items()}
    pack(
      sources,
      folder,
      examples_per_shard=_SHARD.value,
      progress=lambda split, examples: bar.advance(tasks[split], examples),
    )


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "out"])
  app.run(main, flags_parser=parse)
