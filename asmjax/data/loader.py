"""Loaders of batches: endless shuffled batches for training, one complete pass for evaluation.

Grain reads ahead in threads and processes and assembles the batches.  Which example a position
holds, and that example's random stream, are functions of the position alone: any batch of any
process can be computed without the batches before it.
"""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from asmjax.batch import MISSING, UNLABELED, kind
from asmjax.data.copy_paste import choose_instances, paste
from asmjax.data.descriptor import Source, name_example
from asmjax.data.transforms import Example
from asmjax.data.workers import ReadingTable, Watchdog
from asmjax.utils.ranges import Count, NonNegative, check_ranges

if TYPE_CHECKING:  # Imported where it is used, so that sources can be read without Grain.
  import grain

Transform = Callable[[Example, np.random.Generator], Example]

_KEYS = ("image", "label", "depth", "normals", "instance", "size", "weight")
_POLICIES = ("raise", "skip")
# Weights of an example that counts and of one that only pads a batch.
_REAL, _PADDING = np.ones((), np.float32), np.zeros((), np.float32)

# A generator of batches.  Closing it ends the threads and processes that read for it.
Batches = Generator[Example, None, None]


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
  """Options of reading and batching; they never change a batch unless a file is broken.

  Attributes:
    num_workers: Number of reader processes. 0, the default, reads in threads of this process, which
      suffices while most of the time goes into decoding, as decoders release the interpreter lock.
    num_threads: Number of threads in each reading process; 0 reads in the calling thread.
    prefetch: Number of batches that this process, or each reader process, prepares ahead; 0
      prepares none. Unless it is 0, a reader process has at least one batch for each thread.
    warn_after: Number of seconds without a batch after which a warning names the reader and the
      example that are waited for; 0 never warns.
    timeout: Number of seconds without a batch after which the reader process that is waited for is
      killed, which ends the run; 0 waits for ever. Threads of this process cannot be ended.
    on_error: Policy for an example that cannot be read: "raise", or "skip" to report it and take
      another example in its place. In evaluation the replacement has weight 0.

  Raises:
    ValueError: A number is negative, or `on_error` is unknown.
  """

  num_workers: Count = 0
  num_threads: Count = 4
  prefetch: Count = 2
  warn_after: NonNegative = 60.0
  timeout: NonNegative = 1800.0
  on_error: str = "raise"

  def __post_init__(self) -> None:
    check_ranges(self)
    if self.on_error not in _POLICIES:
      raise ValueError(f"unknown on_error {self.on_error!r}; known: {', '.join(_POLICIES)}")


@dataclasses.dataclass(frozen=True)
class EpochSampler:
  """Endless sequence of transformed examples, epoch after epoch, with random access.

  Attributes:
    source: Source of the examples.
    transform: Function from (example, generator) to an example of the batch's size.
    seed: Seed of the order and of the transform's randomness.
    shuffle: Whether each epoch has a new permutation; otherwise every epoch has the source's order.
    copy_paste: Probability with which instances of another example are pasted onto an example, both
      transformed. Unless it is 0, the source needs instances, and examples come without them.
  """

  source: Source
  transform: Transform
  seed: int
  shuffle: bool = True
  copy_paste: float = 0.0

  def __post_init__(self) -> None:
    _check_not_empty(self.source)

  def locate(self, position: int) -> tuple[int, int]:
    """Returns (epoch, index in the source) of a position in the endless sequence."""
    epoch, index = divmod(position, len(self.source))
    if self.shuffle:
      index = int(_permutation(self.seed, epoch, len(self.source))[index])
    return epoch, index

  def example(self, epoch: int, index: int) -> Example:
    """Returns the source's example `index`, transformed as in `epoch`."""
    read = lambda other: self.source[other]
    return self.augment(self.source[index], self.rng(epoch, index), read)

  def augment(
    self, example: Example, rng: np.random.Generator, read: Callable[[int], Example]
  ) -> Example:
    """Returns an example transformed, perhaps with instances of another one.

    Args:
      example: Example of the source.
      rng: Generator of everything that is random.
      read: Function that reads another example of the source by its index.
    """
    example = self.transform(example, rng)
    if not self.copy_paste:
      return example
    if rng.random() < self.copy_paste:
      donor = self.transform(read(int(rng.integers(len(self.source)))), rng)
      example = paste(example, donor, choose_instances(_labeled_instances(donor), rng))
    return {key: value for key, value in example.items() if key != "instance"}

  def rng(self, epoch: int, index: int) -> np.random.Generator:
    """Returns the generator that transforms the source's example `index` in `epoch`."""
    return np.random.default_rng([self.seed, epoch, index])


def _labeled_instances(example: Example) -> np.ndarray:
  """Returns an example's instances, without those whose class is left out or not known."""
  instance = example["instance"]
  return np.where(example["label"] == UNLABELED, 0, instance) if "label" in example else instance


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
  """Yields this process's part of endless training batches, from global step `start` on.

  Global batch t consists of positions t * batch_size to (t + 1) * batch_size - 1 of `sampler`;
  process k gets those with position % processes == k.  Starting at a later step costs nothing and
  gives the same batches as an uninterrupted run.

  Args:
    sampler: Sequence of examples, which its transform brings to one size.
    batch_size: Number of examples in a global batch, over all processes.
    start: First global step; 0 by default.
    process: Index of this process, in 0..processes-1.
    processes: Number of processes; a divisor of `batch_size`.
    options: Options of reading.
    on_skip: Function called with the error message of an example each time it is skipped.

  Returns:
    Generator of dicts of arrays (batch_size / processes, ...): the example's keys and `weight`,
    float32 ones.

  Raises:
    ValueError: `batch_size` is no multiple of `processes`, `process` is out of range, or `start` is
      negative.
  """
  _check_sharding(batch_size, process, processes)
  if start < 0:
    raise ValueError(f"start {start}: expected a step, 0 or more")

  def read(position: int) -> tuple[Example, list[str]]:
    epoch, index = sampler.locate(position)
    # The last word, 2, keeps this stream apart from the transforms' (3 words, which NumPy pads with
    # a 0) and from the permutations' (1); see `_permutation`.
    rng = np.random.default_rng([sampler.seed, epoch, index, 2])
    example, errors = _read_or_replace(sampler.source, index, options.on_error, rng)

    def read_other(index: int) -> Example:
      other, more = _read_or_replace(sampler.source, index, options.on_error, rng)
      errors.extend(more)
      return other

    example = sampler.augment(example, sampler.rng(epoch, index), read_other)
    return {**example, "weight": _REAL}, errors

  positions = range(start * batch_size + process, sys.maxsize, processes)
  describe = lambda position: name_example(sampler.source, sampler.locate(position)[1])
  return _read_batches(read, positions, batch_size // processes, options, on_skip, describe)


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
  """Yields this process's part of one pass over `source`, in order.

  Every process gets the same number of full batches, since all processes must take part in each
  collective operation.  Positions past the end, and those of skipped examples, are padded with
  another example that has weight 0 and whose truth is missing at every pixel.

  Args:
    source: Source of the examples.
    transform: Function from (example, generator) to an example of the batch's size. The generator
      depends on the example's index alone.
    batch_size: Number of examples in a global batch, over all processes.
    process: Index of this process, in 0..processes-1.
    processes: Number of processes; a divisor of `batch_size`.
    options: Options of reading.
    on_skip: Function called with the error message of each skipped example.

  Returns:
    Generator of dicts of arrays (batch_size / processes, ...): the example's keys and `weight`,
    float32, 1 for an example and 0 for padding.

  Raises:
    ValueError: `batch_size` is no multiple of `processes`, `process` is out of range, or `source`
      is empty.
  """
  _check_sharding(batch_size, process, processes)
  _check_not_empty(source)
  steps = -(-len(source) // batch_size)

  # Padding past the end repeats example 0.
  find_index = lambda position: position if position < len(source) else 0

  def read(position: int) -> tuple[Example, list[str]]:
    index = find_index(position)
    rng = np.random.default_rng([0, 0, index])
    example, errors = _read_or_replace(source, index, options.on_error, rng)
    example = transform(example, rng)
    if position >= len(source) or errors:
      return {**_remove_truth(example), "weight": _PADDING}, errors
    return {**example, "weight": _REAL}, errors

  positions = range(process, steps * batch_size, processes)
  describe = lambda position: name_example(source, find_index(position))
  return _read_batches(read, positions, batch_size // processes, options, on_skip, describe)


def _read_or_replace(
  source: Source, index: int, on_error: str, rng: np.random.Generator
) -> tuple[Example, list[str]]:
  """Returns example `index`, or a random readable one, and the errors of the unreadable ones."""
  try:
    return source[index], []
  except (OSError, ValueError) as error:
    if on_error == "raise":
      raise
    errors = [str(error)]
  for candidate in rng.permutation(len(source)).tolist():
    try:
      return source[candidate], errors
    except (OSError, ValueError) as error:
      errors.append(str(error))
  raise ValueError(
    f"no example of split {source.split!r} of {source.descriptor.name} can be read; {errors[0]}"
  )


def _read_batches(
  read: Callable[[int], tuple[Example, list[str]]],
  positions: range,
  size: int,
  options: LoaderOptions,
  on_skip: Callable[[str], None],
  describe: Callable[[int], str],
) -> Batches:
  """Yields batches of `size` consecutive `positions`, read by Grain's threads or processes.

  Closing it ends them. Errors of reading are raised, or reported where examples are skipped.
  """
  table = ReadingTable(options.num_workers, options.num_threads)

  def noted_read(position: int) -> tuple[Example, list[str]]:
    with table.reading(position):
      return read(position)

  watchdog = Watchdog(table, describe, warn_after=options.warn_after, timeout=options.timeout)
  with contextlib.closing(watchdog):
    batches = _make_iterator(noted_read, positions, size, options, table)
    with contextlib.closing(batches):
      while True:
        with watchdog.waiting():
          result = _next(batches)
        if result is None:
          return
        batch, errors = result
        for error in errors:
          on_skip(error)
        # Arrays of reader processes lie in shared memory, which is scarce and which a copy frees.
        yield {
          key: value if type(value) is np.ndarray else np.array(value)
          for key, value in batch.items()
        }


def _make_iterator(
  read: Callable[[int], tuple[Example, list[str]]],
  positions: range,
  size: int,
  options: LoaderOptions,
  table: ReadingTable,
) -> "grain.DatasetIterator[tuple[Example, list[str]]]":
  """Makes Grain's iterator over batches, and the errors of each."""
  import grain

  examples = grain.MapDataset.range(positions.start, positions.stop, positions.step).map(read)
  if not options.num_workers:
    return iter(examples.to_iter_dataset(_read_ahead(options, size)).batch(size, batch_fn=_stack))
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's processes read flags; a library's user has none.
  # Reader processes take complete batches in turn, so that their number cannot change a batch.
  batches = examples.batch(size, batch_fn=_stack).to_iter_dataset(_read_ahead(options, 1))
  workers = grain.MultiprocessingOptions(options.num_workers, max(1, options.prefetch))
  return iter(batches.mp_prefetch(workers, worker_init_fn=table.start_worker))


def _read_ahead(options: LoaderOptions, size: int) -> "grain.ReadOptions":
  """Returns Grain's options for reading ahead, where a batch is `size` of Grain's elements."""
  import grain

  # Grain warns where fewer elements are buffered than threads could read.
  elements = max(options.prefetch * size, options.num_threads) if options.prefetch else 0
  return grain.ReadOptions(num_threads=options.num_threads, prefetch_buffer_size=elements)


def _next(
  batches: "grain.DatasetIterator[tuple[Example, list[str]]]",
) -> tuple[Example, list[str]] | None:
  """Returns the next batch and its errors; None at the end."""
  try:
    return next(batches, None)
  except (OSError, ValueError) as error:
    # Grain adds a note about its own hidden stack frames, which would bury the error's message.
    error.__notes__ = [note for note in getattr(error, "__notes__", ()) if "Grain" not in note]
    raise


def _stack(results: Sequence[tuple[Example, list[str]]]) -> tuple[Example, list[str]]:
  """Stacks the batch keys of examples, and joins the examples' errors."""
  examples, errors = zip(*results, strict=True)
  keys = [key for key in examples[0] if kind(key) in _KEYS]
  batch = {key: _stack_key(key, [example[key] for example in examples]) for key in keys}
  return batch, list(itertools.chain(*errors))


def _stack_key(key: str, values: list[np.ndarray]) -> np.ndarray:
  shapes = sorted({np.shape(value) for value in values})
  if len(shapes) > 1:
    raise ValueError(f"cannot batch {key} of shapes {shapes}: the transform must give one size")
  return np.stack(values)


def _remove_truth(example: Example) -> Example:
  """Returns the example with all truth missing."""
  return {
    key: value if key in ("image", "size") else np.full_like(value, MISSING[kind(key)])
    for key, value in example.items()
  }


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
  """Returns the order of the source's examples in an epoch; cached, since every example asks."""
  # The last word, 1, keeps this stream apart from the transforms' [seed, epoch, index]: NumPy pads
  # a seed to four words with zeros, so that [seed, epoch] would be the stream of example 0.
  return np.random.default_rng([seed, epoch, 0, 1]).permutation(length)


def _check_not_empty(source: Source) -> None:
  if not len(source):
    raise ValueError(f"split {source.split!r} of {source.descriptor.name} has no examples")


def _check_sharding(batch_size: int, process: int, processes: int) -> None:
  if batch_size < 1 or processes < 1 or batch_size % processes:
    raise ValueError(f"batch_size {batch_size}: expected a multiple of {processes} processes")
  if not 0 <= process < processes:
    raise ValueError(f"process {process}: expected 0..{processes - 1}")
