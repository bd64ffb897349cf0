"""Copy-paste: all truths of the same pixels, and a choice that seed, epoch and index make."""

import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.data.copy_paste import choose_instances, paste
from asmjax.data.loader import EpochSampler, LoaderOptions, train_batches
from asmjax.data.transforms import Augment
from tests.data.test_transforms import example
from tests.helpers.examples import assert_examples_equal
from tests.helpers.list_source import ListSource


def with_instances(seed, count=3, size=(20, 32)):
  """An example whose instances are vertical stripes on no instance."""
  made = example(*size, seed=seed)
  stripes = np.arange(size[1]) * (count + 1) // size[1]
  made["instance"] = np.tile(stripes * 1000, (size[0], 1)).astype(np.int32)
  return made


def test_paste_takes_all_truths_of_the_same_pixels():
  one, other = with_instances(0), with_instances(1)
  mask = np.random.default_rng(0).random((20, 32)) < 0.4
  pasted = paste(one, other, mask)
  for key in ("image", "label", "depth", "normals"):
    assert pasted[key].dtype == one[key].dtype
    np.testing.assert_array_equal(pasted[key][mask], other[key][mask])
    np.testing.assert_array_equal(pasted[key][~mask], one[key][~mask])


def test_paste_gives_instances_numbers_of_their_own():
  one, other = with_instances(0), with_instances(1)
  other["instance"][other["instance"] == 2000] = 2**31 - 1
  mask = np.zeros((20, 32), bool)
  mask[:10] = True
  instance = paste(one, other, mask)["instance"]
  assert instance.dtype == np.int32
  np.testing.assert_array_equal(instance[10:], one["instance"][10:])
  np.testing.assert_array_equal(instance[:10] == 0, other["instance"][:10] == 0)
  above, below = (set(part[part > 0].tolist()) for part in (instance[:10], instance[10:]))
  assert len(above) == len(below) == 3 and not above & below


def test_choose_instances_takes_whole_ones_half_of_the_time():
  instance = with_instances(0)["instance"]
  chosen = []
  for seed in range(200):
    mask = choose_instances(instance, np.random.default_rng(seed))
    assert not mask[instance == 0].any()
    parts = [mask[instance == id] for id in (1000, 2000, 3000)]
    assert all(part.all() or not part.any() for part in parts)
    chosen.append([part.all() for part in parts])
  np.testing.assert_allclose(np.mean(chosen, 0), 0.5, atol=0.12)
  assert not choose_instances(np.zeros((4, 4), np.int32), np.random.default_rng(0)).any()


def sampler(copy_paste, **augment):
  source = ListSource([with_instances(seed) for seed in range(4)], None)
  return EpochSampler(source, Augment((20, 32), **augment), 3, copy_paste=copy_paste)


def test_epoch_sampler_pastes_as_seed_epoch_and_index_say():
  always = sampler(1.0, flip=True)
  assert_examples_equal(always.example(0, 1), always.example(0, 1))
  assert not np.array_equal(always.example(0, 1)["image"], always.example(1, 1)["image"])
  mixed = [
    len(
      np.unique(
        always.example(epoch, 0)["image"] == sampler(0.0, flip=True).example(epoch, 0)["image"]
      )
    )
    for epoch in range(8)
  ]
  assert 2 in mixed  # Some pixels are another example's, others are not.


def test_epoch_sampler_pastes_no_objects_of_unlabeled_classes():
  made = with_instances(0)
  made["label"] = np.where(made["instance"] == 2000, UNLABELED, 1).astype(np.int32)
  source = ListSource([made, made], None)
  pasting = EpochSampler(source, Augment((20, 32), flip=True), 3, copy_paste=1.0)
  hidden = [np.sum(pasting.example(epoch, 0)["label"] == UNLABELED) for epoch in range(20)]
  assert max(hidden) == np.sum(made["label"] == UNLABELED) and min(hidden) < max(hidden)


def test_epoch_sampler_without_pasting_is_as_it_was():
  plain = sampler(0.0, flip=True)
  expected = plain.transform(plain.source[2], plain.rng(5, 2))
  assert_examples_equal(plain.example(5, 2), expected)


def test_epoch_sampler_leaves_instances_out_of_batches():
  assert "instance" not in sampler(0.5).example(0, 0)
  (batch,) = (next(train_batches(sampler(1.0), batch_size=2)),)
  assert set(batch) == {"image", "label", "depth", "normals", "weight"}


@pytest.mark.parametrize("num_threads", [0, 3])
def test_train_batches_pasted_do_not_depend_on_threads(num_threads):
  batches = train_batches(
    sampler(0.7, flip=True), batch_size=2, options=LoaderOptions(num_threads=num_threads)
  )
  expected = sampler(0.7, flip=True)
  batch = [next(batches) for _ in range(3)][2]
  for row, position in enumerate((4, 5)):
    single = expected.example(*expected.locate(position))
    np.testing.assert_array_equal(batch["image"][row], single["image"])
    np.testing.assert_array_equal(batch["label"][row], single["label"])


def test_train_batches_skip_donors_that_cannot_be_read():
  source = ListSource([with_instances(0), ValueError("broken.png"), with_instances(2)], None)
  pasting = EpochSampler(source, Augment((20, 32)), 0, copy_paste=1.0)
  errors = []
  options = LoaderOptions(num_threads=0, on_error="skip")
  batches = train_batches(pasting, batch_size=1, options=options, on_skip=errors.append)
  labels = [next(batches)["label"] for _ in range(12)]
  assert set(errors) == {"broken.png"} and len(errors) > 4
  assert all((label != UNLABELED).any() for label in labels)
