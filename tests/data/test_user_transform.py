"""A user's function among the transforms: from a module or a file, and what it may get wrong."""

import pickle

import numpy as np
import pytest

from asmjax.config.data import Data
from asmjax.data.user_transform import UserTransform
from tests.data.test_transforms import example

CODE = '''
from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Settings:
  """Looks its module up by name."""

  probability: float

def rotate(example, rng):
  """Half a turn, with probability 1/2."""
  if rng.random() < 0.5:
    return example
  turned = {key: value[::-1, ::-1] for key, value in example.items()}
  turned["normals"] = turned["normals"] * np.array([-1, -1, 1], np.float32)
  return turned

def write(example, rng):
  example["image"][:] = 7
  return example

def forget(example, rng):
  return None

def drop(example, rng):
  del example["depth"]
  return example

def shrink(example, rng):
  return example | {"label": example["label"][:5]}

def widen(example, rng):
  return example | {"label": example["label"].astype(np.int64)}
'''


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(CODE)
  return path


def test_user_transform_moves_everything_together(file):
  transform = UserTransform(f"{file}:rotate")
  turned, original = 0, example()
  for seed in range(20):
    result = transform(original, np.random.default_rng(seed))
    if np.array_equal(result["image"], original["image"]):
      continue
    turned += 1
    for key in ("image", "label", "depth", "instance"):
      np.testing.assert_array_equal(result[key], np.rot90(original[key], 2))
  assert 3 < turned < 17


def test_user_transform_imports_modules(file, monkeypatch):
  monkeypatch.syspath_prepend(file.parent)
  assert (UserTransform("mine:write")(example(), None)["image"] == 7).all()


def test_user_transform_may_write_into_its_example(file):
  original = example()
  for value in original.values():
    value.setflags(write=False)
  assert (UserTransform(f"{file}:write")(original, None)["image"] == 7).all()
  np.testing.assert_array_equal(original["image"], example()["image"])


def test_user_transform_goes_to_reader_processes(file):
  transform = pickle.loads(pickle.dumps(UserTransform(f"{file}:write")))
  assert (transform(example(), None)["image"] == 7).all()


def test_train_transform_has_the_function_of_the_config(file):
  data = Data("folder", (24, 40), flip=False, transform=f"{file}:write")
  rng = np.random.default_rng(0)
  assert (data.train_transform((0, 0, 0))(example(), rng)["image"][:20, :32] == 7).all()
  evaluated = data.eval_transform((0, 0, 0))(example(), rng)["image"]
  np.testing.assert_array_equal(evaluated[:20, :32], example()["image"])


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("forget", "forget returns is a NoneType; expected a dict"),
    ("drop", r"drop returns has \['image', .*expected \['depth', 'image'"),
    ("shrink", r"shrink returns, as a batch of one: .*'label' is int32\(1, 5, 32\)"),
    ("widen", "widen returns, as a batch of one: batch key 'label' is int64"),
  ],
)
def test_user_transform_refuses_other_results(file, name, message):
  with pytest.raises(ValueError, match=message):
    UserTransform(f"{file}:{name}")(example(), None)


def test_user_transform_refuses_labels_of_no_class(file):
  labels = example()["label"]
  highest = int(labels[labels != 255].max())
  UserTransform(f"{file}:write", num_classes=highest + 1)(example(), None)
  with pytest.raises(ValueError, match=f"write returns holds {highest}; expected 0..{highest - 1}"):
    UserTransform(f"{file}:write", num_classes=highest)(example(), None)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("mine", "transform is 'mine'; expected MODULE:FUNCTION, .*or FILE.py:FUNCTION"),
    ("no_such_module:f", "'no_such_module:f' cannot be imported .No module"),
    ("missing.py:f", r"'missing\.py:f' cannot be imported"),
    ("numpy:no_such", "numpy has no function 'no_such'"),
  ],
)
def test_user_transform_refuses_unknown_functions(name, message):
  with pytest.raises(ValueError, match=message):
    UserTransform(name)
