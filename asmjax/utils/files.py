"""Files that appear complete or not at all, and JSON in them."""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from asmjax.utils.exhaustion import FULL_OR_READ_ONLY, WriteError

# End of the names of files that are being written; a killed process may leave some behind.
PARTIAL = ".part"


@contextlib.contextmanager
def atomic_write(path: pathlib.Path, *, durable: bool = True) -> Iterator[pathlib.Path]:
  """Gives a temporary path to write to, and moves that file to `path` once the block succeeds.

  The temporary file lies in the same folder, since a rename is atomic only within a file system,
  and has the process in its name, so that two processes never write to one file.

  Args:
    path: Path of the file to write; its folder is created if it is missing.
    durable: Whether to wait until the disk has it, so that after a crash of the machine `path` is
      the old file or the new one. False for the many files that the same command makes again.

  Raises:
    WriteError: The file cannot be written.
  """
  temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      yield temporary
      if durable:
        sync_to_disk(temporary)
      os.replace(temporary, path)
      if durable:
        sync_to_disk(path.parent)
    finally:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Turns errors of writing a file, or into a folder, into `WriteError`.

  Errors of other files, which the same block may read, stay what they are.

  Args:
    path: Path of the file or of the folder.
  """
  try:
    yield
  except WriteError:
    raise
  except Exception as error:
    number = _find_errno(error, path)
    if number is None:
      raise
    raise WriteError(number, f"cannot be written: {os.strerror(number)}", str(path)) from error


def _find_errno(error: Exception, path: pathlib.Path) -> int | None:
  """Finds the number of the system's error in one of writing to a path; None in any other."""
  if isinstance(error, OSError) and error.errno is not None:
    if error.filename is None or error.errno in FULL_OR_READ_ONLY:
      return error.errno
    name = pathlib.Path(os.fsdecode(error.filename))
    temporary = name.name.startswith(f".{path.name}.") and name.parent == path.parent
    is_own = temporary or name.is_relative_to(path) or path.is_relative_to(name)
    return error.errno if is_own else None
  # Libraries in other languages have it in their words.
  text = str(error)
  if str(path) in text and ("NOT_FOUND" in text or os.strerror(errno.ENOENT) in text):
    return errno.ENOENT
  return next((number for number in FULL_OR_READ_ONLY if os.strerror(number) in text), None)


def check_folder(path: pathlib.Path) -> None:
  """Checks, before there is anything to write, that a folder is there or can be made, and written.

  Args:
    path: Path of the folder, or of a missing one.

  Raises:
    ValueError: There is something else than a folder at the path, or where one of its parents is.
    WriteError: Nothing can be written there.
  """
  place = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
  if not place.is_dir():
    raise ValueError(f"{place} is no folder; expected one, or a path where one can be made")
  if not os.access(place, os.W_OK | os.X_OK):
    is_read_only = os.statvfs(place).f_flag & os.ST_RDONLY
    number = errno.EROFS if is_read_only else errno.EACCES
    raise WriteError(number, f"cannot be written to: {os.strerror(number)}", str(place))


def check_file(path: pathlib.Path) -> None:
  """Checks that a file can be written, before there is anything to write; see `check_folder`."""
  if path.is_dir():
    raise ValueError(f"{path} is a folder; expected the path of a file")
  check_folder(path.parent)


def sync_to_disk(path: pathlib.Path) -> None:
  """Waits until the disk has the content of a file, or the names in a folder."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sync_tree_to_disk(folder: pathlib.Path) -> None:
  """Waits until the disk has a folder with all that is in it, and the folder's own name."""
  for path in (*folder.rglob("*"), folder, folder.parent):
    sync_to_disk(path)


def hash_file(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file's content in hexadecimal digits, as `sha256sum` prints it."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def remove_partial_files(folder: pathlib.Path) -> None:
  """Removes what processes that no longer live were writing into a folder and those in it."""
  for partial in folder.rglob(f".*{PARTIAL}"):
    owner = partial.name.removesuffix(PARTIAL).rpartition(".")[2]
    if not pathlib.Path("/proc", owner).exists() or not owner.isdecimal():
      partial.unlink(missing_ok=True)


def to_json(content: Any) -> str:
  """Formats content as indented JSON, in which a number that is not finite becomes null."""
  return json.dumps(_finite(content), indent=2)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes content as JSON, atomically; see `to_json`."""
  with atomic_write(path) as temporary:
    temporary.write_text(to_json(content) + "\n")


def read_json(path: pathlib.Path) -> Any:
  """Reads what a JSON file holds.

  Raises:
    ValueError: It is no JSON; the message names the file and the line.
  """
  return _parse(path.read_bytes(), path)


def read_json_object(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON file that holds an object.

  Raises:
    ValueError: It is no JSON, or something else than an object.
  """
  content = read_json(path)
  if not isinstance(content, dict):
    raise ValueError(f"{path} holds {_describe(content)}; expected an object, as in {{...}}")
  return content


def append_jsonl(path: pathlib.Path, entry: Any, *, create: bool = True) -> None:
  """Appends an entry to a JSON Lines file; a number that is not finite becomes null.

  Args:
    path: Path of the file.
    entry: Entry, of JSON's types.
    create: Whether to create a missing file, in a folder that exists.

  Raises:
    WriteError: It cannot be written, or is missing.
  """
  with writing(path), path.open("a+b" if create else "r+b") as file:
    if end := file.seek(0, os.SEEK_END):
      file.seek(end - 1)
      if file.read() != b"\n":  # A process was killed while it wrote that line.
        file.write(b"\n")
    file.write(json.dumps(_finite(entry)).encode() + b"\n")


def read_jsonl(
  path: pathlib.Path,
  kind: type | Mapping[str, Any] = object,
  on_damage: Callable[[str], None] | None = None,
) -> list[Any]:
  """Reads the entries of a JSON Lines file.

  Args:
    path: Path of the file; a missing one has no entries. A last line without a line feed is left
      out: it is still being written, or its writer was killed.
    kind: Type that every entry must have, or a dict of the types that entries of an object must
      have by name; any by default.
    on_damage: Function that is called with a description of each line that is no such entry, which
      is left out; None, the default, raises instead.

  Raises:
    ValueError: A line is no JSON, or of another type; the message names the file and the line.
  """
  entries = []
  lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
  for number, line in enumerate(lines, 1):
    try:
      entry = _parse(line, path, number)
      if not _is_of_kind(entry, kind):
        expected = kind.__name__ if isinstance(kind, type) else f"an object with {', '.join(kind)}"
        raise ValueError(f"{path}, line {number}, holds {_describe(entry)}; expected {expected}")
    except ValueError as error:
      if on_damage is None:
        raise
      on_damage(f"{error}; it is left out")
    else:
      entries.append(entry)
  return entries


def _parse(content: bytes, path: pathlib.Path, line: int = 1) -> Any:
  """Parses JSON that begins in a line of a file, or raises ValueError that names the line."""
  try:
    return json.loads(content.decode("utf-8"))
  except json.JSONDecodeError as error:
    number, fault = line + error.lineno - 1, f"is no JSON ({error.msg}, column {error.colno})"
  except UnicodeDecodeError as error:
    number = line + content[: error.start].count(b"\n")
    fault = f"is no UTF-8 (byte {content[error.start]:#x})"
  except RecursionError:
    number, fault = line, "is nested too deeply; expected JSON"
  except ValueError as error:  # A number of thousands of digits.
    number, fault = line, f"is no JSON ({error})"
  raise ValueError(f"{path}, line {number}, {fault}")


def _is_of_kind(entry: Any, kind: type | Mapping[str, Any]) -> bool:
  if isinstance(kind, type):
    return isinstance(entry, kind)
  return isinstance(entry, dict) and all(isinstance(entry.get(k), v) for k, v in kind.items())


def _describe(content: Any) -> str:
  return f"{type(content).__name__} {reprlib.repr(content)}"


def write_jsonl(path: pathlib.Path, entries: Iterable[Any]) -> None:
  """Writes a JSON Lines file, atomically."""
  with atomic_write(path) as temporary:
    temporary.write_text("".join(json.dumps(_finite(entry)) + "\n" for entry in entries))


def write_npz(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], *, durable: bool = True
) -> None:
  """Writes arrays as a compressed NumPy archive, atomically; see `atomic_write`."""
  with atomic_write(path, durable=durable) as temporary, temporary.open("wb") as file:
    # Among its keywords NumPy has an option, which no array is called after.
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _finite(tree: Any) -> Any:
  """Replaces NaN and infinity, which JSON lacks, by None: the IoU of an absent class is NaN."""
  if isinstance(tree, Mapping):
    return {name: _finite(value) for name, value in tree.items()}
  if isinstance(tree, list | tuple):
    return [_finite(value) for value in tree]
  return None if isinstance(tree, float) and not math.isfinite(tree) else tree
