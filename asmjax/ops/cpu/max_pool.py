"""Max pooling whose gradient is a sum over taps.

XLA scatters that gradient value by value on CPUs. Written out tap by tap it is a fused loop, which
takes 0.07 to 0.35 of the time.
"""

import functools
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.ops.windows import Padding, spatial_size


def applies(x: Array, window: int, stride: int, padding: str | Padding) -> bool:
  """Tells whether all sizes are known; those of an export may be symbolic."""
  del window, stride, padding
  return not any(map(is_symbolic_dim, x.shape))


def max_pool(
  x: Float[Array, "n h w c"], window: int, stride: int, padding: str | Padding
) -> Float[Array, "n h2 w2 c"]:
  """Computes the maximum of each window; see `asmjax.ops.max_pool`.

  Of equal values the first one gets the gradient, as in XLA.
  """
  if isinstance(padding, str):
    rows, columns = lax.padtype_to_pads(x.shape[1:3], (window,) * 2, (stride,) * 2, padding)
    padding = (rows, columns)
  rows, columns = padding
  return _max_pool(x, spatial_size(x), window, stride, (tuple(rows), tuple(columns)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_pool(x: Array, size: tuple[int, int], window: int, stride: int, padding: Padding) -> Array:
  del size  # The backward pass needs it.
  # Flax takes both kinds of padding, but infers the type from its default.
  return nn.max_pool(x, (window,) * 2, (stride,) * 2, cast(Any, padding))


def _forward(
  x: Array, size: tuple[int, int], window: int, stride: int, padding: Padding
) -> tuple[Array, Array]:
  """Also keeps which tap of its window each maximum is, and nothing else.

  To compare the map with its maxima later would be wrong: XLA may compute either of them again, and
  round it otherwise.
  """
  padded = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=jnp.array(-jnp.inf, x.dtype))
  rows, columns = (side - window + 1 for side in padded.shape[1:3])
  shifted = lambda i, j: padded[:, i : i + rows : stride, j : j + columns : stride]
  best = shifted(0, 0)
  dtype = np.min_scalar_type(window**2)
  argmax = jnp.zeros(best.shape, dtype)
  for tap, (i, j) in enumerate(np.ndindex(window, window)):
    if tap > 0:
      values = shifted(i, j)
      argmax = jnp.where(values > best, dtype.type(tap), argmax)
      best = jnp.maximum(best, values)
  return _max_pool(x, size, window, stride, padding), argmax


def _backward(
  size: tuple[int, int], window: int, stride: int, padding: Padding, argmax: Array, cotangent: Array
) -> tuple[Array]:
  padded = [side + sum(pads) for side, pads in zip(size, padding, strict=True)]
  lasts = [(side - 1) * stride for side in cotangent.shape[1:3]]
  zero = jnp.zeros((), cotangent.dtype)
  parts = []
  for tap, starts in enumerate(np.ndindex(window, window)):
    # Spreads the cotangents of this tap's maxima over the padded map, where the tap met them.
    placement = [
      (start, side - start - last - 1, stride - 1)
      for start, side, last in zip(starts, padded, lasts, strict=True)
    ]
    selected = jnp.where(argmax == tap, cotangent, zero)
    parts.append(lax.pad(selected, zero, ((0, 0, 0), *placement, (0, 0, 0))))
  (top, _), (left, _) = padding
  total = functools.reduce(jnp.add, parts)
  return (total[:, top : top + size[0], left : left + size[1]],)


_max_pool.defvjp(_forward, _backward)
