"""Readers: from files of weights to arrays by name, as the file names and lays them out."""

import importlib
import pathlib
import pickle
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from asmjax.config.schema import choose
from asmjax.utils import checkpoint_folder as folders

Weights = dict[str, np.ndarray]

# The checkpoint's prefix is what is left of the names of its files.
_CHECKPOINT_FILE = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")


def read(path: str | pathlib.Path, format: str) -> Weights:
  """Reads all arrays of a file by name.

  bfloat16 becomes float32, since NumPy has no such type of its own; other types stay.

  Args:
    path: Path of the file; of a TensorFlow checkpoint the prefix that its files share, or one of
      them; of a run the folder of one of its checkpoints, or its own, which means the last of them.
    format: Format of the file: "safetensors"; "torch", a state_dict as `torch.save` writes it,
      alone or under "state_dict" or "model", read without running any code that the file holds;
      "tensorflow", a checkpoint of TensorFlow 1 or 2; "orbax", the predictor of a run of this
      package by paths such as "params/conv1/kernel", with the moving average of its parameters if
      it kept one.

  Raises:
    ValueError: The format is unknown, or the file is not of that format or is damaged. Of a run the
      last checkpoint that is intact is read, and damage of a later one printed.
    FileNotFoundError: There is no such file.
    ImportError: The format needs a package of an extra that is not installed.
  """
  reader = choose(READERS, format, "format of weights")
  path = pathlib.Path(path).expanduser()
  try:
    weights = reader(path)
  except (ImportError, OSError, folders.DamagedError):
    raise
  except Exception as error:  # What a parser raises on arbitrary bytes is arbitrary.
    raise ValueError(
      f"{path}: expected {format} weights, found {_describe_content(path)} "
      f"({type(error).__name__}: {error})"
    ) from error
  return {
    name: array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
    for name, array in weights.items()
  }


def _read_safetensors(path: pathlib.Path) -> Weights:
  from safetensors.numpy import load_file

  _check_file(path, "a .safetensors file")
  return load_file(path)


def _read_torch(path: pathlib.Path) -> Weights:
  torch = _import_package("torch", extra="bench")
  _check_file(path, "a .pth or .pt file")
  try:
    content = torch.load(path, map_location="cpu", weights_only=True)
  except pickle.UnpicklingError as error:
    # The library's message proposes to run whatever the file holds.
    raise ValueError("damaged, or more than tensors: save the state_dict alone") from error
  tensors = _select_tensors(content, torch.Tensor)
  return {
    name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    for name, tensor in tensors.items()
  }


def _select_tensors(content: Any, tensor: type) -> Mapping[str, Any]:
  """Returns the tensors by name, without the prefix that `DataParallel` gives to all of them."""
  if not isinstance(content, Mapping):
    raise ValueError(f"a {type(content).__name__}; expected a dict of tensors")
  for key in ("state_dict", "model"):
    if isinstance(content.get(key), Mapping):
      content = content[key]
      break
  non_tensors = [name for name, value in content.items() if not isinstance(value, tensor)]
  if non_tensors:
    raise ValueError(
      f"no tensor under {non_tensors[:10]}; expected a dict of tensors, alone or under "
      "'state_dict' or 'model'"
    )
  prefix = "module." if all(name.startswith("module.") for name in content) else ""
  return {name.removeprefix(prefix): value for name, value in content.items()}


def _read_tensorflow(path: pathlib.Path) -> Weights:
  tensorflow = _import_package("tensorflow", extra="tf")
  reader = tensorflow.train.load_checkpoint(str(_find_prefix(path)))
  # Checkpoints of version 2 hold the graph of their objects as a string.
  return {
    name: np.asarray(reader.get_tensor(name))
    for name, dtype in reader.get_variable_to_dtype_map().items()
    if dtype != tensorflow.string
  }


def _find_prefix(path: pathlib.Path) -> pathlib.Path:
  prefix = path.with_name(_CHECKPOINT_FILE.sub("", path.name))
  if prefix.with_name(f"{prefix.name}.index").is_file():
    return prefix
  folder = path if path.is_dir() else path.parent
  prefixes = sorted(str(path.with_suffix("")) for path in folder.glob("*.index"))
  raise FileNotFoundError(
    f"{prefix}.index does not exist; expected the prefix of a TensorFlow checkpoint, as "
    f"x/model.ckpt of x/model.ckpt.index; in {folder}: {prefixes or 'none'}"
  )


def _read_orbax(path: pathlib.Path) -> Weights:
  list_checkpoints = lambda: folders.list_newest_first(path / "checkpoints")
  if list_checkpoints():
    return folders.read_intact(list_checkpoints, _read_checkpoint)
  if path.is_dir() and folders.is_step(path) or (path / folders.MANIFEST).is_dir():
    return _read_checkpoint(path)
  raise FileNotFoundError(
    f"{path} holds neither {folders.MANIFEST} nor checkpoints/STEP; expected the folder of a run "
    "or of one of its checkpoints"
  )


def _read_checkpoint(folder: pathlib.Path) -> Weights:
  """Reads no more than it returns: a checkpoint also holds the critics and the optimizers."""
  places = _locate_predictor(folders.read_manifest(folder).digests[folders.STATE])
  arrays = folders.read_arrays(folder, folders.STATE, set(places.values()))
  return {name: arrays[place] for name, place in places.items()}


def _locate_predictor(stored: Iterable[str]) -> dict[str, str]:
  """Maps names of the predictor's variables to the places of their values for evaluation."""
  root = "players/predictor"
  params, stats = (
    [name for name in stored if name.startswith(f"{root}/{kind}/")]
    for kind in ("params", "batch_stats")
  )
  if not params:
    raise ValueError(f"no {root}/params, but {sorted(stored)[:10]}")
  places = {name.removeprefix(f"{root}/"): name for name in params + stats}
  average = re.compile(rf"{root}/opt_state/(?:\d+/)*ema/(.+)")
  averages = {f"params/{match[1]}": match[0] for match in map(average.fullmatch, stored) if match}
  return places | averages


READERS = {
  "orbax": _read_orbax,
  "safetensors": _read_safetensors,
  "tensorflow": _read_tensorflow,
  "torch": _read_torch,
}


def _import_package(name: str, *, extra: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ImportError(
      f"reading {name} weights needs the package {name}: pip install 'asmjax[{extra}]'"
    ) from error


def _check_file(path: pathlib.Path, expected: str) -> None:
  if not path.is_file():
    problem = "is a folder" if path.is_dir() else "does not exist"
    if (path / "checkpoints").is_dir():
      problem = 'is the folder of a run, which the format "orbax" reads'
    raise FileNotFoundError(f"{path} {problem}; expected {expected}")


def _describe_content(path: pathlib.Path) -> str:
  if not path.is_file():  # The prefix of several files, or a folder.
    return "something else"
  with path.open("rb") as file:
    return f"{path.stat().st_size} bytes that begin with {file.read(8)!r}"
