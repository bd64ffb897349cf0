"""Folders of checkpoints: what lies in one, read and held against digests of what was saved.

| in the folder `STEP` | content                                                      |
|----------------------|--------------------------------------------------------------|
| `state`, ...         | arrays of an item, as Orbax writes a pytree                   |
| `manifest`           | metrics, other values, and the digest of every array          |

A digest is the CRC-32 of an array's name, type, shape and bytes. It finds every flipped bit, every
run of damaged bits up to 32, and all else with probability 1 - 2**-32. It is there against
accidents: whoever wants to deceive can write a manifest. Of Python's digests it is the fastest, 5
times as fast as BLAKE2b.
"""

import contextlib
import errno
import json
import math
import pathlib
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree

from asmjax.utils.files import read_json_object
from asmjax.utils.trees import join_path, leaves_by_path

# Items of a checkpoint: the training state, the arrays of a schedule, and the manifest.
STATE, ARRAYS, MANIFEST = "state", "arrays", "manifest"

# Errors of the operating system that say nothing about the files.
_NOT_OF_FILES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EINTR)
# The same in the words of TensorStore, which Orbax reads with.
_NOT_OF_FILES_WORDS = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED")

T = TypeVar("T")


class DamagedError(ValueError):
  """Error of a checkpoint that is not as it was written."""


class Manifest(NamedTuple):
  """What a checkpoint holds besides its arrays.

  Attributes:
    metrics: Metrics of the state's evaluation by name; empty if it was not evaluated.
    fields: Other values of the run's schedule by name; empty if it has none.
    digests: Digest of each array by item and by path.
  """

  metrics: dict[str, float]
  fields: dict[str, Any]
  digests: dict[str, dict[str, str]]


def make_manifest(
  items: Mapping[str, PyTree], metrics: Mapping[str, float], fields: Mapping[str, Any]
) -> dict[str, Any]:
  """Makes the content of the manifest's file: a `Manifest` with a digest of its own.

  Args:
    items: Pytree of arrays of each item, on the host.
    metrics: Metrics by name.
    fields: Other values by name, in the types of JSON.
  """
  digests = {
    item: {name: _digest(name, array) for name, array in leaves_by_path(tree).items()}
    for item, tree in items.items()
  }
  content = Manifest(dict(metrics), dict(fields), digests)._asdict()
  return {"content": content, "digest": _digest_json(content)}


def read_manifest(folder: pathlib.Path) -> Manifest:
  """Reads the manifest of a checkpoint.

  Raises:
    DamagedError: It is missing, or not as it was written.
  """
  path = folder / MANIFEST / "metadata"  # As Orbax calls the file of a JSON item.
  with damage_of(path):
    stored = read_json_object(path)
    content = stored["content"]
    if _digest_json(content) != stored["digest"]:
      raise ValueError("its digest differs")
    return Manifest(**content)


def read_arrays(
  folder: pathlib.Path, item: str, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads arrays of a checkpoint, by path.

  Args:
    folder: Folder of the checkpoint.
    item: Item to read, a key of the manifest's digests.
    names: Paths of the arrays to read; None, the default, for all of the item.

  Raises:
    DamagedError: An array is not as it was written, or the item cannot be read.
    KeyError: The checkpoint was written without this item.
  """
  digests = read_manifest(folder).digests[item]
  wanted = digests.keys() if names is None else set(names)
  with damage_of(folder / item):
    arrays = _restore(folder / item, digests.keys(), wanted)
    for name in wanted:
      if _digest(name, arrays[name]) != digests[name]:
        raise ValueError(f"the digest of {name} differs")
  return {name: arrays[name] for name in wanted}


def verify(folder: pathlib.Path) -> Manifest:
  """Reads all of a checkpoint, and returns its manifest.

  Raises:
    DamagedError: Something in it is not as it was written.
  """
  manifest = read_manifest(folder)
  for item in manifest.digests:
    read_arrays(folder, item)
  return manifest


def list_newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
  """Lists the folders of complete checkpoints, whose names are the numbers of their steps."""
  steps = [int(path.name) for path in directory.glob("*") if is_step(path)]
  return [directory / str(step) for step in sorted(steps, reverse=True)]


def list_best_first(directory: pathlib.Path, metric: str) -> list[pathlib.Path]:
  """Lists the same by a metric, the largest value first, and those that were not evaluated last.

  Checkpoints with a damaged manifest come first: any of them may have been the best.
  """
  ranks = {path: _rank(path, metric) for path in list_newest_first(directory)}
  return sorted(ranks, key=ranks.__getitem__, reverse=True)


def is_step(path: pathlib.Path) -> bool:
  """Returns whether a path has the name of a complete checkpoint."""
  # One that is being written, was left incomplete or found damaged has a longer name.
  return path.name.isdecimal() and path.name == str(int(path.name))


def read_intact(
  list_folders: Callable[[], Iterable[pathlib.Path]],
  read: Callable[[pathlib.Path], T],
  report: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> T:
  """Reads the first checkpoint of a list that is intact; another process may still be writing.

  Args:
    list_folders: Function that lists the checkpoints that there are now, the preferred one first.
      It is called again if one disappears before it is read.
    read: Function of a checkpoint's folder that raises DamagedError if that is damaged.
    report: Function that is called with a sentence on each damaged checkpoint that another is read
      for; by default it prints to standard error.

  Returns:
    Result of `read`.

  Raises:
    FileNotFoundError: There is no checkpoint.
    DamagedError: None is intact.
  """
  damaged: dict[pathlib.Path, DamagedError] = {}
  while True:
    folders = list(list_folders())
    folder = next((path for path in folders if path not in damaged), None)
    if folder is None:
      if damaged:
        raise DamagedError(f"{next(iter(damaged.values()))}; no other checkpoint is intact")
      raise FileNotFoundError("there is no checkpoint")
    try:
      result = read(folder)
    except DamagedError as error:
      if folder.exists():  # Else the training has removed it meanwhile.
        damaged[folder] = error
      continue
    for error in damaged.values():
      report(f"{error}; {folder} is used instead")
    return result


def _rank(folder: pathlib.Path, metric: str) -> tuple[float, float, int]:
  """Returns what checkpoints are sorted by: whether it was evaluated, the metric and the step."""
  try:
    metrics = read_manifest(folder).metrics
  except DamagedError:
    return (2, 0, int(folder.name))
  if metric not in metrics:
    return (0, 0, int(folder.name))
  return (1, rank_metric(metrics[metric]), int(folder.name))


def rank_metric(value: float) -> float:
  """Returns a metric's value as it is compared: NaN is worst."""
  return -math.inf if math.isnan(value) else value


def _digest(name: str, array: Any) -> str:
  array = np.asarray(array)
  start = zlib.crc32(f"{name} {array.dtype} {array.shape} ".encode())
  # As bytes, since NumPy exports no buffer of bfloat16.
  data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
  return f"{zlib.crc32(data, start):08x}"


def _digest_json(content: Any) -> str:
  """Returns the digest of what a JSON file will give back: tuples become lists, keys strings."""
  text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
  return f"{zlib.crc32(text.encode()):08x}"


def _restore(
  path: pathlib.Path, names: Collection[str], wanted: Collection[str]
) -> dict[str, np.ndarray]:
  """Reads the wanted arrays of an item that must have exactly these names."""
  import orbax.checkpoint as ocp
  from etils import epath

  folder = epath.Path(path.absolute())  # Orbax refuses relative paths.
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
    stored = handler.metadata(folder).tree
    if differing := sorted(leaves_by_path(stored).keys() ^ set(names)):
      raise ValueError(f"it has other arrays than were saved: {differing[:3]}")
    item = jax.tree_util.tree_map_with_path(
      lambda path, _: 0 if join_path(path) in wanted else ocp.PLACEHOLDER, stored
    )
    types = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    restored = handler.restore(folder, args=ocp.args.PyTreeRestore(item=item, restore_args=types))
  return leaves_by_path(restored)


@contextlib.contextmanager
def damage_of(path: pathlib.Path) -> Iterator[None]:
  """Turns what reading arbitrary bytes raises, which is arbitrary, into a DamagedError.

  Errors of the system that say nothing about the file stay errors of the system.

  Args:
    path: Path of what is read, for the message.
  """
  try:
    yield
  except Exception as error:
    text = " ".join(str(error).split())
    if getattr(error, "errno", None) in _NOT_OF_FILES or isinstance(error, MemoryError):
      raise
    if any(word in text for word in _NOT_OF_FILES_WORDS):
      raise OSError(f"{path} cannot be read: {text[:200]}") from error
    reason = text[:200] if type(error) is ValueError else f"{type(error).__name__}: {text[:200]}"
    raise DamagedError(f"{path} is damaged ({reason})") from error
