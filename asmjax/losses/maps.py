"""Class maps of predictions and of the truth, as losses on regions compare them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes

CLASSES = ("present", "all")


def mark_labeled(
  label: Integer[ArrayLike, "n h w"], classes: int, mask: Float[ArrayLike, "n h w 1"] | None = None
) -> Bool[Array, "n h w"]:
  """Marks the pixels that count: with an id in [0, classes), and where the mask is 1, if any."""
  label = jnp.asarray(label)
  labeled = (label >= 0) & (label < classes)
  return labeled if mask is None else labeled & (jnp.asarray(mask)[..., 0] > 0)


def compare_maps(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> tuple[Float[Array, "n h w c"], Float[Array, "n h w c"]]:
  """Returns probabilities and one-hot labels, float32 or wider, both 0 where no pixel counts.

  Raises:
    ValueError: The shapes do not fit.
  """
  check_shapes(
    probabilities=(probabilities, "n h w c"), label=(label, "n h w"), mask=(mask, "n h w 1")
  )
  probabilities = promote_to_float32(probabilities)
  classes = probabilities.shape[-1]
  labeled = mark_labeled(label, classes, mask)
  truth = jax.nn.one_hot(jnp.where(labeled, jnp.asarray(label), -1), classes)
  # A probability that does not count need not be finite.
  return jnp.where(labeled[..., None], probabilities, 0), truth.astype(probabilities.dtype)


def ratio_or_one(part: Float[Array, "*n"], whole: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Divides; where there is nothing to divide by, the ratio is 1 and has no gradient."""
  is_defined = whole > 0
  return jnp.where(is_defined, part / jnp.where(is_defined, whole, 1), 1)


def average_over_classes(
  losses: Float[Array, "n c"], truth: Float[Array, "n h w c"], classes: str
) -> MaskedMean:
  """Averages the losses of each image's classes: those "present" in its truth, or "all".

  Images without a pixel that counts are left out.

  Raises:
    ValueError: `classes` is unknown.
  """
  if classes not in CLASSES:
    raise ValueError(f"unknown classes {classes!r}; known: {', '.join(CLASSES)}")
  present = jnp.any(truth > 0, axis=(1, 2))
  counts = present if classes == "present" else jnp.any(present, axis=1, keepdims=True)
  return MaskedMean.from_values(losses, jnp.broadcast_to(counts, losses.shape))
