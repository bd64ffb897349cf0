"""Pixel embedding: features of neighbors, pulled together within classes and apart between."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer, Shaped

from asmjax.losses.neighborhood import offsets
from asmjax.losses.pixel import unit
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32


class Contrast(NamedTuple):
  """The loss of pairs of the same class and that of pairs of different classes."""

  same: MaskedMean
  different: MaskedMean


def contrastive(
  features: Float[ArrayLike, "n h w d"],
  label: Integer[ArrayLike, "n h w"],
  *,
  classes: int,
  size: int = 3,
  neighbors: str = "corners",
  margin: float = 0.2,
  sampled: int = 0,
  rng: Array | None = None,
) -> Contrast:
  """Contrastive loss of each pixel and its neighbors (Ke et al. 2018, Sec. 4.3, Eq. 9).

  With f the features at length 1, a pair of one class costs ||f_j - f_i||^2, a pair of two classes
  max(0, margin - ||f_j - f_i||), which is not squared. A pair costs the same from either end and
  is visited once, which changes no mean and halves the work. Memory does not grow with the
  neighborhood: neither pass holds more than one direction's pairs.

  Args:
    features: before the layer that makes the logits. A feature vector of 0 has no direction: it
      stays 0 and gets no gradient.
    label: class ids; a pair with an id outside [0, classes) is ignored, 255 among them, and an
      ignored pixel has exactly no gradient.
    classes: number of classes.
    size: odd k of the k x k neighborhood; the image's edge cuts it off.
    neighbors: "corners" or "full", see `asmjax.losses.neighborhood.offsets`.
    margin: distance from which pairs of two classes cost nothing.
    sampled: if positive, visit only so many of the neighborhood's directions (of "corners" there
      are 4, of "full" (k^2 - 1) / 2), drawn without replacement, the same for all pixels. Then
      sums and counts, times all directions by sampled ones, are unbiased estimates of the whole's.
    rng: key of the draw.

  Returns:
    Sums over pairs of the same and of different classes, and their numbers.

  Raises:
    ValueError: an even size, unknown neighbors, more sampled than there are, or no key to sample.

  Example:
    >>> import jax.numpy as jnp
    >>> features = jnp.array([[[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]]])
    >>> print(contrastive(features, jnp.array([[[0, 1, 1]]]), classes=2))
    Contrast(same=MaskedMean(total=Array(2., dtype=float32), count=Array(1., dtype=float32)), \
different=MaskedMean(total=Array(0.2, dtype=float32), count=Array(1., dtype=float32)))
  """
  directions = _directions(size, neighbors, sampled, rng)
  features, label = promote_to_float32(features), jnp.asarray(label, int)
  known = (label >= 0) & (label < classes)
  # `unit` is steep at 0: dead features would otherwise get a gradient a million times too large.
  alive = known[..., None] & jnp.any(features != 0, axis=-1, keepdims=True)
  features = unit(jnp.where(alive, features, 0))
  label = jnp.where(known, label, -1)
  radius = size // 2
  around = _padded(features, radius, 0), _padded(label, radius, -1)

  def add(total: Contrast, direction: Array) -> tuple[Contrast, None]:
    start = radius + direction
    seen = _window(around[0], start, features.shape), _window(around[1], start, label.shape)
    return jax.tree.map(jnp.add, total, _pairs(features, label, *seen, margin)), None

  none = MaskedMean(*jnp.zeros((2,), features.dtype))
  total, _ = lax.scan(jax.checkpoint(add, prevent_cse=False), Contrast(none, none), directions)
  return total


def _directions(
  size: int, neighbors: str, sampled: int, rng: Array | None
) -> Int[Array, "directions 2"]:
  """One of each two opposite offsets, or as many of those as are to be sampled."""
  both = offsets(size, neighbors)
  directions = jnp.array(both[: len(both) // 2])
  if not sampled:
    return directions
  if not 0 < sampled <= len(directions):
    raise ValueError(
      f"{sampled} directions sampled of the {len(directions)} to {neighbors!r} of size {size}"
    )
  if rng is None:
    raise ValueError(f"{sampled} directions to be sampled without a key; expected rng")
  return jax.random.choice(rng, directions, (sampled,), replace=False)


def _padded(x: Shaped[Array, "n h w *_"], radius: int, value: int) -> Shaped[Array, "n _ _ *_"]:
  margins = [(0, 0), (radius, radius), (radius, radius), (0, 0)]
  return jnp.pad(x, margins[: x.ndim], constant_values=value)


def _window(x: Shaped[Array, "n _ _ *_"], start: Int[Array, "2"], shape: tuple[int, ...]) -> Array:
  """The part of `shape` of a padded map that starts at `start`, a row and a column."""
  return lax.dynamic_slice(x, (0, *start, 0)[: x.ndim], shape)


def _pairs(
  features: Float[Array, "n h w d"],
  label: Int[Array, "n h w"],
  seen: Float[Array, "n h w d"],
  seen_label: Int[Array, "n h w"],
  margin: float,
) -> Contrast:
  """Every pixel with what it sees in one direction."""
  # Not 2 - 2 cos, which loses the small distances that matter most.
  squared = jnp.sum((seen - features) ** 2, axis=-1)
  # The root has no slope at 0; the distance is given the slope 0 there.
  apart = squared > 0
  distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)
  known = (label >= 0) & (seen_label >= 0)
  same = label == seen_label
  return Contrast(
    MaskedMean.from_values(squared, known & same),
    MaskedMean.from_values(jnp.maximum(0, margin - distance), known & ~same),
  )
