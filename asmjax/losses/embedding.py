"""Contrastive loss of pixel embeddings: neighbors of one class together, of two classes apart."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer, Shaped

from asmjax.losses.neighborhood import offsets
from asmjax.losses.pixel import l2_normalize
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes


class ContrastiveLoss(NamedTuple):
  """Contrastive loss by the kind of pair.

  Attributes:
    same: Loss over pairs of one class.
    different: Loss over pairs of two classes.
  """

  same: MaskedMean
  different: MaskedMean

  def mean(self) -> Float[Array, ""]:
    """Adds up the means of both kinds, which is the loss to train with."""
    return self.same.mean() + self.different.mean()


def contrastive_loss(
  features: Float[ArrayLike, "n h w d"],
  label: Integer[ArrayLike, "n h w"],
  *,
  classes: int,
  size: int = 3,
  neighbors: str = "corners",
  margin: float = 0.2,
) -> ContrastiveLoss:
  """Computes the contrastive loss of pixels and their neighbors (Ke et al. 2018, Sec. 4.3, Eq. 9).

  With f the features at length 1, a pair of one class costs ||f_j - f_i||^2, a pair of two classes
  max(0, margin - ||f_j - f_i||), which is not squared. A pair costs the same from either end and
  is visited once, which changes no mean and halves the work. Memory does not grow with the
  neighborhood: neither pass keeps more than one direction's pairs.

  Args:
    features: Input of the layer that makes the logits. A feature vector of 0 has no direction: it
      stays 0 and gets no gradient.
    label: Class ids; a pair with an id outside [0, classes) is ignored, 255 among them, and an
      ignored pixel has exactly no gradient.
    classes: Number of classes.
    size: Odd k of the k x k neighborhood; the image's edge cuts it off.
    neighbors: "corners" or "full"; see `asmjax.losses.neighborhood.offsets`.
    margin: Distance from which pairs of two classes cost nothing; 0.2 by default.

  Returns:
    Sums over pairs of the same and of different classes, and their numbers; `.mean()` is one number
    to train with.

  Raises:
    ValueError: An even size, unknown neighbors, or shapes that do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> features = jnp.array([[[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]]])
    >>> loss = contrastive_loss(features, jnp.array([[[0, 1, 1]]]), classes=2)
    >>> print(loss.same.total, loss.same.count, loss.different.total, loss.different.count)
    2.0 1.0 0.2 1.0
    >>> print(loss.mean())
    2.2
  """
  # One of each two opposite offsets.
  both = offsets(size, neighbors)
  directions = jnp.array(both[: len(both) // 2])
  features, label = promote_to_float32(features), jnp.asarray(label, int)
  check_shapes(features=(features, "n h w d"), label=(label, "n h w"))
  labeled = (label >= 0) & (label < classes)
  # `l2_normalize` is steep at 0: dead features would get a gradient a million times too large.
  alive = labeled[..., None] & jnp.any(features != 0, axis=-1, keepdims=True)
  features = l2_normalize(jnp.where(alive, features, 0))
  label = jnp.where(labeled, label, -1)
  radius = size // 2
  padded_features, padded_label = _pad(features, radius, 0), _pad(label, radius, -1)

  def add(total: ContrastiveLoss, direction: Array) -> tuple[ContrastiveLoss, None]:
    start = radius + direction
    neighbor_features = _cut_window(padded_features, start, features.shape)
    neighbor_label = _cut_window(padded_label, start, label.shape)
    loss = _pair_loss(features, label, neighbor_features, neighbor_label, margin)
    return jax.tree.map(jnp.add, total, loss), None

  zero = MaskedMean(*jnp.zeros((2,), features.dtype))
  # Recomputed in the backward pass, so that memory does not grow with the number of directions.
  step = jax.checkpoint(add, prevent_cse=False)
  total, _ = lax.scan(step, ContrastiveLoss(zero, zero), directions)
  return total


def _pad(x: Shaped[Array, "n h w *_"], radius: int, value: int) -> Shaped[Array, "n _ _ *_"]:
  borders = [(0, 0), (radius, radius), (radius, radius), (0, 0)]
  return jnp.pad(x, borders[: x.ndim], constant_values=value)


def _cut_window(
  x: Shaped[Array, "n _ _ *_"], start: Int[Array, "2"], shape: tuple[int, ...]
) -> Array:
  """The part of `shape` of a padded map that starts at `start`, a row and a column."""
  return lax.dynamic_slice(x, (0, *start, 0)[: x.ndim], shape)


def _pair_loss(
  features: Float[Array, "n h w d"],
  label: Int[Array, "n h w"],
  neighbor_features: Float[Array, "n h w d"],
  neighbor_label: Int[Array, "n h w"],
  margin: float,
) -> ContrastiveLoss:
  """Loss of the pairs of every pixel with its neighbor in one direction."""
  # Not 2 - 2 cos, which loses the small distances that matter most.
  squared = jnp.sum((neighbor_features - features) ** 2, axis=-1)
  # The root has no slope at 0; the distance is given the slope 0 there.
  positive = squared > 0
  distance = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)
  labeled = (label >= 0) & (neighbor_label >= 0)
  same = label == neighbor_label
  return ContrastiveLoss(
    MaskedMean.from_values(squared, labeled & same),
    MaskedMean.from_values(jnp.maximum(0, margin - distance), labeled & ~same),
  )
