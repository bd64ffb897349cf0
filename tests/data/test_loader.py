"""Loaders: what a batch holds depends on its step alone, however it is computed."""

import contextlib
import dataclasses
import itertools
import threading

import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor
from asmjax.data.loader import EpochSampler, LoaderOptions, eval_batches, train_batches
from asmjax.data.scenes import Scenes
from asmjax.data.transforms import Augment
from tests.helpers.examples import assert_all_equal

KINDS = ("image", "label", "depth", "normals", "instance")


@dataclasses.dataclass(frozen=True)
class Counting:
  """Example i is filled with i + 1 in every array; reads are recorded."""

  length: int = 10
  split: str = "train"
  reads: list = dataclasses.field(default_factory=list)
  descriptor = Descriptor("counting", ("thing",), ((0, 0, 0),), ("train",), frozenset(KINDS[1:]))

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    self.reads.append(index)
    shapes = ((4, 4, 3), (4, 4), (4, 4), (4, 4, 3), (4, 4))
    types = (np.uint8, np.int32, np.float32, np.float32, np.int32)
    arrays = zip(KINDS, shapes, types, strict=True)
    return {key: np.full(shape, index + 1, dtype) for key, shape, dtype in arrays}

  def files(self, index):
    return {}


def keep(example, rng):
  return example


def noisy(example, rng):
  return {**example, "depth": example["depth"] + rng.random((4, 4), np.float32)}


def take(batches, count):
  return list(itertools.islice(batches, count))


def ids(batches):
  return [int(k) - 1 for batch in batches for k in batch["instance"][:, 0, 0]]


def test_train_batches_hold_all_keys_and_weight_one():
  (batch,) = take(train_batches(EpochSampler(Counting(), keep, seed=0), batch_size=4), 1)
  assert set(batch) == {*KINDS, "weight"}
  assert batch["weight"].dtype == np.float32 and batch["weight"].tolist() == [1] * 4
  for key in KINDS:
    assert batch[key].dtype == Counting()[0][key].dtype and batch[key].shape[:3] == (4, 4, 4)
    assert (batch[key].reshape(4, -1) == batch["label"][:, :1, 0]).all()


def test_train_batches_permute_each_epoch_anew():
  sampler = EpochSampler(Counting(10), keep, seed=0)
  order = np.reshape(ids(take(train_batches(sampler, batch_size=4), 10)), (4, 10))
  assert (np.sort(order) == np.arange(10)).all()
  assert len({tuple(epoch) for epoch in order}) == 4


def test_epoch_sampler_order_depends_on_seed_and_shuffle():
  def order(seed, shuffle=True):
    sampler = EpochSampler(Counting(10), keep, seed=seed, shuffle=shuffle)
    return ids(take(train_batches(sampler, batch_size=5), 4))

  assert order(0) == order(0) != order(1)
  assert order(0, shuffle=False) == [*range(10)] * 2


@pytest.mark.parametrize("start", [1, 4, 7])
def test_train_batches_from_start_equal_uninterrupted_run(start):
  sampler = EpochSampler(Counting(7), noisy, seed=3)
  uninterrupted = take(train_batches(sampler, batch_size=4), 12)
  assert_all_equal(
    take(train_batches(sampler, batch_size=4, start=start), 12 - start), uninterrupted[start:]
  )


def test_train_batches_from_start_read_nothing_before():
  source = Counting(200)
  sampler = EpochSampler(source, keep, seed=0, shuffle=False)
  batches = train_batches(
    sampler, batch_size=10, start=10**9 + 5, options=LoaderOptions(num_threads=0)
  )
  assert ids(take(batches, 1)) == [*range(50, 60)] == source.reads


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_train_batches_of_processes_make_global_batch(processes):
  sampler = EpochSampler(Counting(7), noisy, seed=3)
  options = {"batch_size": 6, "start": 2}
  global_batches = take(train_batches(sampler, **options), 5)
  parts = [
    take(train_batches(sampler, **options, process=k, processes=processes), 5)
    for k in range(processes)
  ]
  for t, batch in enumerate(global_batches):
    for k in range(processes):
      assert_all_equal([parts[k][t]], [{key: value[k::processes] for key, value in batch.items()}])


def test_train_batches_do_not_depend_on_threads():
  source = Scenes("train", size=(32, 32), length=9)
  transform = Augment((24, 24), flip=True, scale=(0.5, 2.0), random_crop=True)
  sampler = EpochSampler(source, transform, seed=1)
  expected = take(
    train_batches(sampler, batch_size=4, options=LoaderOptions(num_threads=0, prefetch=0)), 6
  )
  for threads, prefetch in [(1, 1), (4, 2), (8, 1), (3, 0)]:
    options = LoaderOptions(num_threads=threads, prefetch=prefetch)
    assert_all_equal(take(train_batches(sampler, batch_size=4, options=options), 6), expected)


def test_batches_do_not_depend_on_worker_processes():
  """Neither if two share an odd number of batches, nor after a resume."""
  source = Scenes("train", size=(32, 32), length=9)
  transform = Augment((24, 24), flip=True, scale=(0.5, 2.0), random_crop=True)
  sampler = EpochSampler(source, transform, seed=1)
  uninterrupted = take(train_batches(sampler, batch_size=4), 6)
  options = {"batch_size": 4, "options": LoaderOptions(num_workers=2, num_threads=1)}
  share_of = {"start": 3, "process": 1, "processes": 4}
  with contextlib.closing(train_batches(sampler, **options, **share_of)) as batches:
    share = [{key: value[1::4] for key, value in batch.items()} for batch in uninterrupted[3:]]
    assert_all_equal(take(batches, 3), share)
  with contextlib.closing(eval_batches(source, transform, batch_size=4)) as batches:
    expected = list(batches)
  with contextlib.closing(eval_batches(source, transform, **options)) as batches:
    assert_all_equal(list(batches), expected)


def test_epoch_sampler_example_equals_that_of_batch():
  sampler = EpochSampler(Counting(7), noisy, seed=3)
  batches = take(train_batches(sampler, batch_size=7), 3)
  for epoch, batch in enumerate(batches):
    for row, index in enumerate(ids([batch])):
      np.testing.assert_array_equal(batch["depth"][row], sampler.example(epoch, index)["depth"])


def test_epoch_sampler_rng_differs_by_seed_epoch_and_index():
  noise = {
    (seed, epoch, index): EpochSampler(Counting(3), noisy, seed=seed).example(epoch, index)["depth"]
    for seed, epoch, index in itertools.product(range(3), repeat=3)
  }
  assert len({(depth % 1).tobytes() for depth in noise.values()}) == 27


@pytest.mark.parametrize(("length", "processes"), [(10, 1), (10, 2), (8, 2), (1, 4), (9, 4)])
def test_eval_batches_hold_every_example_once(length, processes):
  source = Counting(length, split="val")
  parts = [
    list(eval_batches(source, keep, batch_size=4, process=k, processes=processes))
    for k in range(processes)
  ]
  assert {len(part) for part in parts} == {-(-length // 4)}
  assert {len(batch["weight"]) for part in parts for batch in part} == {4 // processes}
  counted = []
  for part in parts:
    weights = np.concatenate([batch["weight"] for batch in part])
    counted += [k for k, weight in zip(ids(part), weights, strict=True) if weight == 1]
    assert set(weights) <= {0, 1}
  assert sorted(counted) == [*range(length)]


def test_eval_batches_keep_order_and_pad_without_truth():
  first, last = eval_batches(Counting(6, split="val"), keep, batch_size=4)
  assert ids([first]) == [0, 1, 2, 3] and last["weight"].tolist() == [1, 1, 0, 0]
  assert (last["image"][2:] == 1).all() and (last["label"][2:] == UNLABELED).all()
  assert not any(last[key][2:].any() for key in ("depth", "normals", "instance"))
  assert (last["label"][:2].max((1, 2)) == [5, 6]).all()


def test_train_batches_close_stops_threads():
  before = threading.active_count()
  batches = train_batches(EpochSampler(Counting(), keep, seed=0), batch_size=4)
  next(batches)
  batches.close()
  workers = [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]
  for worker in workers:
    worker.join(5)
  assert threading.active_count() <= before


def test_train_batches_raise_errors_of_threads():
  def broken(example, rng):
    raise ValueError("one.jpg cannot be decoded")

  with pytest.raises(ValueError, match="one.jpg cannot be decoded"):
    next(train_batches(EpochSampler(Counting(), broken, seed=0), batch_size=2))


def test_train_batches_name_different_sizes():
  def uneven(example, rng):
    return {"image": np.zeros((2 + int(example["label"][0, 0]), 4, 3), np.uint8)}

  sampler = EpochSampler(Counting(), uneven, seed=0, shuffle=False)
  with pytest.raises(ValueError, match=r"image of shapes \[\(3, 4, 3\), \(4, 4, 3\)\]"):
    next(train_batches(sampler, batch_size=2))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 5, "processes": 2}, "batch_size 5: .* 2 processes"),
    ({"batch_size": 0}, "batch_size 0"),
    ({"batch_size": 4, "process": 2, "processes": 2}, r"process 2: expected 0\.\.1"),
    ({"batch_size": 4, "start": -1}, "start -1"),
  ],
)
def test_train_batches_refuse_bad_options_at_once(options, message):
  with pytest.raises(ValueError, match=message):
    train_batches(EpochSampler(Counting(), keep, seed=0), **options)


def test_loaders_refuse_empty_sources():
  with pytest.raises(ValueError, match="'train' of counting has no examples"):
    EpochSampler(Counting(0), keep, seed=0)
  with pytest.raises(ValueError, match="'train' of counting has no examples"):
    eval_batches(Counting(0), keep, batch_size=1)


@dataclasses.dataclass(frozen=True)
class Broken(Counting):
  """As `Counting`, but the examples `broken` cannot be read."""

  broken: tuple = (2, 5, 6)

  def __getitem__(self, index):
    if index in self.broken:
      raise (OSError if index == 2 else ValueError)(f"{index}.png cannot be decoded")
    return super().__getitem__(index)


SKIP = LoaderOptions(on_error="skip")


def test_train_batches_raise_for_broken_example_by_default():
  sampler = EpochSampler(Broken(), keep, seed=0, shuffle=False)
  with pytest.raises(OSError, match=r"2\.png"):
    take(train_batches(sampler, batch_size=2), 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_train_batches_report_and_replace_skipped_examples(workers):
  faults = []
  sampler = EpochSampler(Broken(), keep, seed=0, shuffle=False)
  options = dataclasses.replace(SKIP, num_workers=workers)
  batches = train_batches(sampler, batch_size=5, options=options, on_skip=faults.append)
  with contextlib.closing(batches):
    first_two = take(batches, 2)
  indices = ids(first_two)
  readable = [0, 1, 3, 4, 7, 8, 9]
  assert [indices[index] for index in readable] == readable
  assert set(indices) == set(readable)  # Others in place of 2, 5 and 6.
  assert all((batch["weight"] == 1).all() for batch in first_two)
  assert {int(fault.split(".")[0]) for fault in faults} == {2, 5, 6}


def test_train_batches_replace_broken_examples_by_many():
  sampler = EpochSampler(Broken(length=40, broken=tuple(range(20))), keep, seed=0, shuffle=False)
  batches = train_batches(sampler, batch_size=20, options=SKIP, on_skip=lambda fault: None)
  indices = ids(take(batches, 1))
  assert min(indices) >= 20 and len(set(indices)) > 8


def test_train_batches_keep_intact_examples_when_skipping():
  expected = take(train_batches(EpochSampler(Counting(), noisy, seed=3), batch_size=5), 4)
  sampler = EpochSampler(Broken(), noisy, seed=3)
  options = {"options": SKIP, "on_skip": lambda fault: None}
  for before, after in zip(
    expected, take(train_batches(sampler, batch_size=5, **options), 4), strict=True
  ):
    intact = ~np.isin(before["instance"][:, 0, 0] - 1, Broken.broken)
    assert intact.any()
    assert_all_equal(
      [{key: value[intact] for key, value in after.items()}],
      [{key: value[intact] for key, value in before.items()}],
    )


def test_eval_batches_give_skipped_examples_weight_zero():
  faults = []
  source = Broken(broken=(0, 3, 9), split="val")
  options = {"options": SKIP, "on_skip": faults.append}
  batches = list(eval_batches(source, keep, batch_size=4, **options))
  weights = np.concatenate([batch["weight"] for batch in batches])
  assert weights.tolist() == [0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0]
  labels = np.concatenate([batch["label"][:, 0, 0] for batch in batches])
  assert (labels[weights == 0] == UNLABELED).all()
  assert (labels[weights == 1] - 1).tolist() == [1, 2, 4, 5, 6, 7, 8]
  assert {fault.split(".")[0] for fault in faults} == {"0", "3", "9"}


def test_train_batches_refuse_source_without_readable_example():
  sampler = EpochSampler(Broken(length=2, broken=(0, 1)), keep, seed=0)
  with pytest.raises(ValueError, match=r"no example of split 'train' of counting.*\.png"):
    next(train_batches(sampler, batch_size=2, options=SKIP))


def test_eval_batches_never_skip_errors_of_transform():
  """They are the config's fault, and would silently shrink the data set."""
  source = Scenes("train", size=(32, 32), length=9)
  with pytest.raises(ValueError, match="exceeds size 24x24"):
    next(eval_batches(source, Augment((24, 24)), batch_size=2, options=SKIP))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"num_workers": -1}, "num_workers=-1"),
    ({"on_error": "ignore"}, "'ignore'; known: raise, skip"),
  ],
)
def test_loader_options_refuse_bad_values(change, message):
  with pytest.raises(ValueError, match=message):
    LoaderOptions(**change)
