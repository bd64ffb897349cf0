"""Gaussian filters over scattered points, by a permutohedral lattice (Adams et al. 2010).

The vertices near any point are found on the host, since their number depends on the points. What
remains is three sparse, linear maps: values are splatted onto the vertices around their points,
blurred along the lattice's axes and sliced at the points.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from asmjax.ops.masked_mean import promote_to_float32

# How many neighbors away the integers that stand for vertices are still unique.
REACH = 2


class Lattice(NamedTuple):
  """A normalized Gaussian filter over n points in d dimensions: d + 1 vertices surround each point.

  It is D^-1/2 K D^-1/2, where K is a matrix close to a multiple of exp(-|f_i - f_j|^2 / 2), i = j
  included, and D = diag(K 1).

  A vertex that is not there is the last one, whose value is always 0. The number m of vertices is
  rounded up, so that images of one size seldom compile anew.
  """

  index: Int[ArrayLike, "d1 n"]  # The vertices around each point,
  weights: Float[ArrayLike, "d1 n"]  # how near they are, times D^-1/2,
  neighbors: Int[ArrayLike, "d1 2 m"]  # and those before and after each vertex along each axis.

  def __call__(self, values: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """The filtered values, in at least single precision.

    Differentiable by the values in reverse mode; the lattice counts as a constant.

    Args:
      values: of the n points, which are spread over all axes but the last.
    """
    values = promote_to_float32(values)
    return _filter(self, values.reshape(-1, values.shape[-1])).reshape(values.shape)

  def padded(self, vertices: int) -> "Lattice":
    """The same filter with more vertices, as for stacking those of several images.

    Raises:
      ValueError: fewer vertices than there are.
    """
    axes, _, found = self.neighbors.shape
    if vertices < found:
      raise ValueError(f"a lattice of {found} vertices; expected at most {vertices}")
    last = np.full((axes, 2, vertices - found), found - 1, np.int32)
    return self._replace(neighbors=np.concatenate([self.neighbors, last], axis=2))


def build(features: Float[np.ndarray, "n d"], *, fill: bool = False) -> Lattice:
  """The lattice of these points, as arrays of the host.

  Args:
    features: f, in standard deviations.
    fill: vertices exist next to points only, and what would spread over others is lost (as in the
      authors' code). With `fill` there are also those that have two or more neighbors, about
      twice as many in an image, so that less is lost.

  Raises:
    ValueError: the features are not finite, or so far apart that vertices cannot be numbered.
  """
  if not np.all(np.isfinite(features)):
    raise ValueError("features that are not finite; expected finite numbers")
  keys, weights = _surround(np.asarray(features, np.float64))
  codes, steps = _pack(keys)
  vertices, index = np.unique(codes, return_inverse=True)
  index = index.reshape(codes.shape)
  if fill:
    index, vertices = _filled(index, vertices, steps)
  neighbors = _neighbors(vertices, steps, _rounded(len(vertices) + 1))
  weights = weights / np.sqrt(_sums(index, weights, neighbors))
  return Lattice(index.astype(np.int32), weights.astype(np.float32), neighbors)


def _surround(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The vertices around each point, by remainder (d1, d1, n), and its weights there (d1, n)."""
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
  """The points on the hyperplane of sum 0 in d + 1 dimensions (d + 1, n).

  Its scale makes the variance of splat, blur and slice together that of the Gaussian: (d + 1)^2
  times 1/2 are due to the blur and 1/12 each to splat and slice.
  """
  d = features.shape[1]
  basis = np.triu(np.ones((d + 1, d)))
  basis[np.arange(1, d + 1), np.arange(d)] = -np.arange(1, d + 1)
  length = np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
  return (np.sqrt(2 / 3) * (d + 1) / length * basis) @ features.T


def _pack(keys: np.ndarray) -> tuple[np.ndarray, list[int]]:
  """An integer for each vertex (d + 1, n), and by how much it changes along each axis."""
  d = len(keys) - 1
  keys = keys[:, :d]  # The last coordinate follows from the others.
  low = keys.min(axis=(0, 2)) - REACH * d
  spans = [int(span) for span in keys.max(axis=(0, 2)) + REACH * d - low + 1]
  radices = [int(np.prod(spans[i + 1 :], dtype=object)) for i in range(d)]
  if radices[0] * spans[0] >= 2**63:
    raise ValueError(f"features that span {spans} lattice steps; expected a product below 2^63")
  moves = (d + 1) * np.eye(d + 1, d, dtype=np.int64) - 1
  steps = [sum(int(a) * b for a, b in zip(move, radices, strict=True)) for move in moves]
  return np.array(radices) @ (keys - low[:, None]), steps


def _filled(index: np.ndarray, vertices: np.ndarray, steps: list[int]):
  """The index and the vertices with those that have two or more neighbors."""
  around = np.concatenate([vertices + sign * step for step in steps for sign in (1, -1)])
  around, count = np.unique(around, return_counts=True)
  every = np.union1d(vertices, around[count > 1])
  return np.searchsorted(every, vertices)[index], every


def _neighbors(vertices: np.ndarray, steps: list[int], size: int) -> np.ndarray:
  """Where the vertices before and after each are along each axis; size - 1 if nowhere."""
  found = np.full((len(steps), 2, size), size - 1, np.int32)
  for axis, step in enumerate(steps):
    for side, wanted in enumerate((vertices + step, vertices - step)):
      at = np.minimum(np.searchsorted(vertices, wanted), len(vertices) - 1)
      found[axis, side, : len(vertices)] = np.where(vertices[at] == wanted, at, size - 1)
  return found


def _sums(index: np.ndarray, weights: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
  """K 1, by the steps of `_filter`."""
  total = np.bincount(index.ravel(), weights.ravel(), minlength=neighbors.shape[2])
  for before, after in neighbors:
    total = _blur(total, total[before], total[after])
  return np.sum(total[index] * weights, axis=0)


def _rounded(size: int) -> int:
  """Up, to one of four sizes between two powers of two."""
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
  return sum(_at(blurred, index) * weight[:, None] for index, weight in corners)


def _splat(total: Array, values: Array, index: ArrayLike, weight: ArrayLike) -> Array:
  return total.at[index].add(values * weight[:, None], mode="promise_in_bounds")


def _blur(values, before, after):
  """By (1, 2, 1) / 4; the scale of the features assumes it."""
  return 0.5 * values + 0.25 * (before + after)


def _at(values: Array, index: ArrayLike) -> Array:
  return values.at[index].get(mode="promise_in_bounds")


def _forward(lattice: Lattice, values: Array) -> tuple[Array, Lattice]:
  return _filter(lattice, values), lattice


def _backward(lattice: Lattice, cotangent: Array) -> tuple[None, Array]:
  """A blur is its own transpose: only the order of the axes is reversed."""
  reverse = lattice._replace(neighbors=lattice.neighbors[::-1])
  return None, _filter(reverse, cotangent)


_filter.defvjp(_forward, _backward)
