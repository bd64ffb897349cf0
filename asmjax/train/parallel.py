"""Data parallelism over devices and hosts.

The state is replicated and the batch is split along its first axis: over processes by the loader,
over the devices of a process by `shard_batch`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from asmjax.models.layers import DEVICES
from asmjax.utils.prefetch import prefetch

_Devices = Sequence[jax.Device]  # pyright: ignore[reportInvalidTypeForm]  # JAX assigns the class.
_Step = TypeVar("_Step", bound=Callable[..., Any])


def pmap_step(
  function: _Step, *, devices: _Devices | None = None, donate: bool = False, out_axes: Any = None
) -> _Step:
  """Compiles `function(state, batch)` and maps it over devices.

  The function's collectives use the axis name `DEVICES`. Its results must be the same on every
  device, unless `out_axes` says otherwise.

  Args:
    function: Pure function of a replicated pytree and a device's share of a batch.
    devices: Devices to use; None, the default, for all devices of all processes.
    donate: Whether results may reuse the memory of `state`, which is invalid after the call.
      Without effect with several processes.
    out_axes: None, the default, for results that are the same on all devices, 0 for results that
      are stacked along a new first axis, one row for each device; or a pytree of these.

  Returns:
    Function of (state, batch), with the batch as `shard_batch` returns it.
  """
  mapped = jax.pmap(
    function,
    axis_name=DEVICES,
    in_axes=(None, 0),
    out_axes=out_axes,
    devices=devices,
    # With several processes, pmap deletes donated arrays before it uses them (jax 0.10).
    donate_argnums=0 if donate and jax.process_count() == 1 else (),
  )
  # The type is that of `function`, though each array of the batch has one axis more.
  return cast(_Step, mapped)


def replicate(tree: PyTree) -> PyTree:
  """Copies a pytree to all devices of this process, with the sharding of `pmap_step`'s results.

  With another sharding the result would be the same, but `pmap_step` would compile twice: for this
  input and for its own results. With several processes the pytree is returned as it is.
  """
  if jax.process_count() > 1:
    return tree  # Each process has its own copy, which pmap sends to its devices.
  mesh = Mesh(np.array(jax.local_devices()), (DEVICES,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(
  batch: Mapping[str, np.ndarray], *, devices: _Devices | None = None
) -> dict[str, Array]:
  """Sends this process's part of a batch to its devices, without waiting for its arrival.

  Args:
    batch: Arrays (n, ...) by key, with this process's examples along the first axis.
    devices: Devices of this process to use; None, the default, for all of them.

  Returns:
    Arrays (devices, n / devices, ...) by key, with one row on each device.
  """
  devices = devices or jax.local_devices()
  sharding = NamedSharding(Mesh(np.array(devices), (DEVICES,)), PartitionSpec(DEVICES))
  rows = {key: value.reshape(len(devices), -1, *value.shape[1:]) for key, value in batch.items()}
  return jax.device_put(rows, sharding)


def prefetch_to_device(
  batches: Iterable[Mapping[str, np.ndarray]], *, ahead: int = 2
) -> Iterator[dict[str, Array]]:
  """Yields this process's batches through `shard_batch`, `ahead` of them sent in advance."""
  return prefetch(map(shard_batch, batches), ahead)


def initialize_distributed(processes: str) -> None:
  """Connects the processes of all hosts; it must be called before JAX is used.

  Args:
    processes: "auto" on clusters that JAX detects, or "HOST:PORT,PROCESSES,INDEX": the address of
      the first process, the number of processes, and the index of this one from 0.

  Raises:
    ValueError: The text has another form.
  """
  if processes == "auto":
    jax.distributed.initialize()
    return
  match = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", processes)
  if not match:
    raise ValueError(f"processes are 'auto' or HOST:PORT,PROCESSES,INDEX; found {processes!r}")
  jax.distributed.initialize(match[1], int(match[2]), int(match[3]))


def all_gather_arrays(arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
  """Exchanges arrays between processes, all of which must make the call.

  Args:
    arrays: Arrays of this process, of the shapes and types that those of the others have.

  Returns:
    Arrays of all other processes, in the order of their indices.

  Raises:
    ValueError: Other processes have arrays of other shapes or types.
  """
  if jax.process_count() == 1:
    return []
  kinds = "; ".join(f"{x.dtype.str}{x.shape}" for x in arrays)
  # As bytes, since JAX would round 64 bits to 32; the kinds of the arrays first.
  header = hashlib.sha256(kinds.encode()).digest()
  own = np.frombuffer(header + b"".join(x.tobytes() for x in arrays), np.uint8)
  fixed = np.append(own[: len(header)], np.frombuffer(np.int64(own.size).tobytes(), np.uint8))
  if (np.asarray(multihost_utils.process_allgather(fixed)) != fixed).any():
    raise ValueError(f"processes have arrays of other shapes or types than {kinds}")
  rows = np.asarray(multihost_utils.process_allgather(own))
  return [
    _split(row[len(header) :].tobytes(), arrays)
    for index, row in enumerate(rows)
    if index != jax.process_index()
  ]


def _split(data: bytes, like: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Cuts bytes into arrays of the shapes and types of others."""
  arrays, start = [], 0
  for x in like:
    arrays.append(np.frombuffer(data, x.dtype, x.size, start).reshape(x.shape))
    start += x.nbytes
  return arrays


def sync_processes(name: str) -> None:
  """Waits until all processes have made the call of that name; JAX raises if names differ."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def check_divisible(batch_size: int, *, name: str, parts: int = 1) -> None:
  """Checks that all devices of all processes can share a global batch evenly.

  Args:
    batch_size: Number of examples in the global batch.
    name: Name of the setting, for the message.
    parts: Number of microbatches in every device's share; 1 by default.

  Raises:
    ValueError: The batch is no multiple of devices times microbatches, or is empty.
  """
  shares = jax.device_count() * parts
  if batch_size < 1 or batch_size % shares:
    raise ValueError(
      f"{name}={batch_size} is no multiple of {shares} "
      f"({jax.device_count()} devices x {parts} microbatches)"
    )
