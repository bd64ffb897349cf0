"""Affinity field loss: predictions at neighboring pixels against the truth's edges between them."""

import dataclasses
import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.neighborhood import Offset, offsets, pad_border, shift
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes

# Probabilities are clipped to [FLOOR, 1] before their logarithm is taken, as in the released code
# of Ke et al. 2018.
FLOOR = 1e-4

# By how much probabilities may leave [0, 1]: a softmax in bfloat16 rounds to multiples of 1/128.
_ROUNDING = 1e-2

IGNORE = ("pair", "opposite")
WEIGHT_BY = ("center", "channel")


class SizeWeights(NamedTuple):
  """Weights of the neighborhood's sizes, by class.

  Attributes:
    edge: Weights for pairs that the truth separates in the class's channel.
    non_edge: Weights for the other pairs.
  """

  edge: Float[Array, "c k"]
  non_edge: Float[Array, "c k"]


class AffinityLoss(NamedTuple):
  """Affinity field loss (k,) by size.

  Attributes:
    edge: Loss over pairs that the truth separates in a channel.
    non_edge: Loss over the other pairs.
  """

  edge: MaskedMean
  non_edge: MaskedMean

  def mean(self) -> Float[Array, ""]:
    """Adds up the means of either kind over all sizes, which is the loss to train with."""
    return jnp.sum(self.edge.mean() + self.non_edge.mean())


def affinity_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  weights: SizeWeights | None = None,
  sizes: tuple[int, ...] = (3, 5, 7),
  neighbors: str = "corners",
  ignore: str = "pair",
  margin: float = 3.0,
  weight_by: str = "center",
) -> AffinityLoss:
  """Computes the affinity field loss (Ke et al. 2018, Eqs. 3 and 7).

  A center i, a neighbor j and a class c make an entry. Where the truths of i and j agree in the
  channel c it costs KL(p_j(c) || p_i(c)) of two Bernoulli distributions, otherwise (an edge: one
  of the two is of class c) max(0, margin - KL).

  The loss is computed one channel at a time, forward and backward, so that memory does not grow
  with the number of neighbors.

  Args:
    probabilities: Class probabilities.
    label: Class ids; a pixel with an id outside [0, c) is unlabeled.
    weights: Weights of the sizes; 1 by default. The loss is linear in them.
    sizes: k of each k x k neighborhood.
    neighbors: "corners" (as released) or "full" (as published); see
      `asmjax.losses.neighborhood.offsets`.
    ignore: Pairs that are left out: "pair" those of which a pixel is unlabeled or outside the
      image, "opposite" (as released) also those whose center has such a pixel at the opposite side.
    margin: m, in nats; 3 by default, as in the paper.
    weight_by: Class whose weight an entry has: that of its "center" (as released) or of its
      "channel" (Eq. 7).

  Returns:
    Of each size the weighted sum over the entries of either kind, and their number; `.mean()` is
    one number to train with. An unlabeled pixel has no gradient.

  Raises:
    ValueError: An unknown option, an impossible size, shapes that do not fit, or, outside of
      compiled functions, probabilities that are none.

  Examples:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([0.9, 0.1, 0.5, 0.5]).reshape(1, 1, 2, 2)
    >>> one_class = affinity_loss(p, jnp.array([[[0, 0]]]), sizes=(3,))
    >>> print(one_class.non_edge.count, one_class.non_edge.mean().round(4), one_class.edge.mean())
    [4.] [0.4394] [0.]
    >>> two_classes = affinity_loss(p, jnp.array([[[0, 1]]]), sizes=(3,))
    >>> print(two_classes.edge.count, two_classes.edge.mean().round(4))
    [4.] [2.5606]
    >>> print(two_classes.mean().round(4))
    2.5606
  """
  field = AffinityField(tuple(sizes), neighbors, ignore, float(margin), weight_by)
  planes, label = jnp.moveaxis(promote_to_float32(probabilities), -1, 0), jnp.asarray(label, int)
  check_shapes(probabilities=(probabilities, "n h w c"), label=(label, "n h w"))
  _check_probabilities(probabilities)
  # `jax.custom_vjp` hides the type of the function.
  edge, non_edge = cast(tuple[Array, Array], _sum_entries(field, planes, label))
  if weights is not None:
    edge, non_edge = edge * weights.edge, non_edge * weights.non_edge
  num_edges, num_entries = _count_entries(field, label, len(planes))
  return AffinityLoss(
    MaskedMean(edge.sum(axis=0), num_edges.astype(edge.dtype)),
    MaskedMean(non_edge.sum(axis=0), (num_entries - num_edges).astype(edge.dtype)),
  )


def _check_probabilities(probabilities: ArrayLike) -> None:
  """Raises ValueError for values outside of [0, 1], such as logits, if there are values yet."""
  if isinstance(probabilities, Tracer):
    return
  low, high = (float(each(probabilities, initial=0)) for each in (jnp.min, jnp.max))
  if low < -_ROUNDING or high > 1 + _ROUNDING:
    raise ValueError(
      f"probabilities from {low:.3g} to {high:.3g}; expected 0 to 1: apply jax.nn.softmax to logits"
    )


@dataclasses.dataclass(frozen=True)
class AffinityField:
  """Static options of an affinity field, all of them as for `affinity_loss`.

  Raises:
    ValueError: An unknown option or an impossible size.
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
    """Indices of the sizes whose neighborhood contains an offset, by offset."""
    pairs: dict[Offset, tuple[int, ...]] = {}
    for k, size in enumerate(self.sizes):
      for offset in offsets(size, self.neighbors):
        pairs[offset] = (*pairs.get(offset, ()), k)
    return pairs

  @property
  def border(self) -> int:
    """Pixels of padding that every shifted view stays within."""
    return max(self.sizes) // 2 * (2 if self.ignore == "opposite" else 1)

  def pad(self, x: ArrayLike, value: ArrayLike = 0) -> Array:
    """Pads the last two axes with a border wide enough for `shift`."""
    return pad_border(x, self.border, value)

  def shift(self, padded: Array, offset: Offset = (0, 0)) -> Array:
    """Returns, for each pixel, the value at `offset` from it in a padded map."""
    return shift(padded, offset, self.border)

  def mark_pairs(self, labeled: Array, offset: Offset) -> tuple[Array, Array]:
    """Marks the pairs with the neighbor at `offset` that count, and the reverse pairs that do.

    The reverse pair has the neighbor as its center; opposite to that is what lies two offsets away.
    """
    both = self.shift(labeled) & self.shift(labeled, offset)
    if self.ignore == "pair":
      return both, both
    dy, dx = offset
    return both & self.shift(labeled, (-dy, -dx)), both & self.shift(labeled, (2 * dy, 2 * dx))


class _Bernoulli(NamedTuple):
  """Probabilities p of a channel and q = 1 - p, both clipped, and their logarithms."""

  p: Array
  q: Array
  log_p: Array
  log_q: Array

  @classmethod
  def from_plane(cls, plane: Array) -> "_Bernoulli":
    p, q = (jnp.clip(x, FLOOR, 1.0) for x in (plane, 1 - plane))
    return cls(p, q, jnp.log(p), jnp.log(q))


def _kl_divergence(a: _Bernoulli, b: _Bernoulli) -> Array:
  """KL(a || b)."""
  return a.p * (a.log_p - b.log_p) + a.q * (a.log_q - b.log_q)


class _Channel(NamedTuple):
  """One channel of a prediction, at the pixels and padded for shifting.

  Attributes:
    field: Pairs of the field.
    center: Distribution at each pixel.
    padded: The same with a border.
    is_channel: Whether a pixel's label is this channel, with a border.
  """

  field: AffinityField
  center: _Bernoulli
  padded: _Bernoulli
  is_channel: Array

  @classmethod
  def from_plane(cls, field: AffinityField, plane: Array, channel: Array, padded_label: Array):
    center = _Bernoulli.from_plane(plane)
    padded = _Bernoulli(*map(field.pad, center))
    return cls(field, center, padded, padded_label == channel)

  def neighbor(self, offset: Offset) -> tuple[_Bernoulli, Array]:
    """Returns the neighbors' distributions, and where the truth separates them from the center."""
    shift = functools.partial(self.field.shift, offset=offset)
    is_edge = self.field.shift(self.is_channel) != shift(self.is_channel)
    return _Bernoulli(*map(shift, self.padded)), is_edge


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_entries(field: AffinityField, planes: Array, label: Array) -> tuple[Array, Array]:
  """Sums over the edge and over the non-edge entries, by class and size: two (c, k)."""
  return _sum_entries_forward(field, planes, label)[0]


def _sum_entries_forward(field: AffinityField, planes: Array, label: Array):
  labeled, padded_label = _pad_labeled(field, label, len(planes)), field.pad(label, -1)
  zeros = jnp.zeros(label.shape, planes.dtype)

  def scan_channel(total, inputs):
    index, plane = inputs
    channel = _Channel.from_plane(field, plane, index, padded_label)
    edge, non_edge = ([zeros] * len(field.sizes) for _ in range(2))
    for offset, size_indices in field.pairs.items():
      neighbor, is_edge = channel.neighbor(offset)
      valid, _ = field.mark_pairs(labeled, offset)
      kl = _kl_divergence(neighbor, channel.center)
      hinge = jnp.where(valid & is_edge, jnp.maximum(0, field.margin - kl), 0)
      kl = jnp.where(valid & ~is_edge, kl, 0)
      for k in size_indices:
        edge[k], non_edge[k] = edge[k] + hinge, non_edge[k] + kl
    maps = jnp.stack([*edge, *non_edge])
    if field.weight_by == "channel":
      return total, jnp.sum(maps, axis=(1, 2, 3))
    return total + maps, None

  by_channel = field.weight_by == "channel"
  carry = None if by_channel else jnp.zeros((2 * len(field.sizes), *label.shape), planes.dtype)
  total, sums = lax.scan(scan_channel, carry, (jnp.arange(len(planes)), planes))
  if not by_channel:
    center_class = jax.nn.one_hot(label, len(planes), axis=0, dtype=planes.dtype)
    sums = jnp.einsum("cnhw,knhw->ck", center_class, total, precision="highest")
  edge, non_edge = jnp.split(cast(Array, sums), 2, axis=1)
  return (edge, non_edge), (planes, label)


# The backward pass gathers instead of scattering. A pixel i takes part in a pair with its neighbor
# j = i + offset twice: as the center of (i, j), whose loss is a function of KL(p_j || p_i), and as
# the neighbor of the reverse pair (j, i), whose loss is one of KL(p_i || p_j). With
# KL(a || b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b)), and p and q = 1 - p treated as two
# variables because each is clipped on its own,
#
#   as center:    d KL(p_j || p_i) / d p_i = -p_j / p_i           d / d q_i = -q_j / q_i
#   as neighbor:  d KL(p_i || p_j) / d p_i = 1 + log(p_i / p_j)   d / d q_i = 1 + log(q_i / q_j)
#
# each times d loss / d KL of its pair: the cotangent of the entry's sum, with the sign -1 for an
# edge within the margin and 0 beyond it. At last d q_i / d p_i = -1, and a clipped p or q has no
# slope. All sizes that contain an offset share its divergence, so their cotangents are added first.
def _sum_entries_backward(field: AffinityField, residuals, cotangents):
  planes, label = residuals
  labeled, padded_label = _pad_labeled(field, label, len(planes)), field.pad(label, -1)
  by_class = jnp.concatenate(cotangents, axis=1)
  by_center = field.pad(jnp.moveaxis(by_class[jnp.clip(label, 0, len(planes) - 1)], -1, 0))

  def scan_channel(_, inputs):
    index, plane, by_channel = inputs
    channel = _Channel.from_plane(field, plane, index, padded_label)
    center, d_p, d_q = channel.center, 0.0, 0.0
    for offset, size_indices in field.pairs.items():
      neighbor, is_edge = channel.neighbor(offset)
      if field.weight_by == "center":
        # The center of the reverse pair is the neighbor.
        of_pair, of_reverse = field.shift(by_center), field.shift(by_center, offset)
      else:
        of_pair = of_reverse = by_channel
      valid, reverse_valid = field.mark_pairs(labeled, offset)
      kl = _kl_divergence(neighbor, center)
      cotangent = _sum_sizes(of_pair, size_indices)
      d_kl = _d_loss_d_kl(field, kl, is_edge, valid, cotangent)
      d_p -= d_kl * neighbor.p / center.p
      d_q -= d_kl * neighbor.q / center.q
      kl = _kl_divergence(center, neighbor)
      cotangent = _sum_sizes(of_reverse, size_indices)
      d_kl = _d_loss_d_kl(field, kl, is_edge, reverse_valid, cotangent)
      d_p += d_kl * (1 + center.log_p - neighbor.log_p)
      d_q += d_kl * (1 + center.log_q - neighbor.log_q)
    return None, jnp.where(plane > FLOOR, d_p, 0) - jnp.where(1 - plane > FLOOR, d_q, 0)

  inputs = (jnp.arange(len(planes)), planes, by_class)
  _, gradient = lax.scan(scan_channel, None, inputs)
  return gradient, np.zeros(label.shape, jax.dtypes.float0)


_sum_entries.defvjp(_sum_entries_forward, _sum_entries_backward)


def _d_loss_d_kl(
  field: AffinityField, kl: Array, is_edge: Array, valid: Array, cotangent: tuple[Array, Array]
) -> Array:
  """Derivative of the loss by each entry's divergence, for cotangents of (edge, non-edge)."""
  edge, non_edge = cotangent
  hinge = jnp.where(kl < field.margin, -edge, 0)
  return jnp.where(valid, jnp.where(is_edge, hinge, non_edge), 0)


def _sum_sizes(cotangents: Array, size_indices: tuple[int, ...]) -> tuple[Array, Array]:
  """Adds up the cotangents (2 k, ...) of an edge and of a non-edge entry over sizes."""
  edge, non_edge = jnp.split(cotangents, 2)
  total = lambda of_kind: cast(Array, sum(of_kind[k] for k in size_indices))
  return total(edge), total(non_edge)


def _pad_labeled(field: AffinityField, label: Array, classes: int) -> Array:
  """Marks labeled pixels, in a map with a border that is not."""
  return field.pad((label >= 0) & (label < classes), False)


def _count_entries(field: AffinityField, label: Array, classes: int) -> tuple[Array, Array]:
  """Counts edge entries and all entries of each size.

  A pair of two classes is an edge in two channels.
  """
  labeled, padded_label = _pad_labeled(field, label, classes), field.pad(label, -1)
  edges, entries = ([jnp.zeros(())] * len(field.sizes) for _ in range(2))
  for offset, size_indices in field.pairs.items():
    valid, _ = field.mark_pairs(labeled, offset)
    differs = valid & (label != field.shift(padded_label, offset))
    # Integers up to here: a float32 cannot count beyond 2^24.
    num_pairs, num_different = (
      jnp.sum(marked, dtype=jnp.int32).astype(float) for marked in (valid, differs)
    )
    for k in size_indices:
      edges[k], entries[k] = edges[k] + 2 * num_different, entries[k] + classes * num_pairs
  return jnp.stack(edges), jnp.stack(entries)
