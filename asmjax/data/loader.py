"""From a source to batches: endless shuffled training batches and one complete pass for evaluation.

Grain reads ahead in threads and processes and batches; which example stands where, and its
randomness, is arithmetic on the position: any batch of any process can be computed without the ones
before it.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from asmjax.batch import MISSING, kind
from asmjax.data.descriptor import Source
from asmjax.data.transforms import Example

if TYPE_CHECKING:  # So that reading a source alone does not need it.
  import grain

Transform = Callable[[Example, np.random.Generator], Example]

_KEYS = ("image", "label", "depth", "normals", "instance", "size", "weight")
_POLICIES = ("raise", "skip")
# Weights of an example that counts and of one that only fills a batch.
_REAL, _PADDING = np.ones((), np.float32), np.zeros((), np.float32)

# Batches, to be closed when no more are wanted: that ends the threads and processes behind them.
Batches = Generator[Example, None, None]


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
  """Options of reading and batching; unless a file is broken, they never change a batch.

  Attributes:
    num_workers: Number of processes that read and transform; 0 reads in threads of this process,
      which is enough while decoding, which runs in parallel, takes most of the time.
    num_threads: Number of threads in each of these processes; with 0 the caller reads himself.
    prefetch: Number of batches that are prepared ahead by this process, or by each worker, which
      then has at least one for each of its threads; 0 prepares none.
    on_error: What becomes of an example that cannot be read: "raise", or "skip" to list it and
      take another one, which in evaluation counts with weight 0.

  Raises:
    ValueError: A number is negative, or `on_error` is unknown.
  """

  num_workers: int = 0
  num_threads: int = 4
  prefetch: int = 2
  on_error: str = "raise"

  def __post_init__(self) -> None:
    """Checks the fields."""
    if min(self.num_workers, self.num_threads, self.prefetch) < 0:
      raise ValueError(
        f"num_workers={self.num_workers}, num_threads={self.num_threads}, "
        f"prefetch={self.prefetch}: expected 0 or more"
      )
    if self.on_error not in _POLICIES:
      raise ValueError(f"unknown on_error {self.on_error!r}; known: {', '.join(_POLICIES)}")


@dataclasses.dataclass(frozen=True)
class EpochSampler:
  """An endless sequence of transformed examples, one epoch after the other, with random access.

  Attributes:
    source: where examples come from.
    transform: maps (example, generator) to an example of the batch's size.
    seed: determines the order and the transforms' randomness.
    shuffle: a new permutation in each epoch, or the source's order in all.
  """

  source: Source
  transform: Transform
  seed: int
  shuffle: bool = True

  def __post_init__(self) -> None:
    """Raises ValueError for a source without examples."""
    _check_filled(self.source)

  def locate(self, position: int) -> tuple[int, int]:
    """(epoch, index in the source) of `position` = epoch * len(source) + place in its order."""
    epoch, place = divmod(position, len(self.source))
    if self.shuffle:
      place = int(_permutation(self.seed, epoch, len(self.source))[place])
    return epoch, place

  def example(self, epoch: int, index: int) -> Example:
    """The source's example `index` as `epoch` shows it, wherever it stands in the order."""
    return self.transform(self.source[index], self.rng(epoch, index))

  def rng(self, epoch: int, index: int) -> np.random.Generator:
    """The randomness of an example in an epoch."""
    return np.random.default_rng([self.seed, epoch, index])


def train_batches(
  sampler: EpochSampler,
  *,
  batch_size: int,
  start: int = 0,
  process: int = 0,
  processes: int = 1,
  options: LoaderOptions = LoaderOptions(),
  on_skip: Callable[[str], None] = print,
) -> Batches:
  """This process's part of endless training batches, from global step `start` on.

  Global batch t holds positions t * batch_size to (t + 1) * batch_size - 1 of `sampler`; process k
  gets those with position % processes == k.  Starting late costs nothing and gives what an
  uninterrupted run would have given.

  Args:
    sampler: the examples, already of one size.
    batch_size: examples in a global batch, over all processes.
    start: first global step.
    process: this process, 0..processes-1.
    processes: number of processes; divides batch_size.
    options: how examples are read.
    on_skip: called with what is wrong with an example, each time that it is skipped.

  Returns:
    Dicts of arrays (batch_size / processes, ...): the example's keys and `weight`, float32 ones.

  Raises:
    ValueError: a batch that cannot be shared evenly, no such process, or a negative start.
  """
  _check_sharding(batch_size, process, processes)
  if start < 0:
    raise ValueError(f"start {start}: expected a step, 0 or more")

  def read(position: int) -> tuple[Example, list[str]]:
    epoch, index = sampler.locate(position)
    others = np.random.default_rng([sampler.seed, epoch, index, 2])
    example, faults = _readable(sampler.source, index, options.on_error, others)
    shown = sampler.transform(example, sampler.rng(epoch, index))
    return {**shown, "weight": _REAL}, faults

  positions = range(start * batch_size + process, sys.maxsize, processes)
  return _batches(read, positions, batch_size // processes, options, on_skip)


def eval_batches(
  source: Source,
  transform: Transform,
  *,
  batch_size: int,
  process: int = 0,
  processes: int = 1,
  options: LoaderOptions = LoaderOptions(),
  on_skip: Callable[[str], None] = print,
) -> Batches:
  """This process's part of one pass over `source` in order.

  Every process gets equally many full batches, since collective operations must meet: places past
  the end and places of skipped examples hold another one with weight 0 and all truth missing.

  Args:
    source: the examples.
    transform: brings them to one size; called with a generator that depends on the index alone.
    batch_size: examples in a global batch, over all processes.
    process: this process, 0..processes-1.
    processes: number of processes; divides batch_size.
    options: how examples are read.
    on_skip: called with what is wrong with an example that is skipped.

  Returns:
    Dicts of arrays (batch_size / processes, ...): the example's keys and `weight`, 0 for padding.

  Raises:
    ValueError: a batch that cannot be shared evenly, no such process, or an empty source.
  """
  _check_sharding(batch_size, process, processes)
  _check_filled(source)
  steps = -(-len(source) // batch_size)

  def read(position: int) -> tuple[Example, list[str]]:
    inside = position < len(source)
    index = position if inside else 0
    rng = np.random.default_rng([0, 0, index])
    example, faults = _readable(source, index, options.on_error, rng)
    shown = transform(example, rng)
    if inside and not faults:
      return {**shown, "weight": _REAL}, faults
    return {**_without_truth(shown), "weight": _PADDING}, faults

  positions = range(process, steps * batch_size, processes)
  return _batches(read, positions, batch_size // processes, options, on_skip)


def _readable(
  source: Source, index: int, on_error: str, rng: np.random.Generator
) -> tuple[Example, list[str]]:
  """Example `index`, or a random one that can be read and what is wrong with those before it."""
  if on_error == "raise":
    return source[index], []
  faults = []
  try:
    return source[index], faults
  except (OSError, ValueError) as error:
    faults.append(str(error))
  for other in rng.permutation(len(source)).tolist():
    try:
      return source[other], faults
    except (OSError, ValueError) as error:
      faults.append(str(error))
  raise ValueError(
    f"no example of split {source.split!r} of {source.descriptor.name} can be read; {faults[0]}"
  )


def _batches(
  read: Callable[[int], tuple[Example, list[str]]],
  positions: range,
  size: int,
  options: LoaderOptions,
  on_skip: Callable[[str], None],
) -> Batches:
  import grain

  examples = grain.MapDataset.range(positions.start, positions.stop, positions.step).map(read)
  if not options.num_workers:
    batches = examples.to_iter_dataset(_ahead(options, size)).batch(size, batch_fn=_stack)
    return _reported(iter(batches), on_skip)
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's processes read flags; a library's user has none.
  # Workers take whole batches in turn, so that their number cannot change what is in a batch.
  batches = examples.batch(size, batch_fn=_stack).to_iter_dataset(_ahead(options, 1))
  workers = grain.MultiprocessingOptions(options.num_workers, max(1, options.prefetch))
  return _reported(iter(batches.mp_prefetch(workers)), on_skip)


def _ahead(options: LoaderOptions, size: int) -> "grain.ReadOptions":
  """Returns Grain's options for reading ahead where a batch is `size` of its elements."""
  import grain

  # Grain warns where fewer elements are buffered than threads could read.
  elements = max(options.prefetch * size, options.num_threads) if options.prefetch else 0
  return grain.ReadOptions(num_threads=options.num_threads, prefetch_buffer_size=elements)


def _reported(
  batches: "grain.DatasetIterator[tuple[Example, list[str]]]", on_skip: Callable[[str], None]
) -> Batches:
  """The batches alone; ends the threads and processes behind them when it is closed."""
  try:
    for batch, faults in batches:
      for fault in faults:
        on_skip(fault)
      yield {key: _owned(value) for key, value in batch.items()}
  except (OSError, ValueError) as error:
    # Below the message that matters, Grain notes which of its own frames it leaves out.
    error.__notes__ = [note for note in getattr(error, "__notes__", ()) if "Grain" not in note]
    raise
  finally:
    batches.close()


def _owned(value: np.ndarray) -> np.ndarray:
  """Workers hand over arrays in shared memory, of which there is little: a copy frees it."""
  return value if type(value) is np.ndarray else np.array(value)


def _stack(read: Sequence[tuple[Example, list[str]]]) -> tuple[Example, list[str]]:
  examples = [example for example, _ in read]
  keys = [key for key in examples[0] if kind(key) in _KEYS]
  batch = {key: _stack_key(key, [example[key] for example in examples]) for key in keys}
  return batch, [fault for _, faults in read for fault in faults]


def _stack_key(key: str, values: list[np.ndarray]) -> np.ndarray:
  shapes = sorted({np.shape(value) for value in values})
  if len(shapes) > 1:
    raise ValueError(f"cannot batch {key} of shapes {shapes}: the transform must give one size")
  return np.stack(values)


def _without_truth(example: Example) -> Example:
  return {
    key: value if key in ("image", "size") else np.full_like(value, MISSING[kind(key)])
    for key, value in example.items()
  }


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
  # The last word keeps this stream apart from the examples': NumPy pads the key with zeros,
  # so that [seed, epoch] would be the stream of example 0.
  return np.random.default_rng([seed, epoch, 0, 1]).permutation(length)


def _check_filled(source: Source) -> None:
  if not len(source):
    raise ValueError(f"split {source.split!r} of {source.descriptor.name} has no examples")


def _check_sharding(batch_size: int, process: int, processes: int) -> None:
  if batch_size < 1 or processes < 1 or batch_size % processes:
    raise ValueError(f"batch_size {batch_size}: expected a multiple of {processes} processes")
  if not 0 <= process < processes:
    raise ValueError(f"process {process}: expected 0..{processes - 1}")
