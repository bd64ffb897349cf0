"""The choice between XLA's implementation of an operation and one that is faster on CPUs.

`asmjax.ops.cpu` holds the latter. Each of its modules has a function `applies`, which tells from
shapes and options whether it is both correct and faster, and a function that then stands in for the
operation, with the same arguments. Results differ by rounding alone. Derivatives are those of
reverse mode; `jax.jvp` through them needs `use_cpu_kernels(False)`.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import Array

from asmjax.ops.cpu import depthwise, im2col, matmul, max_pool, tap_sum, upsample_conv

_ENABLED = contextvars.ContextVar("cpu_kernels", default=True)

# By operation, pairs (applies, run) in the order in which they are tried. Dilated kernels come
# before im2col, which would multiply the padding that `tap_sum` skips.
CPU_KERNELS: Mapping[str, tuple[tuple[Callable[..., bool], Callable[..., Array]], ...]] = {
  "conv2d": (
    (matmul.applies, matmul.conv2d),
    (depthwise.applies, depthwise.conv2d),
    (tap_sum.applies, tap_sum.conv2d),
    (im2col.applies, im2col.conv2d),
  ),
  "max_pool": ((max_pool.applies, max_pool.max_pool),),
  "upsample_conv2d": ((upsample_conv.applies, upsample_conv.upsample_conv2d),),
}


@contextlib.contextmanager
def use_cpu_kernels(enabled: bool) -> Iterator[None]:
  """Turns the implementations for CPUs on, which is the default, or off, within a `with` block.

  What is traced within the block is concerned; a function that JAX has compiled stays as it is.
  Counting multiply-adds, exporting for other devices, comparing with XLA and forward-mode
  derivatives (`jax.jvp`, `jax.linearize`, `jax.hessian`) need them off.

  Args:
    enabled: Whether they run where they apply; on GPUs and TPUs they never run.
  """
  token = _ENABLED.set(enabled)
  try:
    yield
  finally:
    _ENABLED.reset(token)


def find_cpu_kernel(operation: str, *arguments: Any) -> Callable[..., Array] | None:
  """Finds the function that stands in for an operation of `CPU_KERNELS` with these arguments.

  It takes the same arguments; None if XLA's implementation is to run.
  """
  if jax.default_backend() != "cpu" or not _ENABLED.get():
    return None
  return next((run for applies, run in CPU_KERNELS[operation] if applies(*arguments)), None)
