"""Files that appear complete or not at all, and JSON in them."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

# End of the names of files that are being written; a killed process may leave some behind.
PARTIAL = ".part"


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a temporary path to write to, and moves that file to `path` once the block succeeds.

  The temporary file lies in the same folder, since a rename is atomic only within a file system,
  and has the process in its name, so that two processes never write to one file.

  Args:
    path: Path of the file to write; its folder is created if it is missing.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def to_json(content: Any) -> str:
  """Formats content as indented JSON, in which a number that is not finite becomes null."""
  return json.dumps(_finite(content), indent=2)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes content as JSON, atomically; see `to_json`."""
  with atomic_write(path) as temporary:
    temporary.write_text(to_json(content) + "\n")


def read_json(path: pathlib.Path) -> Any:
  """Reads what a JSON file holds."""
  return json.loads(path.read_text("utf-8"))


def append_jsonl(path: pathlib.Path, entry: Any) -> None:
  """Appends an entry to a JSON Lines file; a number that is not finite becomes null."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    file.write(json.dumps(_finite(entry)) + "\n")


def read_jsonl(path: pathlib.Path) -> list[Any]:
  """Reads the entries of a JSON Lines file.

  Args:
    path: Path of the file; a missing one has no entries. A last line without a line feed is left
      out: it is still being written, or its writer was killed.
  """
  lines = path.read_text().split("\n")[:-1] if path.exists() else []
  return [json.loads(line) for line in lines]


def write_jsonl(path: pathlib.Path, entries: Iterable[Any]) -> None:
  """Writes a JSON Lines file, atomically."""
  with atomic_write(path) as temporary:
    temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays as a compressed NumPy archive, atomically."""
  with atomic_write(path) as temporary, temporary.open("wb") as file:
    # Among its keywords NumPy has an option, which no array is called after.
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _finite(tree: Any) -> Any:
  """Replaces NaN and infinity, which JSON lacks, by None: the IoU of an absent class is NaN."""
  if isinstance(tree, Mapping):
    return {name: _finite(value) for name, value in tree.items()}
  return None if isinstance(tree, float) and not math.isfinite(tree) else tree
