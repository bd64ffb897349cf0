"""Maps that earlier models have predicted for whole data sets: written, kept and read as examples.

Each process writes the maps of a model and a part of the data into one zip file, whose members are
NumPy arrays: compressed, read one by one, and never there before they are complete. The file has a
CRC-32 of each array, which is checked whenever that is read, and a list of all of them.
"""

import functools
import io
import json
import mmap
import pathlib
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, cast

import jax
import numpy as np

from asmjax.batch import REPLAY
from asmjax.data.descriptor import Descriptor, Source, check_index
from asmjax.data.transforms import Example
from asmjax.utils.checkpoint_folder import damage_of
from asmjax.utils.files import atomic_write

# How the predictions of each kind of truth are stored, and what a batch holds. Labels fit a byte
# (255 is "unlabeled"); float16 has 11 bits, a relative error of 5e-4, far below that of any
# prediction of depths or normals, and halves the files.
_STORED = {"label": np.uint8, "depth": np.float16, "normals": np.float16}
_REPLAYED = {"label": np.int32, "depth": np.float32, "normals": np.float32}
_PARSING = threading.Lock()
# Member that lists the others.
_NAMES = "names.json"

Predictions = Iterable[tuple[int, Mapping[str, np.ndarray]]]


class MapStore:
  """Store of maps in a folder, by model and part of the data."""

  def __init__(self, folder: pathlib.Path, *, cache_bytes: int):
    """Opens a folder, which need not exist.

    Args:
      folder: Folder of the maps, one for all processes.
      cache_bytes: Bytes of compressed maps that are read into memory; further maps are
        memory-mapped.
    """
    self._folder = folder
    self._cache_bytes = cache_bytes

  def write(self, model: int, part: str, predictions: Predictions) -> None:
    """Writes this process's share of the maps of a model, atomically.

    Args:
      model: Number of the model.
      part: Part of the data, such as "train".
      predictions: Pairs of an example's index and its predictions by kind of truth.
    """
    path = self._shard(model, part, jax.process_index())
    # Label maps hardly become smaller at a higher level.
    archive = functools.partial(zipfile.ZipFile, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    names = []
    with atomic_write(path) as temporary, archive(temporary, "w") as file:
      for index, maps in predictions:
        for key, value in maps.items():
          array = np.asarray(value).astype(_STORED[key])
          names.append(f"{key}/{index}.npy")
          with file.open(names[-1], "w") as member:
            np.lib.format.write_array(member, array, version=(1, 0))
      file.writestr(_NAMES, json.dumps(names))

  def read(self, models: Sequence[int], part: str) -> list["ModelMaps"]:
    """Opens the maps of each of the models.

    Raises:
      FileNotFoundError: The maps of a process are missing.
    """
    remaining, opened = self._cache_bytes, {}
    for model in dict.fromkeys(models):
      paths = [self._shard(model, part, process) for process in range(jax.process_count())]
      missing = [path for path in paths if not path.exists()]
      if missing:
        raise FileNotFoundError(f"{missing[0]} is missing; expected the maps of model {model}")
      size = sum(path.stat().st_size for path in paths)
      opened[model] = ModelMaps(paths, in_memory=size <= remaining)
      remaining -= size if size <= remaining else 0
    return [opened[model] for model in models]

  def keep(self, models: Iterable[int]) -> None:
    """Removes the maps of all other models."""
    kept = {str(model) for model in models}
    if jax.process_index() > 0:
      return
    for folder in self._folder.glob("*"):
      if folder.name not in kept:
        shutil.rmtree(folder)

  def _shard(self, model: int, part: str, process: int) -> pathlib.Path:
    name = f"{part}.{process}-of-{jax.process_count()}.zip"
    return self._folder / str(model) / name


class ModelMaps:
  """Maps of one model by the index of the example; can be sent to other processes.

  Raises:
    DamagedError: A file is not as it was written, which each use checks for what it reads.
  """

  def __init__(self, paths: Sequence[pathlib.Path], *, in_memory: bool):
    """Opens complete files, one of each process, by memory-mapping them unless `in_memory`."""
    self._paths = tuple(paths)
    self._in_memory = in_memory

  @functools.cached_property
  def indices(self) -> tuple[int, ...]:
    """Indices of the examples that have maps, in their order."""
    return tuple(sorted({int(pathlib.PurePath(name).stem) for name in self._members}))

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Reads the maps of example `index`, by the keys of a batch."""
    names = {key: f"{key}/{index}.npy" for key in _STORED}
    return {
      REPLAY + key: self._read(name).astype(_REPLAYED[key])
      for key, name in names.items()
      if name in self._members
    }

  def __getstate__(self) -> dict:
    return {"_paths": self._paths, "_in_memory": self._in_memory}

  @functools.cached_property
  def _members(self) -> dict[str, tuple[pathlib.Path, zipfile.ZipFile]]:
    """Path and archive of each array."""
    members = {}
    for path in self._paths:
      with damage_of(path):
        shard = zipfile.ZipFile(self._opened(path))
        names = json.loads(shard.read(_NAMES))
        if sorted(shard.namelist()) != sorted([*names, _NAMES]):
          raise ValueError("it does not have the arrays that were written")
        members |= dict.fromkeys(names, (path, shard))
    return members

  def _read(self, name: str) -> np.ndarray:
    path, shard = self._members[name]
    with damage_of(path):
      return _array(shard.read(name))

  def _opened(self, path: pathlib.Path) -> IO[bytes]:
    if self._in_memory:
      return io.BytesIO(path.read_bytes())
    with path.open("rb") as file:
      # A mapped file reads and seeks like any other.
      return cast(IO[bytes], _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Mapped(mmap.mmap):
  """Mapped file that says that it can seek, as `zipfile` asks it and Python 3.13's own does."""

  def seekable(self) -> bool:
    return True


def _array(member: bytes) -> np.ndarray:
  """Parses a `.npy` file of version 1.0."""
  start = 10 + int.from_bytes(member[8:10], "little")
  shape, by_column, dtype = _header(member[8:start])
  order = "F" if by_column else "C"
  return np.frombuffer(member, dtype, offset=start).reshape(shape, order=order)


@functools.lru_cache
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Parses the header of a `.npy` file: shape, whether it is stored by column, and type.

  `np.load` parses every header anew, and Python 3.11 fails at times where threads do that at once.
  Most headers are alike; the lock is for the others.
  """
  with _PARSING:
    return np.lib.format.read_array_header_1_0(io.BytesIO(header))


class AggregatedMaps:
  """Source of every pair of an example and a map that the buffer has of it.

  So truths and predictions weigh the same, however many sets there are (Jamali-Rad and Szabo 2022,
  Sec. 4): the critic gets an example's truth as often as all its maps together.
  """

  def __init__(
    self, source: Source, sets: Sequence[ModelMaps], resize: Callable[[Example], Example]
  ) -> None:
    """Pairs examples, which `resize` brings to the size of their predictions, and maps."""
    self.descriptor: Descriptor = source.descriptor
    self.split: str = source.split
    self._source = source
    self._resize = resize
    self._pairs = [(maps, index) for maps in sets for index in maps.indices]

  def __len__(self) -> int:
    """Number of pairs of an example and a map."""
    return len(self._pairs)

  def __getitem__(self, index: int) -> Example:
    """Pair `index`: the example, and what a model has predicted for it."""
    check_index(index, len(self))
    maps, source_index = self._pairs[index]
    example = self._resize(self._source[source_index])
    height, width = example["image"].shape[:2]
    # The image was padded when it was predicted.
    replayed = {key: value[:height, :width] for key, value in maps[source_index].items()}
    return {**example, **replayed}

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that pair `index` is read from, by key."""
    return self._source.files(self._pairs[index][1])
