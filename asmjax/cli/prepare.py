"""Packs a data set: `asmjax prepare --config=FILE --out=DIR [--splits=val]`.

Writes the splits that the config trains and evaluates on, or those of `--splits`, as published into
ArrayRecord shards that the source `tfds` reads. Run again, it writes the shards that are missing.
With `--config.data.loader.on_error=skip` all examples are read twice, and unreadable ones are
listed and left out.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from asmjax.cli import config_flag
from asmjax.utils.printable import one_line

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `prepare`."""
  config_flag.define_flags()
  flags.DEFINE_string("out", None, "local folder to pack into")
  flags.DEFINE_integer("examples_per_shard", 256, "of a split's shards but its last")
  flags.DEFINE_list("splits", None, "splits to pack; by default those of the run")
  flags.mark_flags_as_required(["out"])


def main(arguments: list[str]) -> None:
  """Packs the splits with a progress bar, and prints what the folder holds."""
  import tensorflow_datasets as tfds

  values = flags.FLAGS
  sources = open_sources(config_flag.read_config(arguments), values.splits)
  pack_with_progress(sources, values.out, values.examples_per_shard)
  for split in tfds.builder_from_directory(values.out).info.splits.values():
    print(
      f"{split.name}: {split.num_examples} examples, {split.num_shards} shards, "
      f"{split.num_bytes / 1e6:.1f} MB"
    )
  print(f"read it with --config=any:tfds --config.data.root={values.out}")


def open_sources(config: Any, splits: list[str] | None) -> dict[str, Any]:
  """Opens the sources of splits; what cannot be read is left out if the config says so.

  Args:
    config: Config of a run, an `ml_collections.ConfigDict`.
    splits: Names of splits; by default those that the run trains and is evaluated on, whole even
      if the run has slices of them.

  Returns:
    Sources by the name of their split.

  Raises:
    FileNotFoundError: A split, or one of its files, does not exist.
    ValueError: A split is unknown.
  """
  from asmjax.config.data import Data, open_source
  from asmjax.config.schema import construct
  from asmjax.data.files import check_files
  from asmjax.data.wrappers import base_split, drop_unreadable

  data = dataclasses.replace(construct(Data, config.data, "data"), classes={})
  names = dict.fromkeys(splits or map(base_split, (data.split, config.eval.split)))
  sources = {name: open_source(data, name) for name in names}
  for name, examples in sources.items():
    if data.loader.on_error == "skip":
      sources[name] = drop_unreadable(
        examples, lambda fault: print(f"skipped: {one_line(fault)}", file=sys.stderr)
      )
    else:
      check_files(examples)
  return sources


def pack_with_progress(sources: Mapping[str, Any], folder: str, examples_per_shard: int) -> None:
  """Packs splits into a folder, with a progress bar for each.

  Args:
    sources: Sources by the name of their split.
    folder: Local folder to write into.
    examples_per_shard: Number of examples in each shard of a split but its last.
  """
  from rich import progress

  from asmjax.data.packing import pack
  from asmjax.utils.terminal import make_console

  columns = (
    progress.TextColumn("{task.description}"),
    progress.BarColumn(30),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
  )
  with progress.Progress(*columns, console=make_console()) as bars:
    ids = {name: bars.add_task(name, total=len(source)) for name, source in sources.items()}
    advance = lambda name, examples: bars.advance(ids[name], examples)
    pack(sources, folder, examples_per_shard=examples_per_shard, progress=advance)
