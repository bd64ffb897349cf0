"""Structure matching: distances between the features of a prediction and of its truth."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.losses.pixel import unit
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32

# Squared length below which a feature is not stretched to length 1, and squared root mean square
# below which an image's features are not scaled to 1.  Features have lengths of about 1; with
# TensorFlow's 1e-12, as released, a feature near zero sends a gradient of 1e6.
EPSILON = 1e-4

# By what features may be divided, and the distance of orthogonal features of equal size then.
NORMALIZATIONS = {"none": None, "pixel": 2.0, "image": 1.0}


def matching_distance(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
  normalize: str = "none",
) -> MaskedMean:
  """Squared distance between two feature maps (Hwang et al. 2019, Eq. 1).

  With `normalize`, what is compared does not depend on the size of the features, so that a critic
  cannot raise the distance by enlarging them:

  - "none": 1/2 ||a - b||^2 as published, without bound.
  - "pixel": ||a - b||^2 of a and b at length 1 at every pixel, as in the authors' code; 2 - 2 cos,
    at most 4. Where the truth has one value, as depth has one channel, directions tell little.
  - "image": 1/2 ||a - b||^2 of features divided by their root mean square over the valid pixels of
    an image, of both maps together. The mean over an image is then
    sum ||a - b||^2 / sum (||a||^2 + ||b||^2), at most 2.

  Args:
    predicted: Features of the predicted structure.
    truth: Features of the true structure.
    valid: 1 where the structure is labeled, 0 elsewhere; 1 everywhere by default.
    normalize: "none", "pixel" or "image".

  Returns:
    Sum over valid pixels of the distance, and their number.

  Raises:
    ValueError: Unknown `normalize`.

  Example:
    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[[[3.0, 0.0]]]]), jnp.array([[[[0.0, 4.0]]]])
    >>> print(*(matching_distance(a, b, normalize=n).mean() for n in ("none", "pixel", "image")))
    12.5 2.0 1.0
  """
  distance, valid = _distance(predicted, truth, valid, normalize)
  return MaskedMean.from_values(distance, valid)


def matching_hinge(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  margin: float = 0.8,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
  normalize: str = "pixel",
) -> MaskedMean:
  """What the released analyzer descends: max(0, margin - distance) of every pixel.

  It stops climbing where the distance has reached the margin, which bounds the game.

  Args:
    predicted: Features of the predicted structure.
    truth: Features of the true structure.
    margin: Distance at which a pixel no longer counts.
    valid: 1 where the structure is labeled, 0 elsewhere; 1 everywhere by default.
    normalize: See `matching_distance`.

  Returns:
    Sum over valid pixels, and their number.

  Raises:
    ValueError: Unknown `normalize`.
  """
  distance, valid = _distance(predicted, truth, valid, normalize)
  return MaskedMean.from_values(jnp.maximum(0, margin - distance), valid)


def layer_distances(
  predicted: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  truth: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  layers: Sequence[str],
  *,
  valid: Mapping[str, Float[ArrayLike, "n _ _ 1"]] | None = None,
  normalize: str = "none",
) -> dict[str, MaskedMean]:
  """`matching_distance` of each named layer, `valid` by layer; V is the sum of their means."""
  return {
    layer: matching_distance(
      predicted[layer], truth[layer], valid=valid and valid[layer], normalize=normalize
    )
    for layer in layers
  }


def pooled_valid(
  valid: Float[ArrayLike, "n h w 1"], size: tuple[int, int], *, partly: bool
) -> Float[Array, "n h2 w2 1"]:
  """Which features of a layer of `size` count, given the labeled pixels.

  Args:
    valid: 1 where the structure is labeled.
    size: of the layer, a divisor of the structure's size up to rounding up.
    partly: a feature counts if any pixel of its cell is labeled; otherwise only if all are, as
      the released code has it with its max-pooled ignore mask.
  """
  valid = jnp.asarray(valid)
  stride = tuple(-(-big // small) for big, small in zip(valid.shape[1:3], size, strict=True))
  window = (1, *stride, 1)
  init, reduce = (0.0, lax.max) if partly else (1.0, lax.min)
  pooled = lax.reduce_window(valid, jnp.asarray(init, valid.dtype), reduce, window, window, "SAME")
  return lax.stop_gradient(pooled)


def smallest_norm(
  features: Float[ArrayLike, "n h w c"], *, valid: Float[ArrayLike, "n h w 1"]
) -> MaskedMean:
  """Length of the shortest feature of an image: near 0, a normalized distance means nothing.

  It is reported, and has no gradient.

  Args:
    features: Of one layer.
    valid: 1 where a feature counts.

  Returns:
    Sum over images with any valid pixel, and their number.
  """
  features = lax.stop_gradient(promote_to_float32(features))
  norms = jnp.linalg.norm(features, axis=-1, keepdims=True)
  smallest = jnp.min(jnp.where(jnp.asarray(valid) > 0, norms, jnp.inf), axis=(1, 2, 3))
  return MaskedMean.from_values(smallest, jnp.isfinite(smallest))


def _distance(
  predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike | None, normalize: str
) -> tuple[Float[Array, "n h w 1"], Float[Array, "n h w 1"]]:
  """The distance of every pixel, and which of them count."""
  if normalize not in NORMALIZATIONS:
    raise ValueError(f"unknown normalize {normalize!r}; known: {', '.join(NORMALIZATIONS)}")
  predicted, truth = promote_to_float32(predicted), promote_to_float32(truth)
  valid = jnp.ones_like(truth[..., :1]) if valid is None else jnp.asarray(valid)
  if normalize == "pixel":
    predicted, truth = unit(predicted, EPSILON), unit(truth, EPSILON)
  squared = jnp.sum((predicted - truth) ** 2, axis=-1, keepdims=True)
  if normalize == "image":
    energy = jnp.where(valid > 0, jnp.sum(predicted**2 + truth**2, -1, keepdims=True) / 2, 0)
    count = jnp.maximum(jnp.sum(valid, axis=(1, 2, 3), keepdims=True), 1)
    mean = jnp.sum(energy * valid, axis=(1, 2, 3), keepdims=True) / count
    squared = squared / jnp.maximum(mean, EPSILON)
  return (squared if normalize == "pixel" else squared / 2), valid
