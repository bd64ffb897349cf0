"""Wrapped sources: the same examples from memory, or with other classes."""

import dataclasses
import pickle

import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor
from asmjax.data.wrappers import InMemory, RemapClasses, base_split, drop_unreadable, open_split

NAMES = ("sky", "cat", "road", "dog")


@dataclasses.dataclass(frozen=True)
class Pets:
  """Every example holds all classes and unlabeled pixels; reads are recorded."""

  split: str = "train"
  reads: list = dataclasses.field(default_factory=list)
  descriptor = Descriptor(
    "pets", NAMES, ((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)), ("train",), frozenset({"label"})
  )

  def __len__(self):
    return 3

  def __getitem__(self, index):
    self.reads.append(index)
    label = np.array([[0, 1, 2, 3, UNLABELED]], np.int32)
    return {"image": np.full((1, 5, 3), index, np.uint8), "label": np.roll(label, index)}

  def files(self, index):
    return {"image": f"{index}.jpg"}


def test_in_memory_decodes_once_and_is_read_only():
  source = Pets()
  cached = InMemory(source)
  assert (len(cached), cached.split, cached.descriptor) == (3, "train", source.descriptor)
  cached[1].clear()
  for key, value in Pets()[1].items():
    np.testing.assert_array_equal(cached[1][key], value)
  assert source.reads == [1] and cached.files(2) == {"image": "2.jpg"}
  with pytest.raises(ValueError, match="read-only"):
    cached[1]["image"][:] = 0


def test_in_memory_is_pickled_empty():
  cached = InMemory(Pets())
  cached[0], cached[1]
  sent = pickle.loads(pickle.dumps(cached))
  assert len(pickle.dumps(cached)) == len(pickle.dumps(sent))
  before = len(sent._source.reads)
  np.testing.assert_array_equal(sent[1]["label"], cached[1]["label"])
  assert len(sent._source.reads) == before + 1


def test_drop_unreadable_keeps_order():
  @dataclasses.dataclass(frozen=True)
  class Broken(Pets):
    def __getitem__(self, index):
      if index == 1:
        raise ValueError("1.jpg is cut")
      return super().__getitem__(index)

  faults = []
  kept = drop_unreadable(Broken(), faults.append)
  assert faults == ["1.jpg is cut"] and len(kept) == 2 and kept.descriptor == Pets().descriptor
  assert [int(kept[index]["image"].max()) for index in range(2)] == [0, 2]
  assert kept.files(1) == {"image": "2.jpg"}
  with pytest.raises(IndexError):
    kept[2]


def test_remap_classes_renumbers_joins_and_drops():
  source = RemapClasses(Pets(), {"dog": 1, "road": 0, "cat": 1})
  assert source.descriptor.classes == ("road", "cat+dog")
  assert source.descriptor.palette == ((3, 3, 3), (2, 2, 2))
  assert (len(source), source.split, source.files(0)) == (3, "train", {"image": "0.jpg"})
  for index in range(3):
    example = source[index]
    expected = np.roll([[UNLABELED, 1, 0, 1, UNLABELED]], index)
    np.testing.assert_array_equal(example["label"], expected)
    assert example["label"].dtype == np.int32
    np.testing.assert_array_equal(example["image"], Pets()[index]["image"])


def test_remap_classes_by_same_ids_is_identity():
  remapped = RemapClasses(Pets(), {name: index for index, name in enumerate(NAMES)})
  assert remapped.descriptor == Pets().descriptor
  np.testing.assert_array_equal(remapped[2]["label"], Pets()[2]["label"])


@pytest.mark.parametrize(
  ("classes", "message"),
  [
    ({"cow": 0}, "pets has no class 'cow'; known: sky, cat, road, dog"),
    ({"cat": 1, "dog": 2}, r"new ids \[1, 2\].*expected 0, 1, 2"),
    ({"cat": 0, "dog": 255}, r"new ids \[0, 255\]"),
  ],
)
def test_remap_classes_refuses_bad_classes(classes, message):
  with pytest.raises(ValueError, match=message):
    RemapClasses(Pets(), classes)


@dataclasses.dataclass(frozen=True)
class Numbers:
  """Examples that are their own indices."""

  length: int
  split: str
  descriptor = Pets.descriptor

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    return index

  def files(self, index):
    return {"image": f"{index}.jpg"}


def sliced(part, length):
  return open_split(lambda name: Numbers(length, name), f"train[{part}]")


def examples(source):
  return [source[index] for index in range(len(source))]


@pytest.mark.parametrize("length", [7, 100, 192, 715, 1464])
@pytest.mark.parametrize(
  "part",
  [
    ":80%",
    "80%:",
    "-20%:",
    ":-20%",
    "25%:75%",
    "-60%:90%",
    "33.3%:66.7%",
    ":5",
    "2:",
    "-3:",
    ":-1",
    "1:-1",
    "0%:100%",
  ],
)
def test_open_split_agrees_with_tfds(part, length):
  splits = pytest.importorskip("tensorflow_datasets").core.splits
  info = splits.SplitInfo(name="train", shard_lengths=[length], num_bytes=1)
  (known,) = splits.ReadInstruction.from_spec(f"train[{part}]").to_absolute({"train": info})
  source = sliced(part, length)
  assert examples(source) == list(range(length))[known.from_ : known.to] != []
  assert source.split == f"train[{part}]" and source.files(0)["image"] == f"{source[0]}.jpg"
  with pytest.raises(IndexError):
    source[len(source)]


@pytest.mark.parametrize("length", range(1, 60))
def test_open_split_puts_every_example_on_one_side(length):
  for bound in ("50%", "12.5%", "80%", "-20%", "-1", "1"):
    indices = []
    for part in (f":{bound}", f"{bound}:"):
      try:
        indices += examples(sliced(part, length))
      except ValueError as error:
        assert "is empty" in str(error)
    assert indices == list(range(length))


def test_open_split_opens_complete_splits_unchanged():
  assert open_split(lambda name: Numbers(3, name), "val") == Numbers(3, "val")
  assert base_split("train[-20%:]") == "train" and base_split("fold1_train") == "fold1_train"
  assert base_split("train[:2]+test[2:]") == "train[:2]+test[2:]"


@pytest.mark.parametrize(
  ("part", "message"),
  [
    ("80%", r"malformed slice 'train\[80%\]'; expected NAME\[FROM:TO\]"),
    ("a:b", "malformed"),
    ("", "malformed"),
    ("1:2:3", "malformed"),
    ("1.5:", "malformed"),
    ("3:50%", "malformed"),
    ("5:5", "'train.5:5.' is empty: examples 5 to 5 of 10"),
    ("80%:20%", "empty: examples 8 to 2 of"),
    (":11", "beyond the 10 examples"),
    ("-11:", "beyond the 10"),
    (":110%", "beyond the 10 examples"),
  ],
)
def test_open_split_refuses_bad_slices(part, message):
  with pytest.raises(ValueError, match=message):
    sliced(part, 10)
