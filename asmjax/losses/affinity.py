"""Affinity fields: what a prediction says of neighboring pixels, against what the truth says."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.neighborhood import Offset, offsets, padded, seen_from
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32

# Probabilities are clipped to [FLOOR, 1] before their logarithm is taken.
FLOOR = 1e-4

IGNORE = ("pair", "opposite")
WEIGHT_BY = ("center", "channel")


class SizeWeights(NamedTuple):
  """What each size of the neighborhood counts for, by class."""

  edge: Float[Array, "c k"]
  nonedge: Float[Array, "c k"]


class Affinity(NamedTuple):
  """The loss by size: over pairs that a channel tells apart, and over all others."""

  edge: MaskedMean
  nonedge: MaskedMean


def affinity(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  sizes: tuple[int, ...] = (3, 5, 7),
  neighbors: str = "corners",
  ignore: str = "pair",
  margin: float = 3.0,
  weights: SizeWeights | None = None,
  weight_by: str = "center",
) -> Affinity:
  """The affinity field loss (Ke et al. 2018, Eqs. 3 and 7).

  A center i, a neighbor j and a class c make an entry. Where the truths of i and j agree in the
  channel c it costs KL(p_j(c) || p_i(c)) of two Bernoulli distributions, otherwise (an edge: one
  of the two is of class c) max(0, margin - KL).

  The loss is computed one channel at a time, forward and backward, so that memory does not grow
  with the number of neighbors.

  Args:
    probabilities: of the classes.
    label: class ids; a pixel with an id outside [0, c) is unlabeled.
    sizes: k of each k x k neighborhood.
    neighbors: "corners" (as released) or "full" (as published); see
      `asmjax.losses.neighborhood.offsets`.
    ignore: which pairs are left out: "pair" those of which a pixel is unlabeled or outside the
      image, "opposite" (as released) also those whose center has such a pixel at the opposite side.
    margin: m, in nats.
    weights: of the sizes; 1 by default. The loss is linear in them.
    weight_by: whose weight an entry takes: that of the class of its "center" (as released) or of
      its "channel" (Eq. 7).

  Returns:
    Of each size (k,) the weighted sum over the entries of either kind, and their number. An
    unlabeled pixel has no gradient.

  Raises:
    ValueError: an unknown option or an impossible size.

  Example:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.9, 0.1, 0.5, 0.5]).reshape(1, 1, 2, 2)
    >>> alike = affinity(p, jnp.array([[[0, 0]]]), sizes=(3,))
    >>> print(alike.nonedge.count, alike.nonedge.mean().round(4), alike.edge.mean())
    [4.] [0.4394] [0.]
    >>> other = affinity(p, jnp.array([[[0, 1]]]), sizes=(3,))
    >>> print(other.edge.count, other.edge.mean().round(4))
    [4.] [2.5606]
  """
  field = Field(tuple(sizes), neighbors, ignore, float(margin), weight_by)
  planes, label = jnp.moveaxis(promote_to_float32(probabilities), -1, 0), jnp.asarray(label, int)
  edge, nonedge = _sums(field, planes, label)
  if weights is not None:
    edge, nonedge = edge * weights.edge, nonedge * weights.nonedge
  edges, entries = _counts(field, label, len(planes))
  return Affinity(
    MaskedMean(edge.sum(axis=0), edges.astype(edge.dtype)),
    MaskedMean(nonedge.sum(axis=0), (entries - edges).astype(edge.dtype)),
  )


@dataclasses.dataclass(frozen=True)
class Field:
  """Which pairs there are and how they are weighed: all that is known when compiling.

  Raises:
    ValueError: an unknown option or an impossible size.
  """

  sizes: tuple[int, ...]
  neighbors: str
  ignore: str
  margin: float
  weight_by: str

  def __post_init__(self):
    for name, known in (("ignore", IGNORE), ("weight_by", WEIGHT_BY)):
      if getattr(self, name) not in known:
        raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
    if not self.pairs:
      raise ValueError("affinity fields need at least one size")

  @functools.cached_property
  def pairs(self) -> dict[Offset, tuple[int, ...]]:
    """From each offset to the places of the sizes whose neighborhood holds it."""
    held = [offsets(size, self.neighbors) for size in self.sizes]
    every = dict.fromkeys(offset for each in held for offset in each)
    return {offset: tuple(k for k, each in enumerate(held) if offset in each) for offset in every}

  @property
  def reach(self) -> int:
    """Pixels of padding that every shifted view stays within."""
    return max(self.sizes) // 2 * (2 if self.ignore == "opposite" else 1)

  def pad(self, x: ArrayLike, value: ArrayLike = 0) -> Array:
    """`x` with a border as wide as the reach."""
    return padded(x, self.reach, value)

  def see(self, x: Array, offset: Offset = (0, 0)) -> Array:
    """What each pixel sees at `offset` of a map with such a border."""
    return seen_from(x, offset, self.reach)

  def valid(self, known: Array, offset: Offset) -> tuple[Array, Array]:
    """Of the pair with the neighbor at `offset`: whether it counts, and whether its reverse does.

    The reverse has the neighbor as its center, and two steps away what is opposite to that.
    """
    both = self.see(known) & self.see(known, offset)
    if self.ignore == "pair":
      return both, both
    dy, dx = offset
    return both & self.see(known, (-dy, -dx)), both & self.see(known, (2 * dy, 2 * dx))


class _Bernoulli(NamedTuple):
  """A channel's probabilities and their complements, clipped, and the logarithms of both."""

  p: Array
  q: Array
  log_p: Array
  log_q: Array

  @classmethod
  def of(cls, plane: Array) -> "_Bernoulli":
    p, q = (jnp.clip(x, FLOOR, 1.0) for x in (plane, 1 - plane))
    return cls(p, q, jnp.log(p), jnp.log(q))


def _divergence(a: _Bernoulli, b: _Bernoulli) -> Array:
  """KL(a || b)."""
  return a.p * (a.log_p - b.log_p) + a.q * (a.log_q - b.log_q)


class _Channel(NamedTuple):
  """One channel as every pixel sees it, all padded."""

  field: Field
  here: _Bernoulli
  around: _Bernoulli
  own: Array
  known: Array

  @classmethod
  def of(cls, field: Field, plane: Array, channel: Array, label: Array, known: Array):
    here = _Bernoulli.of(plane)
    return cls(field, here, _Bernoulli(*map(field.pad, here)), label == channel, known)

  def there(self, offset: Offset) -> tuple[_Bernoulli, Array]:
    """The neighbors' distributions, and which of them the truth tells apart from their center."""
    see = functools.partial(self.field.see, offset=offset)
    return _Bernoulli(*map(see, self.around)), self.field.see(self.own) != see(self.own)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(field: Field, planes: Array, label: Array) -> tuple[Array, Array]:
  """Sums over the edge and over the non-edge entries, by class and size: two (c, k)."""
  return _sums_forward(field, planes, label)[0]


def _sums_forward(field: Field, planes: Array, label: Array):
  known, classes = _known(field, label, len(planes)), field.pad(label, -1)
  nothing = jnp.zeros(label.shape, planes.dtype)

  def scan_channel(total, inputs):
    channel, plane = inputs
    seen = _Channel.of(field, plane, channel, classes, known)
    edge, nonedge = ([nothing] * len(field.sizes) for _ in range(2))
    for offset, held_by in field.pairs.items():
      there, apart = seen.there(offset)
      valid, _ = field.valid(known, offset)
      divergence = _divergence(there, seen.here)
      split = jnp.where(valid & apart, jnp.maximum(0, field.margin - divergence), 0)
      alike = jnp.where(valid & ~apart, divergence, 0)
      for k in held_by:
        edge[k], nonedge[k] = edge[k] + split, nonedge[k] + alike
    maps = jnp.stack([*edge, *nonedge])
    if field.weight_by == "channel":
      return total, jnp.sum(maps, axis=(1, 2, 3))
    return total + maps, None

  by_channel = field.weight_by == "channel"
  carry = None if by_channel else jnp.zeros((2 * len(field.sizes), *label.shape), planes.dtype)
  total, sums = lax.scan(scan_channel, carry, (jnp.arange(len(planes)), planes))
  if not by_channel:
    center = jax.nn.one_hot(label, len(planes), axis=0, dtype=planes.dtype)
    sums = jnp.einsum("cnhw,knhw->ck", center, total, precision="highest")
  return tuple(jnp.split(sums, 2, axis=1)), (planes, label)


def _sums_backward(field: Field, residuals, cotangents):
  """The gradient, gathered: each pixel visits its neighbors as their center and as theirs."""
  planes, label = residuals
  known, classes = _known(field, label, len(planes)), field.pad(label, -1)
  by_channel, by_center = _prices(field, jnp.concatenate(cotangents, axis=1), label)

  def scan_channel(_, inputs):
    channel, plane, by_channel = inputs
    seen = _Channel.of(field, plane, channel, classes, known)
    here, of_p, of_q = seen.here, 0.0, 0.0
    for offset, held_by in field.pairs.items():
      there, apart = seen.there(offset)
      price, price_there = (
        _held(by_channel if by_center is None else field.see(by_center, center), held_by)
        for center in ((0, 0), offset)
      )
      valid, reverse = field.valid(known, offset)
      # d KL(there || here), then d KL(here || there), by what is here.
      rate = _rate(field, _divergence(there, here), apart, valid, price)
      of_p -= rate * there.p / here.p
      of_q -= rate * there.q / here.q
      rate = _rate(field, _divergence(here, there), apart, reverse, price_there)
      of_p += rate * (1 + here.log_p - there.log_p)
      of_q += rate * (1 + here.log_q - there.log_q)
    return None, jnp.where(plane > FLOOR, of_p, 0) - jnp.where(1 - plane > FLOOR, of_q, 0)

  inputs = (jnp.arange(len(planes)), planes, by_channel)
  _, gradient = lax.scan(scan_channel, None, inputs)
  return gradient, np.zeros(label.shape, jax.dtypes.float0)


_sums.defvjp(_sums_forward, _sums_backward)


def _rate(field: Field, divergence: Array, apart: Array, valid: Array, price) -> Array:
  """The derivative of what an entry costs by its divergence, at the price of its kind."""
  edge, nonedge = price
  split = jnp.where(divergence < field.margin, -edge, 0)
  return jnp.where(valid, jnp.where(apart, split, nonedge), 0)


def _prices(field: Field, cotangents: Array, label: Array) -> tuple[Array | None, Array | None]:
  """What an entry of each kind and size counts for: by channel (c, 2 k), or maps by center."""
  if field.weight_by == "channel":
    return cotangents, None
  of_center = cotangents[jnp.clip(label, 0, len(cotangents) - 1)]
  return None, field.pad(jnp.moveaxis(of_center, -1, 0))


def _held(prices: Array, held_by: tuple[int, ...]) -> tuple[Array, Array]:
  """The price of an edge and of a non-edge entry that several sizes hold."""
  edge, nonedge = jnp.split(prices, 2)
  return sum(edge[k] for k in held_by), sum(nonedge[k] for k in held_by)


def _known(field: Field, label: Array, classes: int) -> Array:
  return field.pad((label >= 0) & (label < classes), False)


def _counts(field: Field, label: Array, classes: int) -> tuple[Array, Array]:
  """Edge entries and all entries of each size; a pair of two classes is an edge in two channels."""
  known, around = _known(field, label, classes), field.pad(label, -1)
  edges, entries = ([jnp.zeros(())] * len(field.sizes) for _ in range(2))
  for offset, held_by in field.pairs.items():
    valid, _ = field.valid(known, offset)
    apart = valid & (label != field.see(around, offset))
    # Integers up to here: a float32 cannot count beyond 2^24.
    pairs, split = (jnp.sum(each, dtype=jnp.int32).astype(float) for each in (valid, apart))
    for k in held_by:
      edges[k], entries[k] = edges[k] + 2 * split, entries[k] + classes * pairs
  return jnp.stack(edges), jnp.stack(entries)
