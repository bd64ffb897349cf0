"""Compiled programs that are kept from one command to the next."""

import contextlib
import os
import pathlib
import sys

# The 48 programs of a small config take 1.4 MB on the CPU.
_MAX_BYTES = 2 << 30
# Seconds of compiling from which a program is kept. JAX's own 1 leaves out most of what a small
# network is made of.
_MIN_SECONDS = "0.1"


def enable_compilation_cache() -> None:
  """Lets JAX keep compiled programs in the user's cache folder, if it was not told where.

  JAX's own environment variables decide otherwise: `JAX_COMPILATION_CACHE_DIR` is another folder,
  and `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing. Processes that this one starts use the
  same folder. Without effect once JAX is imported, and where the folder cannot be written.
  """
  if "jax" in sys.modules or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return
  caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  folder = pathlib.Path(caches, "asmjax", "xla")
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  with contextlib.suppress(OSError):  # Another command may prune at the same time.
    _prune(folder)
  if os.access(folder, os.W_OK):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", _MIN_SECONDS)


def _prune(folder: pathlib.Path, max_bytes: int = _MAX_BYTES) -> None:
  """Deletes the oldest files of a folder, until the rest takes at most `max_bytes`.

  JAX can bound its cache itself, but after it was killed between the two files that it then writes
  for a program, it keeps nothing any more.
  """
  files = sorted(
    (-entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder)
  )
  total = 0
  for _, size, path in files:
    total += size
    if total > max_bytes:
      pathlib.Path(path).unlink(missing_ok=True)
