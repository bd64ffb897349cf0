"""Damage to files, as disks and killed processes do it."""

import pathlib
import shutil


def list_files(folder):
  """All files in a folder and those in it, in the same order everywhere."""
  return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(folder):
  """The bytes of every file in a folder, by relative path."""
  return {path.relative_to(folder): path.read_bytes() for path in list_files(folder)}


def pick_file(folder, rng):
  """A file of a folder that is not empty, at random."""
  files = [path for path in list_files(folder) if path.stat().st_size]
  return files[rng.integers(len(files))]


def flip_bit(folder: pathlib.Path, rng) -> None:
  """Flips a bit anywhere in the files of a folder; each bit is as likely as any other."""
  files = list_files(folder)
  position = int(rng.integers(sum(path.stat().st_size for path in files)))
  for path in files:
    if position < path.stat().st_size:
      content = bytearray(path.read_bytes())
      content[position] ^= 1 << int(rng.integers(8))
      path.write_bytes(content)
      return
    position -= path.stat().st_size


def flip_bit_of_a_file(folder, rng):
  """Flips a bit of a file; each file is as likely as any other."""
  flip_bit_of(pick_file(folder, rng), rng)


def flip_bit_of(path, rng):
  """Flips a bit of this file."""
  content = bytearray(path.read_bytes())
  content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
  path.write_bytes(content)


def truncate(folder, rng):
  """Cuts a file somewhere."""
  path = pick_file(folder, rng)
  path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def empty(folder, rng):
  """Empties a file, as a crash of the machine does with one that was not flushed."""
  pick_file(folder, rng).write_bytes(b"")


def zero_block(folder, rng):
  """Sets up to 64 bytes to 0, as a lost sector does."""
  path = pick_file(folder, rng)
  content = bytearray(path.read_bytes())
  start = int(rng.integers(len(content)))
  stop = min(start + 64, len(content))
  content[start:stop] = bytes(stop - start)
  path.write_bytes(content)


def delete_file(folder, rng):
  """Removes a file."""
  pick_file(folder, rng).unlink()


def delete_folder(folder, rng):
  """Removes one of the folders in a folder, with all that is in it."""
  subfolders = sorted(path for path in folder.rglob("*") if path.is_dir())
  shutil.rmtree(subfolders[rng.integers(len(subfolders))])


def keep_half(folder, rng):
  """Removes files at random, as of a copy that was cut short."""
  for path in list_files(folder):
    if rng.random() < 0.5:
      path.unlink()


def empty_folder(folder, rng):
  """Leaves nothing but the folder itself."""
  del rng
  shutil.rmtree(folder)
  folder.mkdir()


KINDS = (
  flip_bit,
  flip_bit_of_a_file,
  truncate,
  empty,
  zero_block,
  delete_file,
  delete_folder,
  keep_half,
  empty_folder,
)
