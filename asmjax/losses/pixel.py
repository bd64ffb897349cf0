"""Pixel-wise (IID) losses."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.ops.masked_mean import MaskedMean
from asmjax.utils.shapes import check_shapes


def cross_entropy(
  logits: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  weights: Float[ArrayLike, "n h w"] | None = None,
) -> MaskedMean:
  """Computes the softmax cross-entropy of every labeled pixel, in nats.

  Args:
    logits: Unnormalized log-probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored, 255 among them.
    mask: 1 where a labeled pixel counts; everywhere by default.
    weights: Factor on each pixel's loss, such as `class_balance_weights`; 1 by default.

  Returns:
    Sum over the pixels that count, and their number, whatever their weights. An ignored pixel has
    exactly no gradient.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([0.5, 0.25, 0.25])).reshape(1, 1, 1, 3).repeat(2, axis=2)
    >>> loss = cross_entropy(logits, jnp.array([[[0, 255]]]))
    >>> print(f"{loss.mean():.4f} over {loss.count:.0f} pixel")
    0.6931 over 1 pixel
  """
  logits, label = jnp.asarray(logits), jnp.asarray(label)
  check_shapes(
    logits=(logits, "n h w c"),
    label=(label, "n h w"),
    mask=(mask, "n h w 1"),
    weights=(weights, "n h w"),
  )
  classes = logits.shape[-1]
  labeled = (label >= 0) & (label < classes)
  mask = labeled if mask is None else labeled & (jnp.asarray(mask)[..., 0] > 0)
  one_hot = jax.nn.one_hot(jnp.where(labeled, label, 0), classes, dtype=logits.dtype)
  loss = -jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=-1)
  return MaskedMean.from_values(loss if weights is None else jnp.asarray(weights) * loss, mask)


def class_balance_weights(
  label: Integer[ArrayLike, "n h w"], shares: Float[ArrayLike, " c"]
) -> Float[Array, "n h w"]:
  """Weighs pixels so that an image's classes count as in the average image, whatever their size.

  A pixel of class c in image i weighs N_c / n_ic (Jamali-Rad & Szabo 2022, Sec. 4). Here both are
  shares of the labeled pixels instead of numbers, so that crops and strides do not matter. The
  "average number of pixels per class" is read as one for each class, the mean over all training
  images, those without the class included.

  Args:
    label: Class ids; a pixel with an id outside [0, c) is unlabeled, 255 among them.
    shares: N_c, which add up to 1; see `asmjax.data.frequencies.class_shares`.

  Returns:
    Finite weights, 0 where unlabeled. Over an image they add up to the number of its labeled
    pixels times the shares of the classes in it: to that number if it has them all.

  Examples:
    >>> import jax.numpy as jnp
    >>> print(class_balance_weights(jnp.array([[[0, 0, 0, 1, 255]]]), jnp.array([0.5, 0.5])))
    [[[0.6666667 0.6666667 0.6666667 2.        0.       ]]]
  """
  shares = jnp.asarray(shares)
  one_hot = jax.nn.one_hot(jnp.asarray(label), len(shares), dtype=shares.dtype)
  pixels = jnp.sum(one_hot, axis=(1, 2), keepdims=True)
  labeled = jnp.sum(pixels, axis=-1, keepdims=True)
  # A class that is absent has no pixel that could pick its weight.
  ratio = shares[None, None, None] * labeled / jnp.maximum(pixels, 1)
  return jnp.sum(one_hot * ratio, axis=-1)


def squared_error(
  predictions: Float[ArrayLike, "n h w c"],
  targets: Float[ArrayLike, "n h w c"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the squared Euclidean distance of every pixel: the L2 loss of depth and of normals.

  Args:
    predictions: Depths in meters (c = 1), or unit normals (c = 3), whose loss is 2 - 2 cos.
    targets: True depths or normals; where the mask is 0 they may hold anything.
    mask: 1 where the truth is known; everywhere by default.

  Returns:
    Sum over the pixels that count, and their number. An ignored pixel has exactly no gradient.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> ones = jnp.ones((1, 1, 2, 3))
    >>> squared_error(2 * ones, ones, mask=jnp.array([[[[1.0], [0.0]]]]))
    MaskedMean(total=Array(3., dtype=float32), count=Array(1., dtype=float32))
  """
  predictions, targets = jnp.asarray(predictions), jnp.asarray(targets)
  _check_vectors(predictions, targets, mask)
  difference = predictions - targets
  if mask is not None:
    # Before it is squared, so that a target that is not finite has no gradient.
    difference = jnp.where(jnp.asarray(mask) > 0, difference, 0)
  return MaskedMean.from_values(jnp.sum(difference**2, axis=-1, keepdims=True), mask)


def negative_cosine(
  predictions: Float[ArrayLike, "n h w c"],
  targets: Float[ArrayLike, "n h w c"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes minus the cosine between the vectors of every pixel.

  Args:
    predictions: Vectors of any length; that of length 0 has the cosine 0.
    targets: Unit vectors.
    mask: 1 where the truth is known; everywhere by default.

  Returns:
    Sum over the pixels that count, and their number.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> up, slanted = jnp.array([[[[0.0, 0.0, 1.0]]]]), jnp.array([[[[3.0, 0.0, 4.0]]]])
    >>> print(f"{negative_cosine(slanted, up).mean():.2f}")
    -0.80
  """
  targets = jnp.asarray(targets)
  _check_vectors(predictions, targets, mask)
  cosine = jnp.sum(l2_normalize(predictions) * targets, axis=-1, keepdims=True)
  return MaskedMean.from_values(-cosine, mask)


def l2_normalize(x: Float[ArrayLike, "... c"], epsilon: float = 1e-12) -> Float[Array, "... c"]:
  """Scales vectors along the last axis to length 1, as `tf.math.l2_normalize` does.

  Args:
    x: Vectors.
    epsilon: Squared length below which a vector is scaled by epsilon^(-1/2) only, and stays
      shorter; TensorFlow's by default.

  Examples:
    >>> import jax.numpy as jnp
    >>> print(l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]
  """
  x = jnp.asarray(x)
  return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), epsilon))


def _check_vectors(predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None) -> None:
  check_shapes(
    predictions=(predictions, "n h w c"), targets=(targets, "n h w c"), mask=(mask, "n h w 1")
  )
