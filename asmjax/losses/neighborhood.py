"""Pairs of neighboring pixels: which there are, and how a map looks from the neighbor."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

Offset = tuple[int, int]


def _corners(radius: int) -> Sequence[int]:
  return (-radius, 0, radius)


def _full(radius: int) -> Sequence[int]:
  return range(-radius, radius + 1)


NEIGHBORS = {"corners": _corners, "full": _full}


def offsets(size: int, neighbors: str = "corners") -> tuple[Offset, ...]:
  """The (rows, columns) from a pixel to each of its neighbors.

  Args:
    size: odd k of a k x k neighborhood.
    neighbors: "corners" takes its 4 corners and the middles of its 4 sides, as the released code
      of Ke et al. 2018; "full" all k^2 - 1 pixels, as the paper.

  Returns:
    Offsets, each with its opposite.

  Raises:
    ValueError: an even size, one below 3, or unknown neighbors.

  Example:
    >>> offsets(5)[:4]
    ((-2, -2), (-2, 0), (-2, 2), (0, -2))
    >>> len(offsets(5, "full"))
    24
  """
  if size < 3 or size % 2 == 0:
    raise ValueError(f"a neighborhood of size {size}; expected an odd size from 3")
  if neighbors not in NEIGHBORS:
    raise ValueError(f"unknown neighbors {neighbors!r}; known: {', '.join(NEIGHBORS)}")
  steps = NEIGHBORS[neighbors](size // 2)
  return tuple((dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0))


def padded(
  x: Shaped[ArrayLike, "*_ h w"], margin: int, value: ArrayLike = 0
) -> Shaped[Array, "*_ _ _"]:
  """`x` with `margin` pixels of `value` on each side of its last two axes."""
  x = jnp.asarray(x)
  return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(margin, margin)] * 2, constant_values=value)


def seen_from(x: Shaped[Array, "*_ _ _"], offset: Offset, margin: int) -> Shaped[Array, "*_ h w"]:
  """What each pixel sees at `offset`, of a map that is `padded` by `margin`."""
  (dy, dx), (h, w) = offset, (length - 2 * margin for length in x.shape[-2:])
  return x[..., margin + dy : margin + dy + h, margin + dx : margin + dx + w]
