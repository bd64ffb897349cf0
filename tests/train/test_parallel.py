"""Batches on their way to the devices: none is lost, and each lies where it is worked on."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from asmjax.metrics import Calibration, ConfusionMatrix, DavisF, Tolerance
from asmjax.metrics.base import map_arrays
from asmjax.train.parallel import all_gather_arrays, prefetch_to_device, shard_batch


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


@pytest.fixture
def second_of_two(monkeypatch):
  """Function that sets the bytes of the first process; this one is the second."""
  sent = []
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  exchange = lambda own: np.stack([sent.pop(0), own])
  monkeypatch.setattr(multihost_utils, "process_allgather", exchange)

  def send(arrays):
    """What a process with these arrays sends, by recording what this one would."""
    recorded = []
    with monkeypatch.context() as patch:
      patch.setattr(
        multihost_utils, "process_allgather", lambda own: recorded.append(own) or np.stack([own])
      )
      all_gather_arrays(arrays)
    sent.extend(recorded)

  return send


def test_all_gather_arrays_keeps_64_bits_and_shapes(second_of_two):
  first = [np.array([2**62 + 1, -1]), np.array([[1e300, np.nan]]), np.zeros((0, 3)), np.float64(2)]
  second_of_two([np.asarray(x) for x in first])
  ((*actual,),) = all_gather_arrays([np.zeros_like(x) for x in first])
  for now, then in zip(actual, first, strict=True):
    assert now.dtype == np.asarray(then).dtype
    np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("other", [np.zeros(3, np.float32), np.zeros(6, np.float64)])
def test_all_gather_arrays_refuses_arrays_of_other_kinds(second_of_two, other):
  second_of_two([other])
  with pytest.raises(ValueError, match="other shapes or types than"):
    all_gather_arrays([np.zeros(3)])


def test_map_arrays_replaces_the_numbers_of_metrics_alone():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, (2, 2, 9, 9))
  states = {
    "a": {"davis": DavisF.from_batch(*labels, num_classes=3, tolerance=Tolerance(2, "pixels"))},
    "b": ConfusionMatrix.from_batch(*labels, num_classes=3),
    "c": Calibration.empty(),
    "d": {"pixels": 3},
  }
  arrays = []
  copies = map_arrays(lambda x: arrays.append(x) or x + x, states)
  assert copies["a"]["davis"].tolerance == states["a"]["davis"].tolerance and copies["d"] == {
    "pixels": 6
  }
  merged = states["a"]["davis"].merge(states["a"]["davis"])
  assert copies["a"]["davis"].compute().keys() == merged.compute().keys()
  np.testing.assert_array_equal(copies["b"].counts, 2 * states["b"].counts)
  assert all(isinstance(x, np.ndarray) for x in arrays) and len(arrays) == 8
