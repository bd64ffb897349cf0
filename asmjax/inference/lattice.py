"""Gaussian filters over scattered points, by a permutohedral lattice (Adams et al. 2010).

The vertices near any point are found on the host, since their number depends on the points. What
remains is three sparse, linear maps: values are splatted onto the vertices around their points,
blurred along the lattice's axes and sliced at the points.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from asmjax.ops.masked_mean import promote_to_float32

# Arrays of the host, or of a device while a function is traced.
_Arrays = Array | np.ndarray

# Number of neighbors away to which the integers that stand for vertices are still unique.
_REACH = 2


class Lattice(NamedTuple):
  """Normalized Gaussian filter over n points in d dimensions; d + 1 vertices surround each point.

  It is D^-1/2 K D^-1/2, where K is a matrix close to a multiple of exp(-|f_i - f_j|^2 / 2), i = j
  included, and D = diag(K 1).

  A vertex that is not there is the last one, whose value is always 0. The number m of vertices is
  rounded up, so that images of one size seldom compile anew.

  Attributes:
    index: Vertices around each point.
    weights: Nearness of these vertices, times D^-1/2.
    neighbors: Vertices before and after each vertex along each axis.
  """

  index: Int[_Arrays, "d1 n"]
  weights: Float[_Arrays, "d1 n"]
  neighbors: Int[_Arrays, "d1 2 m"]

  def __call__(self, values: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """Filters values, in at least single precision.

    Differentiable by the values in reverse mode; the lattice counts as a constant.

    Args:
      values: Values of the n points, which are spread over all axes but the last.
    """
    values = promote_to_float32(values)
    return _filter(self, values.reshape(-1, values.shape[-1])).reshape(values.shape)

  def padded(self, vertices: int) -> "Lattice":
    """Adds vertices without effect, so that lattices of several images can be stacked.

    Raises:
      ValueError: There are more vertices already.
    """
    axes, _, count = self.neighbors.shape
    if vertices < count:
      raise ValueError(f"a lattice of {count} vertices; expected at most {vertices}")
    last = np.full((axes, 2, vertices - count), count - 1, np.int32)
    return self._replace(neighbors=np.concatenate([self.neighbors, last], axis=2))


def build(features: Float[np.ndarray, "n d"], *, fill: bool = False) -> Lattice:
  """Builds the lattice of some points, as arrays of the host.

  Args:
    features: Coordinates f of the points, in standard deviations.
    fill: Whether there are also vertices that have two or more neighbors, about twice as many in an
      image. By default, as in the authors' code, vertices exist next to points only, and what
      would spread over others is lost.

  Raises:
    ValueError: The features are not finite, or so far apart that vertices cannot be numbered.
  """
  if not np.all(np.isfinite(features)):
    raise ValueError("features that are not finite; expected finite numbers")
  keys, weights = _surround(np.asarray(features, np.float64))
  codes, steps = _pack(keys)
  vertices, index = np.unique(codes, return_inverse=True)
  index = index.reshape(codes.shape)
  if fill:
    index, vertices = _add_vertices(index, vertices, steps)
  neighbors = _neighbors(vertices, steps, _round_up(len(vertices) + 1))
  weights = weights / np.sqrt(_sums(index, weights, neighbors))
  return Lattice(index.astype(np.int32), weights.astype(np.float32), neighbors)


def _surround(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds the vertices around each point by remainder (d1, d1, n), and its weights (d1, n).

  Remainder-k points of the lattice have all coordinates congruent to k modulo d + 1; the simplex
  around a point has one vertex of each (Adams et al. 2010, Sec. 3.1), found by rounding to the
  nearest remainder-0 vertex and ranking the differences.
  """
  d = features.shape[1]
  raised = _raised(features)
  # The nearest vertex of remainder 0, each coordinate by itself.
  nearest = np.ceil(raised / (d + 1) - 0.5).astype(np.int64)
  rest = raised - (d + 1) * nearest
  rank = np.argsort(np.argsort(-rest, axis=0, kind="stable"), axis=0) + nearest.sum(axis=0)
  # Back onto the hyperplane of sum 0, by changing what is rounded worst.
  wrap = (rank < 0).astype(np.int64) - (rank > d)
  nearest, rank, rest = nearest + wrap, rank + (d + 1) * wrap, rest - (d + 1) * wrap
  ordered = -np.sort(-rest, axis=0) / (d + 1)
  weights = np.concatenate([1 - ordered[:1] + ordered[-1:], (ordered[:-1] - ordered[1:])[::-1]])
  remainder = np.arange(d + 1)[:, None, None]
  return (d + 1) * (nearest - (rank > d - remainder)) + remainder, weights


def _raised(features: np.ndarray) -> np.ndarray:
  """Embeds the points in the hyperplane of sum 0 in d + 1 dimensions (d + 1, n).

  Its scale makes the variance of splat, blur and slice together that of the Gaussian: (d + 1)^2
  times 1/2 are due to the blur and 1/12 each to splat and slice.
  """
  d = features.shape[1]
  basis = np.triu(np.ones((d + 1, d)))
  basis[np.arange(1, d + 1), np.arange(d)] = -np.arange(1, d + 1)
  length = np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
  return (np.sqrt(2 / 3) * (d + 1) / length * basis) @ features.T


def _pack(keys: np.ndarray) -> tuple[np.ndarray, list[int]]:
  """Numbers each vertex (d + 1, n), and tells the number's change along each axis."""
  d = len(keys) - 1
  keys = keys[:, :d]  # The last coordinate follows from the others.
  low = keys.min(axis=(0, 2)) - _REACH * d
  spans = [int(span) for span in keys.max(axis=(0, 2)) + _REACH * d - low + 1]
  radices = [int(np.prod(spans[i + 1 :], dtype=object)) for i in range(d)]
  if radices[0] * spans[0] >= 2**63:
    raise ValueError(f"features that span {spans} lattice steps; expected a product below 2^63")
  moves = (d + 1) * np.eye(d + 1, d, dtype=np.int64) - 1
  steps = [sum(int(a) * b for a, b in zip(move, radices, strict=True)) for move in moves]
  return np.array(radices) @ (keys - low[:, None]), steps


def _add_vertices(
  index: np.ndarray, vertices: np.ndarray, steps: list[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Adds the vertices that have two or more neighbors."""
  around = np.concatenate([vertices + sign * step for step in steps for sign in (1, -1)])
  around, count = np.unique(around, return_counts=True)
  every = np.union1d(vertices, around[count > 1])
  return np.searchsorted(every, vertices)[index], every


def _neighbors(vertices: np.ndarray, steps: list[int], size: int) -> np.ndarray:
  """Finds the vertices before and after each along each axis; size - 1 if there is none."""
  found = np.full((len(steps), 2, size), size - 1, np.int32)
  for axis, step in enumerate(steps):
    for side, wanted in enumerate((vertices + step, vertices - step)):
      at = np.minimum(np.searchsorted(vertices, wanted), len(vertices) - 1)
      found[axis, side, : len(vertices)] = np.where(vertices[at] == wanted, at, size - 1)
  return found


def _sums(index: np.ndarray, weights: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
  """Computes K 1 by the steps of `_filter`."""
  total = np.bincount(index.ravel(), weights.ravel(), minlength=neighbors.shape[2])
  for before, after in neighbors:
    total = _blur(total, total[before], total[after])
  return np.sum(total[index] * weights, axis=0)


def _round_up(size: int) -> int:
  """Rounds up to one of four sizes between two powers of two."""
  step = 2 ** max(0, (size - 1).bit_length() - 3)
  return -(-size // step) * step


@jax.custom_vjp
def _filter(lattice: Lattice, values: Array) -> Array:
  # In scans, so that no more than one axis is held at a time.
  nothing = jnp.zeros((lattice.neighbors.shape[2], values.shape[1]), values.dtype)
  raised, _ = lax.scan(
    lambda total, here: (_splat(total, values, *here), None),
    nothing,
    (lattice.index, lattice.weights),
  )
  blurred, _ = lax.scan(
    lambda total, axis: (_blur(total, _at(total, axis[0]), _at(total, axis[1])), None),
    raised,
    lattice.neighbors,
  )
  corners = zip(lattice.index, lattice.weights, strict=True)
  return functools.reduce(
    jnp.add, (_at(blurred, index) * weight[:, None] for index, weight in corners)
  )


def _splat(total: Array, values: Array, index: _Arrays, weight: _Arrays) -> Array:
  return total.at[index].add(values * weight[:, None], mode="promise_in_bounds")


def _blur(values, before, after):
  """Blurs by (1, 2, 1) / 4; the scale of the features assumes it."""
  return 0.5 * values + 0.25 * (before + after)


def _at(values: Array, index: _Arrays) -> Array:
  return values.at[index].get(mode="promise_in_bounds")


def _forward(lattice: Lattice, values: Array) -> tuple[Array, Lattice]:
  return _filter(lattice, values), lattice


def _backward(lattice: Lattice, cotangent: Array) -> tuple[None, Array]:
  """Applies the transpose: a blur is its own, only the order of the axes is reversed."""
  reverse = lattice._replace(neighbors=lattice.neighbors[::-1])
  return None, _filter(reverse, cotangent)


_filter.defvjp(_forward, _backward)
