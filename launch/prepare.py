"""Packs a data set: `python launch/prepare.py --config=configs/FILE.py --out=DIR [--splits=val]`.

Writes the splits of the config's data set, as they are published, into ArrayRecord shards that
`--config.data.source=tfds --config.data.root=DIR` reads.  Run again, it finishes what was begun.
"""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging
from ml_collections import config_flags

from launch.overrides import parse

_CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/FILE.py:VARIANT")
_OUT = flags.DEFINE_string("out", None, "local folder to pack into")
_SHARD = flags.DEFINE_integer("examples_per_shard", 256, "of a split's shards but its last")
_SPLITS = flags.DEFINE_list("splits", None, "splits to pack; all that are there by default")


def main(_: list[str]) -> None:
  """Packs with a progress bar, then says what there is."""
  import tensorflow_datasets as tfds

  from asmjax.config import Data, construct

  logging.set_verbosity(logging.ERROR)
  data = construct(Data, _CONFIG.value.data, "data")
  sources = find(dataclasses.replace(data, cache=False, classes={}), _SPLITS.value)
  pack_visibly(sources, _OUT.value)
  for split in tfds.builder_from_directory(_OUT.value).info.splits.values():
    print(f"{split.name}: {split.num_examples} examples, {split.num_shards} shards, "
          f"{split.num_bytes / 1e6:.1f} MB")
  print(f"read it with --config.data.source=tfds --config.data.root={_OUT.value}")


def find(data, splits: list[str] | None) -> dict:
  """The sources of `splits`, or of every split that is there.

  Args:
    data: section `data` of the config.
    splits: names, or None for all that the descriptor names.

  Raises:
    FileNotFoundError: one of `splits`, or the config's own split, is not there.
    ValueError: an unknown split.
  """
  from asmjax.config import source

  if splits:
    return {split: source(data, split) for split in splits}
  sources = {data.split: source(data, data.split)}
  names = sources[data.split].descriptor.splits
  for split in names:
    try:
      sources[split] = source(data, split)
    except FileNotFoundError as error:
      print(f"skipped split {split}: {error}")
  return {split: sources[split] for split in names if split in sources}


def pack_visibly(sources: dict, folder: str) -> None:
  """Packs `sources`, with a progress bar for every split."""
  from rich import progress

  from asmjax.data.packing import pack

  columns = (
    progress.TextColumn("{task.description}"), progress.BarColumn(30),
    progress.MofNCompleteColumn(), progress.TimeRemainingColumn(),
  )
  with progress.Progress(*columns) as bar:
    tasks = {split: bar.add_task(split, total=len(each)) for split, each in sources.items()}
    pack(
      sources, folder, examples_per_shard=_SHARD.value,
      progress=lambda split, examples: bar.advance(tasks[split], examples),
    )


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "out"])
  app.run(main, flags_parser=parse)
