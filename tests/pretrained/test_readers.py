"""Files in, arrays out, and nothing else happens."""

import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from asmjax.pretrained import read
from asmjax.pretrained.readers import READERS


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


def arrays():
  rng = np.random.default_rng(0)
  return {
    "a.weight": rng.normal(size=(2, 3)).astype(np.float32),
    "half": rng.normal(size=(4,)).astype(np.float16),
    "brain": rng.normal(size=(5,)).astype(ml_dtypes.bfloat16),
    "count": np.array(7, np.int64),
  }


def assert_same(stored, expected):
  assert stored.keys() == expected.keys()
  for name, array in expected.items():
    wide = array.dtype == ml_dtypes.bfloat16
    assert stored[name].dtype == (np.float32 if wide else array.dtype)
    np.testing.assert_array_equal(stored[name], array.astype(np.float32) if wide else array)


def test_read_returns_safetensors(tmp_path):
  save_file(arrays(), tmp_path / "x.safetensors")
  assert_same(read(tmp_path / "x.safetensors", "safetensors"), arrays())
  assert_same(read(str(tmp_path / "x.safetensors"), "safetensors"), arrays())


@pytest.mark.parametrize(
  "wrap",
  [
    lambda state: state,
    lambda state: {"epoch": 3, "state_dict": state},
    lambda state: {"model": state, "lr": 0.1},
    lambda state: {f"module.{name}": each for name, each in state.items()},
  ],
  ids=["alone", "state_dict", "model", "data_parallel"],
)
def test_read_returns_state_dicts(tmp_path, torch, wrap):
  expected = arrays()
  brain = expected["brain"].astype(np.float32)
  state = {name: torch.tensor(array) for name, array in expected.items() if name != "brain"}
  state["brain"] = torch.nn.Parameter(torch.tensor(brain).bfloat16())
  torch.save(wrap(state), tmp_path / "x.pth")
  assert_same(read(tmp_path / "x.pth", "torch"), expected)


def test_read_drops_only_a_prefix_of_all_names(tmp_path, torch):
  torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.pth")
  assert set(read(tmp_path / "x.pth", "torch")) == {"module.a", "b"}


class Exploit:
  """Creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_read_runs_no_code_in_a_file(tmp_path, torch):
  trace = tmp_path / "it_ran"
  torch.save({"a": torch.ones(1), "b": Exploit(trace)}, tmp_path / "x.pth")
  with pytest.raises(ValueError, match="more than tensors: save the state_dict alone") as error:
    read(tmp_path / "x.pth", "torch")
  assert not trace.exists() and "weights_only" not in str(error.value)
  torch.load(tmp_path / "x.pth", weights_only=False)
  assert trace.exists()


@pytest.mark.parametrize(
  "content, message",
  [
    ([1, 2], "found .*a list; expected a dict of tensors"),
    ({"epoch": 3, "lr": 0.1}, r"no tensor under \['epoch', 'lr'\]"),
  ],
)
def test_read_refuses_anything_but_tensors(tmp_path, torch, content, message):
  torch.save(content, tmp_path / "x.pth")
  with pytest.raises(ValueError, match=message):
    read(tmp_path / "x.pth", "torch")


@pytest.mark.parametrize("format", ["safetensors", "torch"])
@pytest.mark.parametrize(
  "damage",
  [
    lambda content: content[: len(content) // 2],
    lambda content: content[:5],
    lambda content: b"",
    lambda content: b"<!DOCTYPE html><title>404</title>" * 9,
  ],
  ids=["half", "start", "empty", "html"],
)
def test_read_names_damaged_files(tmp_path, torch, format, damage):
  path = tmp_path / "x.weights"
  if format == "torch":
    torch.save({"a": torch.ones(100)}, path)
  else:
    save_file({"a": np.ones(100)}, path)
  assert set(read(path, format)) == {"a"}
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=rf"x.weights: expected {format} weights, found \d+ bytes"):
    read(path, format)


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_read_names_missing_files_and_folders(tmp_path, torch, format):
  with pytest.raises(FileNotFoundError, match="nothing.x does not exist; expected a .* file"):
    read(tmp_path / "nothing.x", format)
  with pytest.raises(FileNotFoundError, match="is a folder; expected a .* file"):
    read(tmp_path, format)


def test_read_refuses_unknown_formats(tmp_path):
  with pytest.raises(
    ValueError, match=f"unknown format of weights 'onnx'; known: .*{sorted(READERS)[0]}"
  ):
    read(tmp_path / "x.onnx", "onnx")


@pytest.mark.parametrize("format, extra", [("torch", "bench"), ("tensorflow", "tf")])
def test_read_names_a_missing_package_with_its_extra(tmp_path, monkeypatch, format, extra):
  monkeypatch.setitem(sys.modules, format, None)
  with pytest.raises(ImportError, match=rf"pip install 'asmjax\[{extra}\]'"):
    read(tmp_path / "x", format)


@pytest.fixture
def checkpoint(tmp_path):
  """The prefix of a checkpoint of TensorFlow, with the arrays and one of its graph."""
  tensorflow = pytest.importorskip("tensorflow")
  variables = {name: tensorflow.Variable(array) for name, array in arrays().items()}
  return pathlib.Path(tensorflow.train.Checkpoint(**variables).write(str(tmp_path / "x.ckpt")))


def test_read_returns_tensorflow_checkpoints_by_prefix_and_by_file(checkpoint):
  suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
  for name in ("", ".index", ".data-00000-of-00001"):
    stored = read(checkpoint.with_name(checkpoint.name + name), "tensorflow")
    assert_same(
      {each.removesuffix(suffix): array for each, array in stored.items()},
      {name.replace(".", ".."): array for name, array in arrays().items()},
    )


def test_read_names_damaged_and_missing_checkpoints(checkpoint):
  with pytest.raises(FileNotFoundError, match=r"y.ckpt.index does not exist.*x.ckpt'\]"):
    read(checkpoint.with_name("y.ckpt"), "tensorflow")
  index = checkpoint.with_name(f"{checkpoint.name}.index")
  index.write_bytes(index.read_bytes()[:40])
  with pytest.raises(ValueError, match="x.ckpt: expected tensorflow weights"):
    read(checkpoint, "tensorflow")
