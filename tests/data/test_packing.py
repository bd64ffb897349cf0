"""Packing and reading back: lossless, resumable, deterministic, and without TensorFlow."""

import concurrent.futures
import dataclasses
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.packing import pack
from asmjax.data.scenes import Scenes
from asmjax.data.tfds import Tfds
from tests.helpers.examples import assert_all_equal
from tests.helpers.list_source import ListSource
from tests.helpers.small_configs import ROOT

EVERYTHING = Descriptor(
  name="everything",
  classes=("sky", "traffic light"),
  palette=((1, 2, 3), (4, 5, 6)),
  splits=("train", "val", "unpublished"),
  provides=frozenset({"label", "depth", "normals", "instance"}),
  ignored=frozenset({7}),
)


def listed(examples, split="train", descriptor=EVERYTHING, paths=()):
  return ListSource(examples, descriptor, split, paths)


def noise(seed, size=None):
  """An example whose arrays hold any values that their types can, each at its own size."""
  rng = np.random.default_rng(seed)
  size = size or tuple(rng.integers(3, 40, 2))
  return {
    "image": rng.integers(0, 256, (*size, 3), np.uint8),
    "label": rng.choice(np.array([0, 1, 255], np.int32), size),
    "depth": (rng.random(size, np.float32) * 80) * (rng.random(size) < 0.9).astype(np.float32),
    "normals": rng.normal(size=(*size, 3)).astype(np.float32),
    "instance": rng.integers(0, 2**31, size, np.int32),
  }


def two_splits():
  return {
    "train": listed([noise(seed) for seed in range(5)]),
    "val": listed([noise(seed) for seed in range(10, 12)], "val"),
  }


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("packed")
  pack(two_splits(), folder, examples_per_shard=2)
  return folder


def test_pack_is_lossless_and_keeps_order(packed):
  for split, source in two_splits().items():
    assert_all_equal(Tfds(str(packed), split), source)


def test_pack_is_lossless_for_scenes(tmp_path):
  sources = {split: Scenes(split, size=(16, 24), length=3) for split in ("train", "test")}
  pack(sources, tmp_path)
  for split, source in sources.items():
    assert_all_equal(Tfds(str(tmp_path), split), source)


def test_pack_keeps_jpegs_where_lossless(tmp_path):
  """Not where the source shows something else than the file: here a flipped photo, and a PNG."""
  descriptor = dataclasses.replace(EVERYTHING, provides=frozenset())
  paths = tuple(tmp_path / name for name in ("a.jpg", "flipped.JPG", "c.png", "gray.jpeg"))
  rng = np.random.default_rng(0)
  examples = []
  for path in paths:
    pixels = rng.integers(0, 256, (33, 47) if "gray" in path.name else (33, 47, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    image = decode.read_photo(path)
    examples.append({"image": image[:, ::-1] if "flipped" in path.name else image})
  source = listed(examples, descriptor=descriptor, paths=[{"image": path} for path in paths])
  pack({"train": source}, tmp_path / "packed")
  packed = Tfds(str(tmp_path / "packed"), "train")
  assert_all_equal(packed, source)
  verbatim = [path.read_bytes() in packed._records[i] for i, path in enumerate(paths)]
  assert verbatim == [True, False, False, True]


def test_pack_keeps_descriptor(packed):
  descriptor = Tfds(str(packed), "val").descriptor
  assert descriptor == dataclasses.replace(EVERYTHING, splits=("train", "val"))


def test_tfds_gives_arrays_of_their_own(packed):
  source = Tfds(str(packed), "train")
  for value in source[0].values():
    value[:] = 1
  assert_all_equal(source, two_splits()["train"])


def test_tfds_reads_alike_in_threads_and_after_pickling(packed):
  source = Tfds(str(packed), "train")
  expected = [source[index]["depth"].sum() for index in range(5)]
  pickled = pickle.dumps(source)
  assert len(pickled) < 500
  copy = pickle.loads(pickled)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    sums = list(pool.map(lambda position: copy[position % 5]["depth"].sum(), range(80)))
  assert sums == expected * 16


def test_tfds_reads_parts_of_splits(packed):
  source = listed([noise(seed) for seed in (3, 4, 10)])
  assert_all_equal(Tfds(str(packed), "train[60%:]+val[:1]"), source)


# Interruptions


@pytest.mark.parametrize("stop", [ValueError("unreadable"), KeyboardInterrupt()], ids=repr)
def test_pack_resumes_after_interruption(packed, tmp_path, stop):
  sources = two_splits()
  broken = dict(sources, train=listed([*sources["train"].examples[:3], stop, noise(4)]))
  with pytest.raises(type(stop)):
    pack(broken, tmp_path, examples_per_shard=2)
  with pytest.raises(FileNotFoundError, match=r"not packed to the end: run `asmjax prepare`"):
    Tfds(str(tmp_path), "train")
  complete = tmp_path / "everything-train.array_record-00000-of-00003"
  before = complete.stat().st_mtime_ns, complete.stat().st_ino
  packed_examples = {"train": 0, "val": 0}

  def progress(split, examples):
    packed_examples[split] += examples

  pack(sources, tmp_path, examples_per_shard=2, progress=progress)
  assert contents(tmp_path) == contents(packed)
  assert (complete.stat().st_mtime_ns, complete.stat().st_ino) == before
  assert packed_examples == {"train": 5, "val": 2}


@pytest.mark.parametrize(
  "name",
  [
    ".asmjax.json.7.part",
    "everything-train.array_record-00001-of-00003",
    ".everything-val.array_record-00000-of-00001.7.part",
    "dataset_info.json",
  ],
)
def test_pack_repairs_files_cut_by_a_kill(packed, tmp_path, name):
  """A file cut short: one in the making, or one the system had not yet written to the disk."""
  complete, final = contents(packed), name.removesuffix(".7.part").lstrip(".")
  if final != "asmjax.json":
    shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dataset_info.json").unlink()
    (tmp_path / final).unlink(missing_ok=True)
  (tmp_path / name).write_bytes(complete[final][:100])
  with pytest.raises((FileNotFoundError, ValueError)):
    Tfds(str(tmp_path), "train")
  pack(two_splits(), tmp_path, examples_per_shard=2)
  assert contents(tmp_path) == complete


def test_pack_rewrites_shard_of_another_length(packed, tmp_path):
  shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
  last, second = (tmp_path / f"everything-train.array_record-0000{i}-of-00003" for i in (2, 1))
  shutil.copy(last, second)
  pack(two_splits(), tmp_path, examples_per_shard=2)
  assert contents(tmp_path) == contents(packed)


@pytest.mark.parametrize(
  "sources, options, message",
  [
    (two_splits(), {"examples_per_shard": 3}, "examples_per_shard is 2 and 3"),
    ({"train": two_splits()["train"]}, {}, r"splits\.val is .* and None"),
    (two_splits() | {"train": listed([noise(0)])}, {}, r"splits\.train\.examples is 5 and 1"),
    (two_splits() | {"val": listed([noise(1)] * 2)}, {}, r"splits\.val\.first is "),
    (
      {
        split: listed(
          source.examples, split, dataclasses.replace(EVERYTHING, classes=("sky", "tram"))
        )
        for split, source in two_splits().items()
      },
      {},
      r"descriptor\.classes is .*light.* and .*tram",
    ),
  ],
  ids=["shards", "splits", "length", "data", "classes"],
)
def test_pack_refuses_folder_begun_with_other_arguments(packed, sources, options, message):
  before = contents(packed)
  with pytest.raises(ValueError, match=f"begun with something else, before and now: {message}"):
    pack(sources, packed, **{"examples_per_shard": 2, **options})
  assert contents(packed) == before


def test_pack_refuses_files_changed_since(tmp_path):
  path = tmp_path / "a.png"
  PIL.Image.fromarray(noise(0)["image"]).save(path)
  source = listed([noise(0)] * 2, paths=[{"image": path, "label": path}] * 2)
  pack({"train": source}, tmp_path / "packed")
  path.write_bytes(path.read_bytes() + b" ")
  with pytest.raises(ValueError, match=r"splits\.train\.files is"):
    pack({"train": source}, tmp_path / "packed")


def test_pack_refuses_foreign_and_remote_folders(tmp_path):
  (tmp_path / "thesis.tex").write_text("")
  with pytest.raises(ValueError, match=r"holds thesis\.tex but no asmjax\.json"):
    pack(two_splits(), tmp_path)
  with pytest.raises(ValueError, match="gs://bucket/x: pack into a local folder and copy that"):
    pack(two_splits(), "gs://bucket/x")


# Sources that are not what they should be


def changed(**arrays):
  return [noise(0), noise(1) | arrays]


@pytest.mark.parametrize(
  "examples, message",
  [
    (changed(label=noise(1)["label"] + 1), "label of example 1 .*'train' of everything holds 256"),
    (changed(label=noise(1)["label"] - 1), "label of example 1 .* holds -1; expected 0.."),
    (changed(depth=noise(1)["depth"].astype(float)), "example 1 .*depth' is float64.*float32"),
    (changed(depth=noise(1)["depth"][1:]), "example 1 .*'(depth|label)' is "),
    (changed(rubbish=np.zeros((3, 3))), "example 1 .* has .*'rubbish'.*; expected .*'depth'"),
    ([noise(0), {"image": noise(1)["image"]}], r"example 1 .* has \['image'\]; expected .*'depth'"),
    ([], "split 'train' of everything has no examples"),
  ],
)
def test_pack_refuses_examples_that_violate_contract(tmp_path, examples, message):
  with pytest.raises(ValueError, match=message):
    pack({"train": listed(examples)}, tmp_path)
  with pytest.raises(FileNotFoundError):
    Tfds(str(tmp_path), "train")


def test_pack_refuses_splits_of_two_data_sets(tmp_path):
  descriptor = dataclasses.replace(EVERYTHING, name="other")
  with pytest.raises(ValueError, match="split 'val' is not of the kind .*everything' and 'other'"):
    pack(two_splits() | {"val": listed([noise(0)], "val", descriptor)}, tmp_path)
  with pytest.raises(ValueError, match=r"'train\[:1\]' cannot name files"):
    pack({"train[:1]": listed([noise(0)])}, tmp_path)
  assert not list(tmp_path.iterdir())


# Folders that are not what they should be


def test_tfds_refuses_root_without_data_set(tmp_path):
  with pytest.raises(ValueError, match=r"data\.root is ''; expected the folder"):
    Tfds("", "train")
  with pytest.raises(FileNotFoundError, match=r"dataset_info\.json does not exist; expected"):
    Tfds(str(tmp_path), "train")


def test_tfds_refuses_unknown_splits_and_indices(packed):
  with pytest.raises(ValueError, match="split 'test' of .* is unknown, or .*; known: train, val"):
    Tfds(str(packed), "test")
  for part in ("train[:0]", "train[50%:20%]"):
    with pytest.raises(ValueError, match=f"split '{re.escape(part)}' of .* is empty"):
      Tfds(str(packed), part)
  source = Tfds(str(packed), "val")
  for index in (-1, 2):
    with pytest.raises(IndexError, match=f"example {index} of a source with 2"):
      source[index]


def test_tfds_names_example_of_broken_shard(packed, tmp_path):
  shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
  shard = tmp_path / "everything-train.array_record-00001-of-00003"
  broken = bytearray(shard.read_bytes())
  broken[500] ^= 255  # In the first of the shard's two examples.
  shard.write_bytes(broken)
  source = Tfds(str(tmp_path), "train")
  with pytest.raises(ValueError, match=r"example 2 of split 'train' in .* cannot be read"):
    source[2]
  np.testing.assert_array_equal(source[3]["image"], noise(3)["image"])


def test_pack_and_tfds_do_not_import_tensorflow(packed, tmp_path):
  """Packing and reading work, to the byte, where it is installed but cannot be imported."""
  code = (
    "import pathlib, sys\n"
    "from importlib.machinery import ModuleSpec\n"
    "class Broken:\n"
    "  def find_spec(self, name, *_):\n"
    "    return ModuleSpec(name, self) if name == 'tensorflow' else None\n"
    "  def create_module(self, spec): raise ImportError('tensorflow was imported')\n"
    "  def exec_module(self, module): pass\n"
    "sys.meta_path.insert(0, Broken())\n"
    "from asmjax.data.packing import pack; from asmjax.data.tfds import Tfds\n"
    "packed, again = map(pathlib.Path, sys.argv[1:])\n"
    "sources = {split: Tfds(str(packed), split) for split in ('train', 'val')}\n"
    "pack(sources, again, examples_per_shard=2)\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  arguments = [sys.executable, "-c", code, str(packed), str(tmp_path)]
  subprocess.run(arguments, check=True, cwd=ROOT, timeout=300)
  expected, repacked = contents(packed), contents(tmp_path)
  del expected["asmjax.json"], repacked["asmjax.json"]  # Knows splits that were not packed.
  assert repacked == expected


def test_pack_writes_a_data_set_of_tensorflow_datasets(packed):
  """Its own reader finds the splits, the class names and the same arrays."""
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(packed)
  assert builder.info.features["label"].names == list(EVERYTHING.classes)
  assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
    "train": 5,
    "val": 2,
  }
  assert builder.info.splits["train"].num_bytes == sum(
    path.stat().st_size for path in pathlib.Path(packed).glob("*-train.*-of-0000?")
  )
  example = builder.as_data_source("train")[4]
  np.testing.assert_array_equal(example["image"], noise(4)["image"])
  np.testing.assert_array_equal(example["instance"], noise(4)["instance"])
