"""Neighborhoods of pixels: offsets to the neighbors, and maps shifted by them."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Shaped

Offset = tuple[int, int]

# Steps along an axis by the radius of the neighborhood.
NEIGHBORS: dict[str, Callable[[int], Sequence[int]]] = {
  "corners": lambda radius: (-radius, 0, radius),
  "full": lambda radius: range(-radius, radius + 1),
}


def offsets(size: int, neighbors: str = "corners") -> tuple[Offset, ...]:
  """Lists the offsets (rows, columns) from a pixel to its neighbors, each with its opposite.

  Args:
    size: Odd k of a k x k neighborhood, at least 3.
    neighbors: "corners" for its 4 corners and the middles of its 4 sides, as in the released code
      of Ke et al. 2018; "full" for all k^2 - 1 pixels, as in the paper.

  Raises:
    ValueError: An even size, one below 3, or unknown neighbors.

  Examples:
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


def pad_border(
  x: Shaped[ArrayLike, "*_ h w"], border: int, value: ArrayLike = 0
) -> Shaped[Array, "*_ _ _"]:
  """Pads each side of the last two axes with `border` pixels of `value`."""
  x = jnp.asarray(x)
  return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(border, border)] * 2, constant_values=value)


def shift(padded: Shaped[Array, "*_ _ _"], offset: Offset, border: int) -> Shaped[Array, "*_ h w"]:
  """Returns, for each pixel, the value at `offset` from it in a map with a border."""
  (dy, dx), (h, w) = offset, (length - 2 * border for length in padded.shape[-2:])
  return padded[..., border + dy : border + dy + h, border + dx : border + dx + w]
