"""Gaussian filters over scattered points, by a permutohedral lattice (Adams et al. 2010).

The host computes the vertices around the points, since their number depends on the points. A filter
is then three sparse, linear maps: it splats values onto the vertices around their points, blurs
them along the lattice's axes, and slices the result at the points.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from asmjax.ops.masked_mean import promote_to_float32

# NumPy arrays as built on the host, or JAX arrays while a function is traced.
_Arrays = Array | np.ndarray

# Number of steps along the axes within which the integers that encode vertices stay unique: two, as
# `_add_vertices` adds neighbors, of which `_find_neighbors` looks for neighbors in turn.
_REACH = 2


class Lattice(NamedTuple):
  """Normalized Gaussian filter over n points in d dimensions; d + 1 vertices surround each point.

  It is D^-1/2 K D^-1/2, where K is a matrix close to a multiple of exp(-|f_i - f_j|^2 / 2), i = j
  included, and D = diag(K 1).

  The last vertex stands for all vertices that do not exist; its value is always 0. The number m of
  vertices is rounded up, so that images of one size seldom compile anew.

  Attributes:
    index: Numbers of the vertices around each point.
    weights: Barycentric coordinates of the point with respect to these vertices, times D^-1/2.
    neighbors: Numbers of the vertices on both sides of each vertex along each axis.
  """

  index: Int[_Arrays, "d1 n"]
  weights: Float[_Arrays, "d1 n"]
  neighbors: Int[_Arrays, "d1 2 m"]

  def __call__(self, values: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """Filters the values of the points, in at least single precision.

    It is differentiable by the values, in reverse mode; the lattice is a constant.

    Args:
      values: Values of the points, whose number n is the product of all axes but the last.
    """
    values = promote_to_float32(values)
    return _filter(self, values.reshape(-1, values.shape[-1])).reshape(values.shape)

  def padded(self, vertices: int) -> "Lattice":
    """Pads the lattice with unused vertices, so that lattices of several images can be stacked.

    Args:
      vertices: Number of vertices of the result.

    Raises:
      ValueError: The lattice has more vertices already.
    """
    axes, _, count = self.neighbors.shape
    if vertices < count:
      raise ValueError(f"a lattice of {count} vertices; expected at most {vertices}")
    last = np.full((axes, 2, vertices - count), count - 1, np.int32)
    return self._replace(neighbors=np.concatenate([self.neighbors, last], axis=2))


def build(features: Float[np.ndarray, "n d"], *, fill: bool = False) -> Lattice:
  """Builds the lattice around some points, of NumPy arrays.

  Args:
    features: Coordinates f of the points, in standard deviations of the Gaussian.
    fill: Whether to add vertices with two or more neighbors, which about doubles the vertices of an
      image. Without them, the default and as in the authors' code, the lattice has only the
      vertices around points, and values that would be blurred via others are lost.

  Raises:
    ValueError: The features are not finite, or so far apart that vertices cannot be numbered.
  """
  if not np.all(np.isfinite(features)):
    raise ValueError("features that are not finite; expected finite numbers")
  keys, weights = _surround(np.asarray(features, np.float64))
  codes, steps = _encode_vertices(keys)
  vertices, index = np.unique(codes, return_inverse=True)
  index = index.reshape(codes.shape)
  if fill:
    index, vertices = _add_vertices(index, vertices, steps)
  neighbors = _find_neighbors(vertices, steps, _round_up(len(vertices) + 1))
  weights = weights / np.sqrt(_sum_rows(index, weights, neighbors))
  return Lattice(index.astype(np.int32), weights.astype(np.float32), neighbors)


def _surround(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds the vertices around each point by remainder (d1, d1, n), and their weights (d1, n).

  Remainder-k points of the lattice have all coordinates congruent to k modulo d + 1; the simplex
  around a point has one vertex of each (Adams et al. 2010, Sec. 3.1), found by rounding to the
  nearest remainder-0 vertex and ranking the differences.
  """
  d = features.shape[1]
  raised = _embed(features)
  # The nearest vertex of remainder 0, each coordinate by itself.
  nearest = np.ceil(raised / (d + 1) - 0.5).astype(np.int64)
  offset = raised - (d + 1) * nearest
  rank = np.argsort(np.argsort(-offset, axis=0, kind="stable"), axis=0) + nearest.sum(axis=0)
  # Back onto the hyperplane of sum 0, by changing the coordinates with the largest rounding errors.
  wrap = (rank < 0).astype(np.int64) - (rank > d)
  nearest, rank, offset = nearest + wrap, rank + (d + 1) * wrap, offset - (d + 1) * wrap
  ordered = -np.sort(-offset, axis=0) / (d + 1)
  weights = np.concatenate([1 - ordered[:1] + ordered[-1:], (ordered[:-1] - ordered[1:])[::-1]])
  remainder = np.arange(d + 1)[:, None, None]
  return (d + 1) * (nearest - (rank > d - remainder)) + remainder, weights


def _embed(features: np.ndarray) -> np.ndarray:
  """Embeds the points in the hyperplane of sum 0 in d + 1 dimensions (d + 1, n).

  Its scale makes the variance of splat, blur and slice together that of the Gaussian: (d + 1)^2
  times 1/2 are due to the blur and 1/12 each to splat and slice.
  """
  d = features.shape[1]
  basis = np.triu(np.ones((d + 1, d)))
  basis[np.arange(1, d + 1), np.arange(d)] = -np.arange(1, d + 1)
  length = np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
  return (np.sqrt(2 / 3) * (d + 1) / length * basis) @ features.T


def _encode_vertices(keys: np.ndarray) -> tuple[np.ndarray, list[int]]:
  """Encodes vertices as integers, and returns the change of the integer along each axis.

  Integers, as `np.searchsorted` cannot search rows of coordinates.
  """
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
  extended = np.union1d(vertices, around[count > 1])
  return np.searchsorted(extended, vertices)[index], extended


def _find_neighbors(vertices: np.ndarray, steps: list[int], size: int) -> np.ndarray:
  """Finds the vertices on both sides of each along each axis; size - 1 where there is none."""
  neighbors = np.full((len(steps), 2, size), size - 1, np.int32)
  for axis, step in enumerate(steps):
    for side, codes in enumerate((vertices + step, vertices - step)):
      index = np.minimum(np.searchsorted(vertices, codes), len(vertices) - 1)
      exists = vertices[index] == codes
      neighbors[axis, side, : len(vertices)] = np.where(exists, index, size - 1)
  return neighbors


def _sum_rows(index: np.ndarray, weights: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
  """Computes K 1 by the steps of `_filter`."""
  total = np.bincount(index.ravel(), weights.ravel(), minlength=neighbors.shape[2])
  for before, after in neighbors:
    total = _blur(total, total[before], total[after])
  return np.sum(total[index] * weights, axis=0)


def _round_up(size: int) -> int:
  """Rounds up to one of four sizes in each octave, so that few shapes are compiled."""
  step = 2 ** max(0, (size - 1).bit_length() - 3)
  return -(-size // step) * step


@jax.custom_vjp
def _filter(lattice: Lattice, values: Array) -> Array:
  # Scans rather than one batched operation, so that memory holds one vertex or axis at a time.
  def splat(total: Array, corner: tuple[_Arrays, _Arrays]) -> tuple[Array, None]:
    index, weight = corner
    return total.at[index].add(values * weight[:, None], mode="promise_in_bounds"), None

  def blur(total: Array, neighbors: _Arrays) -> tuple[Array, None]:
    before, after = neighbors
    return _blur(total, _gather(total, before), _gather(total, after)), None

  zeros = jnp.zeros((lattice.neighbors.shape[2], values.shape[1]), values.dtype)
  splatted, _ = lax.scan(splat, zeros, (lattice.index, lattice.weights))
  blurred, _ = lax.scan(blur, splatted, lattice.neighbors)
  corners = zip(lattice.index, lattice.weights, strict=True)
  return functools.reduce(
    jnp.add, (_gather(blurred, index) * weight[:, None] for index, weight in corners)
  )


def _blur(values, before, after):
  """Blurs along an axis by (1, 2, 1) / 4, whose variance 1/2 the scale in `_embed` assumes."""
  return 0.5 * values + 0.25 * (before + after)


def _gather(values: Array, index: _Arrays) -> Array:
  return values.at[index].get(mode="promise_in_bounds")


def _forward(lattice: Lattice, values: Array) -> tuple[Array, Lattice]:
  return _filter(lattice, values), lattice


def _backward(lattice: Lattice, cotangent: Array) -> tuple[None, Array]:
  """Applies the transpose: each blur is symmetric, so only the order of the axes is reversed."""
  reverse = lattice._replace(neighbors=lattice.neighbors[::-1])
  return None, _filter(reverse, cotangent)


_filter.defvjp(_forward, _backward)
