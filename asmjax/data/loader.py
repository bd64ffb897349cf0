"""From a source to batches: endless shuffled training batches and one complete pass for evaluation.

Grain reads ahead in threads and batches; which example stands where, and its randomness, is
arithmetic on the position: any batch of any process can be computed without the ones before it.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.transforms import FILL, Example

Transform = Callable[[Example, np.random.Generator], Example]

_KEYS = ("image", "label", "depth", "normals", "instance", "weight")


class Cached:
  """A source that keeps every decoded example in memory after its first use.

  Two threads may decode the same example at once; both results are equal and either is kept.
  The arrays are read-only: a transform that wrote into them would change later epochs.
  """

  def __init__(self, source: Source) -> None:
    """Wraps `source`; nothing is read yet."""
    self.descriptor: Descriptor = source.descriptor
    self.split: str = source.split
    self._source = source
    self._examples: dict[int, Example] = {}

  def __len__(self) -> int:
    """Number of examples."""
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    """Example `index`, decoded at most once if read by one thread."""
    if index not in self._examples:
      example = self._source[index]
      for value in example.values():
        value.setflags(write=False)
      self._examples[index] = example
    return dict(self._examples[index])

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key."""
    return self._source.files(index)


@dataclasses.dataclass(frozen=True)
class Epochs:
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

  def __getitem__(self, position: int) -> Example:
    """The example at `position` = epoch * len(source) + place in the epoch's order."""
    epoch, place = divmod(position, len(self.source))
    if self.shuffle:
      place = int(_permutation(self.seed, epoch, len(self.source))[place])
    return self.example(epoch, place)

  def example(self, epoch: int, index: int) -> Example:
    """The source's example `index` as `epoch` shows it, wherever it stands in the order."""
    rng = np.random.default_rng([self.seed, epoch, index])
    return self.transform(self.source[index], rng)


def train_batches(
  epochs: Epochs,
  *,
  batch_size: int,
  start: int = 0,
  process: int = 0,
  processes: int = 1,
  threads: int = 4,
  prefetch: int = 2,
) -> Iterator[Example]:
  """This process's part of endless training batches, from global step `start` on.

  Global batch t holds positions t * batch_size to (t + 1) * batch_size - 1 of `epochs`; process k
  gets those with position % processes == k.  Starting late costs nothing and gives what an
  uninterrupted run would have given.

  Args:
    epochs: the examples, already of one size.
    batch_size: examples in a global batch, over all processes.
    start: first global step.
    process: this process, 0..processes-1.
    processes: number of processes; divides batch_size.
    threads: threads that read and transform; 0 does both in the caller's.
    prefetch: batches to prepare ahead.

  Returns:
    Dicts of arrays (batch_size / processes, ...): the example's keys and `weight`, float32 ones.

  Raises:
    ValueError: a batch that cannot be shared evenly, no such process, or a negative start.
  """
  _check_sharding(batch_size, process, processes)
  if start < 0:
    raise ValueError(f"start {start}: expected a step, 0 or more")

  def read(position: int) -> Example:
    return {**epochs[position], "weight": np.float32(1)}

  positions = range(start * batch_size + process, sys.maxsize, processes)
  return _batches(read, positions, batch_size // processes, threads, prefetch)


def eval_batches(
  source: Source,
  transform: Transform,
  *,
  batch_size: int,
  process: int = 0,
  processes: int = 1,
  threads: int = 4,
  prefetch: int = 2,
) -> Iterator[Example]:
  """This process's part of one pass over `source` in order.

  Every process gets equally many full batches, since collective operations must meet: places past
  the end hold the first example with weight 0 and all of its truth missing.

  Args:
    source: the examples.
    transform: brings them to one size; called with a generator that depends on the index alone.
    batch_size: examples in a global batch, over all processes.
    process: this process, 0..processes-1.
    processes: number of processes; divides batch_size.
    threads: threads that read and transform; 0 does both in the caller's.
    prefetch: batches to prepare ahead.

  Returns:
    Dicts of arrays (batch_size / processes, ...): the example's keys and `weight`, 0 for padding.

  Raises:
    ValueError: a batch that cannot be shared evenly, no such process, or an empty source.
  """
  _check_sharding(batch_size, process, processes)
  _check_filled(source)

  def read(position: int) -> Example:
    real = position < len(source)
    index = position if real else 0
    example = transform(source[index], np.random.default_rng(index))
    return {**(example if real else _without_truth(example)), "weight": np.float32(real)}

  steps = -(-len(source) // batch_size)
  positions = range(process, steps * batch_size, processes)
  return _batches(read, positions, batch_size // processes, threads, prefetch)


def _batches(
  read: Callable[[int], Example], positions: range, size: int, threads: int, prefetch: int
) -> Iterator[Example]:
  import grain  # Here, so that reading a source alone does not need it.

  # Grain counts examples, and warns where fewer are buffered than threads could read.
  ahead = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=max(prefetch * size, threads) if prefetch else 0
  )
  examples = grain.MapDataset.range(positions.start, positions.stop, positions.step).map(read)
  return iter(examples.to_iter_dataset(ahead).batch(size, batch_fn=_stack))


def _stack(examples: Sequence[Example]) -> Example:
  keys = [key for key in _KEYS if key in examples[0]]
  return {key: _stack_key(key, [example[key] for example in examples]) for key in keys}


def _stack_key(key: str, values: list[np.ndarray]) -> np.ndarray:
  shapes = sorted({np.shape(value) for value in values})
  if len(shapes) > 1:
    raise ValueError(f"cannot batch {key} of shapes {shapes}: the transform must give one size")
  return np.stack(values)


def _without_truth(example: Example) -> Example:
  return {
    key: value if key == "image" else np.full_like(value, FILL[key])
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
