"""Maps on disk and beside their examples."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asmjax.data.loader import EpochSampler
from asmjax.data.transforms import Augment
from asmjax.lookahead.maps import AggregatedMaps, MapStore
from asmjax.lookahead.settings import decision_split

SIZE = (6, 9)


class Photos:
  """Labeled noise, of which example i is i pixels wider."""

  descriptor, split = None, "train"

  def __len__(self):
    return 5

  def __getitem__(self, index):
    rng = np.random.default_rng(index)
    shape = (SIZE[0], SIZE[1] + index)
    return {
      "image": rng.integers(0, 256, (*shape, 3), np.uint8),
      "label": rng.integers(0, 4, shape).astype(np.int32),
    }


def predictions(model, indices=range(5), size=(8, 16)):
  """Label maps as large as the padded examples."""
  for index in indices:
    rng = np.random.default_rng([model, index])
    yield index, {"label": rng.integers(0, 4, size).astype(np.int32)}


@pytest.fixture(params=[1 << 20, 0], ids=["in memory", "memory-mapped"])
def store(request, tmp_path):
  return MapStore(tmp_path / "maps", cache_bytes=request.param)


def test_map_store_returns_maps_as_they_were_written(store):
  for model in (3, 7):
    store.write(model, "train", predictions(model))
  for model, maps in zip((7, 3), store.read([7, 3], "train"), strict=True):
    assert maps.indices == tuple(range(5))
    for index, expected in predictions(model):
      replayed = maps[index]
      assert list(replayed) == ["replay_label"] and replayed["replay_label"].dtype == np.int32
      np.testing.assert_array_equal(replayed["replay_label"], expected["label"])


def test_map_store_keeps_every_kind_of_truth(store):
  rng = np.random.default_rng(0)
  depth = rng.uniform(0.5, 8, (4, 4)).astype(np.float32)
  normals = rng.normal(size=(4, 4, 3)).astype(np.float32)
  store.write(0, "train", [(2, {"depth": depth, "normals": normals})])
  (maps,) = store.read([0], "train")
  np.testing.assert_allclose(maps[2]["replay_depth"], depth, rtol=1e-3)
  np.testing.assert_allclose(maps[2]["replay_normals"], normals, rtol=1e-3, atol=1e-6)
  assert {value.dtype for value in maps[2].values()} == {np.dtype("float32")}


def test_map_store_takes_arrays_stored_by_column(store):
  label = np.arange(12, dtype=np.int32).reshape(3, 4).T
  store.write(0, "train", [(0, {"label": label})])
  np.testing.assert_array_equal(store.read([0], "train")[0][0]["replay_label"], label)


def test_model_maps_parse_equal_headers_once_in_any_thread(store, monkeypatch):
  parsed, parse = [], np.lib.format.read_array_header_1_0

  def counted(file):
    parsed.append(file)
    return parse(file)

  monkeypatch.setattr(np.lib.format, "read_array_header_1_0", counted)
  store.write(0, "train", predictions(0, range(40), size=(3, 41)))
  (maps,) = store.read([0], "train")
  _ = maps[0]
  with ThreadPoolExecutor(8) as pool:
    labels = list(pool.map(lambda i: maps[i]["replay_label"], range(40)))
  assert len(parsed) <= 1  # Of the second store that the test runs with, not even one.
  for (_, expected), label in zip(predictions(0, range(40), size=(3, 41)), labels, strict=True):
    np.testing.assert_array_equal(label, expected["label"])


def test_map_store_reads_a_model_once_that_counts_twice(store):
  store.write(4, "train", predictions(4))
  first, second = store.read([4, 4], "train")
  assert first is second
  assert len(AggregatedMaps(Photos(), [first, second], lambda example: example)) == 10


def test_model_maps_can_be_pickled(store):
  store.write(1, "train", predictions(1))
  (maps,) = store.read([1], "train")
  expected = maps[3]["replay_label"]
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(maps))[3]["replay_label"], expected)


def test_map_store_writes_atomically(store, tmp_path):
  def broken():
    yield from predictions(2, range(3))
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    store.write(2, "train", broken())
  with pytest.raises(FileNotFoundError, match=r"train\.0-of-1\.zip.*maps of model 2"):
    store.read([2], "train")
  store.write(2, "train", predictions(2))
  with pytest.raises(KeyboardInterrupt):
    store.write(2, "train", broken())
  assert store.read([2], "train")[0].indices == tuple(range(5))


def test_map_store_removes_all_but_kept_models(store):
  for model in (1, 2, 3):
    store.write(model, "train", predictions(model))
  store.keep({1, 3})
  assert len(store.read([1, 3], "train")) == 2
  with pytest.raises(FileNotFoundError, match="model 2"):
    store.read([2], "train")


def test_aggregated_maps_pair_each_map_with_its_truth(store):
  for model, indices in ((0, range(5)), (1, (1, 3)), (2, (0, 4))):
    store.write(model, "train", predictions(model, indices))
  pairs = AggregatedMaps(Photos(), store.read([0, 1, 2], "train"), lambda example: example)
  assert len(pairs) == 9
  pairs_read = set()
  for i in range(len(pairs)):
    example = pairs[i]
    index = example["image"].shape[1] - SIZE[1]
    np.testing.assert_array_equal(example["label"], Photos()[index]["label"])
    assert example["replay_label"].shape == example["label"].shape
    model = next(
      model
      for model in range(3)
      if np.array_equal(
        dict(predictions(model))[index]["label"][: SIZE[0], : SIZE[1] + index],
        example["replay_label"],
      )
    )
    pairs_read.add((model, index))
  assert pairs_read == {(0, i) for i in range(5)} | {(1, 1), (1, 3), (2, 0), (2, 4)}


def test_aggregated_maps_are_augmented_with_their_examples(store):
  photos = Photos()
  store.write(0, "train", ((i, {"label": photos[i]["label"]}) for i in range(5)))
  augment = Augment((5, 7), flip=True, scale=(0.7, 1.6), random_crop=True)
  pairs = AggregatedMaps(photos, store.read([0], "train"), augment.resize_only)
  sampler = EpochSampler(pairs, augment, seed=3)
  flipped = set()
  for epoch in range(4):
    for index in range(5):
      example = sampler.example(epoch, index)
      np.testing.assert_array_equal(example["replay_label"], example["label"])
      flipped.add(example["label"].tobytes())
  assert len(flipped) > 10


def test_decision_split_is_fixed_by_its_seed():
  deciding, remaining = decision_split(100, 0.3, seed=0)
  assert len(deciding) == 30 and sorted((*deciding, *remaining)) == list(range(100))
  assert decision_split(100, 0.3, seed=0) == (deciding, remaining) and decision_split(
    100, 0.3, seed=1
  ) != (deciding, remaining)
  assert deciding != list(range(30))
  assert decision_split(2, 0.3, seed=0)[0] in ([0], [1]) and decision_split(5, 1.0, seed=0)[1] == []
