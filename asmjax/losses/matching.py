"""Structure matching: distances between the features of a prediction and of its truth."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.losses.pixel import l2_normalize
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes

# Squared length below which a feature is not stretched to length 1, and squared root mean square
# below which an image's features are not scaled to 1. Features have lengths of about 1; with
# TensorFlow's default of 1e-12, as released, a feature near zero sends a gradient of 1e6. By trial.
EPSILON = 1e-4

# Norms by which features may be divided, and the distance of orthogonal features of equal size.
NORMALIZATIONS = {"none": None, "pixel": 2.0, "image": 1.0}


def matching_distance(
  predictions: Float[ArrayLike, "n h w c"],
  targets: Float[ArrayLike, "n h w c"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  normalize: str = "none",
) -> MaskedMean:
  """Computes the squared distance between two feature maps (Hwang et al. 2019, Eq. 1).

  With `normalize`, what is compared does not depend on the size of the features, so that a critic
  cannot raise the distance by enlarging them:

  - "none": 1/2 ||a - b||^2 as published, without bound.
  - "pixel": ||a - b||^2 of a and b at length 1 at every pixel, as in the authors' code; 2 - 2 cos,
    at most 4. Where the truth has one value, as depth has one channel, directions tell little.
  - "image": 1/2 ||a - b||^2 of features divided by their root mean square over the valid pixels of
    an image, of both maps together. The mean over an image is then
    sum ||a - b||^2 / sum (||a||^2 + ||b||^2), at most 2.

  Args:
    predictions: Features of the predicted structure.
    targets: Features of the true structure.
    mask: 1 where the structure is labeled, 0 elsewhere; 1 everywhere by default.
    normalize: "none", "pixel" or "image".

  Returns:
    Sum over the pixels that count of the distance, and their number.

  Raises:
    ValueError: Unknown `normalize`, or shapes that do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[[[3.0, 0.0]]]]), jnp.array([[[[0.0, 4.0]]]])
    >>> print(*(matching_distance(a, b, normalize=n).mean() for n in ("none", "pixel", "image")))
    12.5 2.0 1.0
  """
  distance, mask = _distance(predictions, targets, mask, normalize)
  return MaskedMean.from_values(distance, mask)


def matching_hinge(
  predictions: Float[ArrayLike, "n h w c"],
  targets: Float[ArrayLike, "n h w c"],
  *,
  margin: float = 0.8,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  normalize: str = "pixel",
) -> MaskedMean:
  """Computes max(0, margin - distance) of every pixel, which the released analyzer descends.

  So it ascends the distance only up to the margin, which bounds the game (Hwang et al. 2019, the
  authors' code).

  Args:
    predictions: Features of the predicted structure.
    targets: Features of the true structure.
    margin: Distance from which a pixel costs nothing; 0.8 by default, as released.
    mask: 1 where the structure is labeled, 0 elsewhere; 1 everywhere by default.
    normalize: See `matching_distance`.

  Returns:
    Sum over the pixels that count, and their number.

  Raises:
    ValueError: Unknown `normalize`, or shapes that do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[[[3.0, 0.0]]]]), jnp.array([[[[0.0, 4.0]]]])
    >>> print(matching_hinge(a, a).mean(), matching_hinge(a, b).mean())
    0.8 0.0
  """
  distance, mask = _distance(predictions, targets, mask, normalize)
  return MaskedMean.from_values(jnp.maximum(0, margin - distance), mask)


def layer_distances(
  predictions: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  targets: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  layers: Sequence[str],
  *,
  masks: Mapping[str, Float[ArrayLike, "n _ _ 1"]] | None = None,
  normalize: str = "none",
) -> dict[str, MaskedMean]:
  """Computes `matching_distance` of each named layer; V is the sum of their means.

  Args:
    predictions: Features of the predicted structure by layer.
    targets: Features of the true structure by layer.
    layers: Names of the layers to compare.
    masks: 1 where a layer's features count; 1 everywhere by default.
    normalize: "none", "pixel" or "image"; see `matching_distance`.

  Returns:
    Of each layer the sum over the features that count of the distance, and their number.

  Raises:
    ValueError: Unknown `normalize`, an unknown layer, or shapes that do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> a, b = ({"conv1": jnp.full((1, 2, 2, 3), x)} for x in (0.0, 2.0))
    >>> print(layer_distances(a, b, ["conv1"])["conv1"].mean())
    6.0
  """
  for layer in layers:
    if layer not in predictions or layer not in targets:
      raise ValueError(f"unknown layer {layer!r}; known: {', '.join(predictions)}")
  return {
    layer: matching_distance(
      predictions[layer],
      targets[layer],
      mask=None if masks is None else masks[layer],
      normalize=normalize,
    )
    for layer in layers
  }


def pool_mask(
  mask: Float[ArrayLike, "n h w 1"], size: tuple[int, ...], *, count_partial_cells: bool
) -> Float[Array, "n h2 w2 1"]:
  """Marks which features of a layer count, given which pixels are labeled.

  Args:
    mask: 1 where the structure is labeled.
    size: (h2, w2) of the layer, a divisor of the structure's size up to rounding up.
    count_partial_cells: Whether a feature counts if any pixel of its cell is labeled; otherwise
      only if all are, as in the released code with its max-pooled ignore mask.
  """
  mask = jnp.asarray(mask)
  stride = tuple(-(-large // small) for large, small in zip(mask.shape[1:3], size, strict=True))
  window = (1, *stride, 1)
  init, reduce = (0.0, lax.max) if count_partial_cells else (1.0, lax.min)
  pooled = lax.reduce_window(mask, jnp.asarray(init, mask.dtype), reduce, window, window, "SAME")
  return lax.stop_gradient(pooled)


def min_norm(
  features: Float[ArrayLike, "n h w c"], *, mask: Float[ArrayLike, "n h w 1"]
) -> MaskedMean:
  """Computes the length of an image's shortest feature, to be reported; it has no gradient.

  Near 0 a normalized distance means nothing.

  Args:
    features: Features of one layer.
    mask: 1 where a feature counts.

  Returns:
    Sum over images with any feature that counts, and their number.
  """
  features = lax.stop_gradient(promote_to_float32(features))
  norms = jnp.linalg.norm(features, axis=-1, keepdims=True)
  smallest = jnp.min(jnp.where(jnp.asarray(mask) > 0, norms, jnp.inf), axis=(1, 2, 3))
  return MaskedMean.from_values(smallest, jnp.isfinite(smallest))


def _distance(
  predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None, normalize: str
) -> tuple[Float[Array, "n h w 1"], Float[Array, "n h w 1"]]:
  """The distance of every pixel, and the mask of those that count."""
  if normalize not in NORMALIZATIONS:
    raise ValueError(f"unknown normalize {normalize!r}; known: {', '.join(NORMALIZATIONS)}")
  predictions, targets = promote_to_float32(predictions), promote_to_float32(targets)
  check_shapes(
    predictions=(predictions, "n h w c"), targets=(targets, "n h w c"), mask=(mask, "n h w 1")
  )
  mask = jnp.ones_like(targets[..., :1]) if mask is None else jnp.asarray(mask)
  if normalize == "pixel":
    predictions, targets = l2_normalize(predictions, EPSILON), l2_normalize(targets, EPSILON)
  squared = jnp.sum((predictions - targets) ** 2, axis=-1, keepdims=True)
  if normalize == "image":
    energy = jnp.where(mask > 0, jnp.sum(predictions**2 + targets**2, -1, keepdims=True) / 2, 0)
    count = jnp.maximum(jnp.sum(mask, axis=(1, 2, 3), keepdims=True), 1)
    mean = jnp.sum(energy * mask, axis=(1, 2, 3), keepdims=True) / count
    squared = squared / jnp.maximum(mean, EPSILON)
  return (squared if normalize == "pixel" else squared / 2), mask
