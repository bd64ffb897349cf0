"""How much memory there is and is free: of the machine, in its container, and of devices."""

import math
import os
import pathlib
from collections.abc import Iterator

GIB = 2**30

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Files of a group of processes (version 2 and 1 of Linux's control groups): its limit and its use,
# and how memory.stat begins the names of cached files, which the system drops when it needs to.
_CGROUP_FILES = (
  ("memory.max", "memory.current", ""),
  ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def total_memory() -> float:
  """Returns the bytes that this process may use at most, within the limit of its container."""
  machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return min(float(machine), *(limit for limit, _ in _read_groups()), math.inf)


def free_host_memory() -> float:
  """Returns the bytes that this process can still take; infinity where the system does not say."""
  return max(0.0, min(_free_of_machine(), *_free_of_groups(), math.inf))


def free_device_memory() -> float:
  """Returns the bytes that are free on the fullest device of this process.

  For CPU devices, which share the host's memory, this is each one's share of it.
  """
  import jax  # Commands that need no device need not wait for it.

  devices = jax.local_devices()
  if devices[0].platform == "cpu":
    return free_host_memory() / len(devices)
  stats = [device.memory_stats() or {} for device in devices]
  return min(each.get("bytes_limit", math.inf) - each.get("bytes_in_use", 0) for each in stats)


def _free_of_machine() -> float:
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return 1024.0 * int(sizes["MemAvailable"].split()[0])
  except (OSError, KeyError, ValueError):  # Not Linux.
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
      return math.inf
    return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_of_groups(root: pathlib.Path = _CGROUPS) -> Iterator[float]:
  """Yields the bytes that each group around this process may still take."""
  return (limit - use for limit, use in _read_groups(root))


def _read_groups(root: pathlib.Path = _CGROUPS) -> Iterator[tuple[float, float]]:
  """Yields the limit and the use, in bytes, of each group around this process that has a limit.

  The use is without cached files, as in the machine's MemAvailable.
  """
  for folder in _list_groups(root):
    for limit, use, prefix in _CGROUP_FILES:
      try:
        sizes = float((folder / limit).read_text()), float((folder / use).read_text())
      except (OSError, ValueError):  # There is no such file, or it says "max".
        continue
      yield sizes[0], sizes[1] - _read_cached(folder / "memory.stat", prefix)


def _read_cached(path: pathlib.Path, prefix: str) -> float:
  """Reads the bytes of cached files from lines "NAME NUMBER"; 0 if they are not there."""
  try:
    stat = dict(line.split() for line in path.read_text().splitlines())
    return float(stat[f"{prefix}inactive_file"]) + float(stat[f"{prefix}active_file"])
  except (OSError, KeyError, ValueError):
    return 0.0


def _list_groups(root: pathlib.Path) -> list[pathlib.Path]:
  """Lists the folders of this process's groups of processes, from its own to the outermost."""
  try:
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
  except OSError:
    return []
  folders = [root, root / "memory"]  # As a container sees its own group.
  for line in lines:
    _, controllers, path = line.split(":", 2)
    if controllers in ("", "memory"):
      own = root / controllers / path.lstrip("/")
      folders += [own, *(parent for parent in own.parents if root in parent.parents)]
  return list(dict.fromkeys(folders))


def format_bytes(count: float) -> str:
  """Formats a number of bytes, as "1.5 GB"."""
  for unit in ("B", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.4g} TB"
