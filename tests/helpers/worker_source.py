"""A source that reader processes can read, and a script that reads it until it is ended.

Shared memory made by processes that import it has the prefix in the environment's `PREFIX`.
"""

import dataclasses
import os
import pathlib
import sys
import time
from multiprocessing import shared_memory

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np

from asmjax.data.descriptor import Descriptor
from asmjax.data.loader import EpochSampler, LoaderOptions, train_batches

if "PREFIX" in os.environ:
  shared_memory._SHM_NAME_PREFIX = f"/{os.environ['PREFIX']}_"


@dataclasses.dataclass(frozen=True)
class SlowSource:
  """Source of which some examples take long."""

  length: int = 12
  slow: tuple[int, ...] = ()
  seconds: float = 60
  split: str = "train"
  descriptor = Descriptor("slow", (), (), ("train",), frozenset())

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    if index in self.slow:
      time.sleep(self.seconds)
    return {"image": np.full((64, 64, 3), index, np.uint8)}

  def files(self, index):
    return {"image": pathlib.Path(f"photos/{index}.png")}


def keep(example, rng):
  """A transform that changes nothing."""
  del rng
  return example


def read(**options):
  """Batches of 2 examples in order, read as `LoaderOptions` says; and the source's options."""
  known = {field.name for field in dataclasses.fields(LoaderOptions)}
  given = {key: options.pop(key) for key in list(options) if key in known}
  sampler = EpochSampler(SlowSource(**options), keep, seed=0, shuffle=False)
  return train_batches(sampler, batch_size=2, options=LoaderOptions(num_threads=1, **given))


def table_of(batches):
  """The table of what is being read, of batches that have begun."""
  return batches.gi_frame.f_locals["table"]


if __name__ == "__main__":
  loaded = read(num_workers=2)
  for count, _ in enumerate(loaded):
    if count == 4:
      print(*map(table_of(loaded).process, range(2)), flush=True)
