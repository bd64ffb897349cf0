"""How a step is spread over devices and hosts; nothing else knows.

The state is replicated, the batch is split along its first axis: over processes by the loader and
over this process's devices here.
"""

import pickle
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
  """Maps `function(state, batch)` over devices.

  Inside, the axis is called `DEVICES`; results must be the same on every device, unless `out_axes`
  says otherwise.

  Args:
    function: pure, of a replicated pytree and a batch.
    devices: to use; by default all of all processes.
    donate: let the results take the memory of `state`, which is then gone.
    out_axes: None for results that are the same everywhere, 0 for those of which each device has a
      row; or a pytree of these.

  Returns:
    A function of (state, batch), the batch as `shard_batch` gives it.
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
  return cast(_Step, mapped)  # With an axis more in each array of the batch.


def replicate(tree: PyTree) -> PyTree:
  """A pytree on all devices, laid out as `pmap_step` returns it.

  What is laid out otherwise works too, but makes `pmap_step` compile its function once more.
  """
  if jax.process_count() > 1:
    return tree  # Which each process has to itself.
  mesh = Mesh(np.array(jax.local_devices()), (DEVICES,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(
  batch: Mapping[str, np.ndarray], *, devices: _Devices | None = None
) -> dict[str, Array]:
  """Sends this process's part of a batch to its devices, without waiting for its arrival.

  Args:
    batch: arrays (n, ...), their examples along the first axis.
    devices: of this process; by default all.

  Returns:
    Arrays (devices, n / devices, ...), one row on each device.
  """
  devices = devices or jax.local_devices()
  sharding = NamedSharding(Mesh(np.array(devices), (DEVICES,)), PartitionSpec(DEVICES))
  rows = {key: value.reshape(len(devices), -1, *value.shape[1:]) for key, value in batch.items()}
  return jax.device_put(rows, sharding)


def prefetch_to_device(
  batches: Iterable[Mapping[str, np.ndarray]], *, ahead: int = 2
) -> Iterator[dict[str, Array]]:
  """Batches on devices, each sent there while those before it are still being worked on.

  Args:
    batches: see `shard_batch`.
    ahead: batches that are on the devices, or on their way, before their turn.

  Returns:
    What `shard_batch` makes of each of them.
  """
  return prefetch(map(shard_batch, batches), ahead)


def initialize_distributed(processes: str) -> None:
  """Joins the processes of all hosts; to be called before JAX is used.

  Args:
    processes: "auto" where JAX knows the cluster, or "HOST:PORT,PROCESSES,INDEX".

  Raises:
    ValueError: neither of the two.
  """
  if processes == "auto":
    jax.distributed.initialize()
    return
  match = re.fullmatch(r"([^,]+:\d+),(\d+),(\d+)", processes)
  if not match:
    raise ValueError(f"processes are 'auto' or HOST:PORT,PROCESSES,INDEX; found {processes!r}")
  jax.distributed.initialize(match[1], int(match[2]), int(match[3]))


def all_gather_objects(content: Any) -> list[Any]:
  """What the other processes gave in the same call; anything that can be pickled."""
  if jax.process_count() == 1:
    return []
  own = np.frombuffer(pickle.dumps(content), np.uint8)
  lengths = multihost_utils.process_allgather(np.array(own.size))
  rows = multihost_utils.process_allgather(np.pad(own, (0, int(lengths.max()) - own.size)))
  return [
    pickle.loads(rows[index, : lengths[index]].tobytes())
    for index in range(len(rows))
    if index != jax.process_index()
  ]


def sync_processes(place: str) -> None:
  """Waits until all processes have come to the same place."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(place)


def check_divisible(batch_size: int, *, name: str, parts: int = 1) -> None:
  """Refuses a global batch that all devices of all processes cannot share evenly.

  Args:
    batch_size: examples of the global batch.
    name: of the setting, for the message.
    parts: microbatches of every device's share.

  Raises:
    ValueError: naming the setting, the batch size and the number of shares.
  """
  shares = jax.device_count() * parts
  if batch_size < 1 or batch_size % shares:
    raise ValueError(
      f"{name}={batch_size} is no multiple of {shares} "
      f"({jax.device_count()} devices x {parts} microbatches)"
    )
