"""Batches on their way to the devices: none is lost, and each lies where it is worked on."""

import jax
import numpy as np
import pytest

from asmjax.train.parallel import prefetch_to_device, shard_batch


def batch(start):
  return {"image": np.arange(start, start + 48, dtype=np.float32).reshape(8, 2, 3)}


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_shard_batch_gives_every_device_its_rows(devices):
  where = jax.local_devices()[:devices]
  image = shard_batch(batch(0), devices=where)["image"]
  assert image.shape == (devices, 8 // devices, 2, 3)
  for shard in image.addressable_shards:
    row = where.index(shard.device)
    rows = batch(0)["image"].reshape(image.shape)[row]
    np.testing.assert_array_equal(shard.data[0], rows)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_prefetch_to_device_keeps_order_and_number(count):
  first_pixels = [
    float(each["image"].ravel()[0]) for each in prefetch_to_device(map(batch, range(count)))
  ]
  assert first_pixels == [*range(count)]


def test_prefetch_to_device_sends_some_batches_ahead():
  asked = []
  batches = prefetch_to_device((asked.append(i) or batch(i) for i in range(9)), ahead=3)
  next(batches)
  assert asked == [0, 1, 2, 3]
  next(batches)
  assert asked == [0, 1, 2, 3, 4]
