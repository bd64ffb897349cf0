"""Pixel-wise (IID) losses."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.ops.masked_mean import MaskedMean


def cross_entropy(
  logits: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
  weight: Float[ArrayLike, "n h w"] | None = None,
) -> MaskedMean:
  """Softmax cross-entropy of every labeled pixel, in nats.

  Args:
    logits: unnormalized log-probabilities.
    label: class ids; a pixel with an id outside [0, c) is ignored, 255 among them.
    valid: 1 where the pixel counts; by default where the label is a class.
    weight: factor on each pixel's loss, such as `class_balance`; by default 1.

  Returns:
    Sum over the pixels that count, and their number, whatever their weights.  An ignored pixel has
    exactly no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([0.5, 0.25, 0.25])).reshape(1, 1, 1, 3).repeat(2, axis=2)
    >>> loss = cross_entropy(logits, jnp.array([[[0, 255]]]))
    >>> print(f"{loss.mean():.4f} over {loss.count:.0f} pixel")
    0.6931 over 1 pixel
  """
  logits, label = jnp.asarray(logits), jnp.asarray(label)
  classes = logits.shape[-1]
  known = (label >= 0) & (label < classes)
  valid = known if valid is None else known & (jnp.asarray(valid)[..., 0] > 0)
  chosen = jax.nn.one_hot(jnp.where(known, label, 0), classes, dtype=logits.dtype)
  loss = -jnp.sum(chosen * jax.nn.log_softmax(logits), axis=-1)
  return MaskedMean.from_values(loss if weight is None else jnp.asarray(weight) * loss, valid)


def class_balance(
  label: Integer[ArrayLike, "n h w"], shares: Float[ArrayLike, " c"]
) -> Float[Array, "n h w"]:
  """Weights by which the classes of an image count as in the average image, whatever their size.

  A pixel of class c in image i weighs N_c / n_ic (Jamali-Rad & Szabo 2022, Sec. 4).  Here both are
  shares of the labeled pixels instead of numbers, so that crops and strides do not matter.  The
  "average number of pixels per class" is read as one for each class, the mean over all training
  images, those without the class included.

  Args:
    label: class ids; a pixel with an id outside [0, c) is unlabeled, 255 among them.
    shares: N_c, which add up to 1; see `asmjax.data.frequencies.class_shares`.

  Returns:
    Finite weights, 0 where unlabeled.  Over an image they add up to the number of its labeled
    pixels times the shares of the classes that it shows: to that number if it shows them all.

  Example:
    >>> import jax.numpy as jnp
    >>> print(class_balance(jnp.array([[[0, 0, 0, 1, 255]]]), jnp.array([0.5, 0.5])))
    [[[0.6666667 0.6666667 0.6666667 2.        0.       ]]]
  """
  shares = jnp.asarray(shares)
  chosen = jax.nn.one_hot(jnp.asarray(label), len(shares), dtype=shares.dtype)
  pixels = jnp.sum(chosen, axis=(1, 2), keepdims=True)
  labeled = jnp.sum(pixels, axis=-1, keepdims=True)
  # A class that is absent has no pixel that could pick its weight.
  ratio = shares[None, None, None] * labeled / jnp.maximum(pixels, 1)
  return jnp.sum(chosen * ratio, axis=-1)


def squared_error(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  valid: Float[ArrayLike, "n h w 1"],
) -> MaskedMean:
  """Squared Euclidean distance at every valid pixel: the L2 loss of depth, and of normals.

  Args:
    predicted: depths in meters (c = 1), or unit normals (c = 3), for which it is 2 - 2 cos.
    truth: likewise; where it does not count it may hold anything.
    valid: 1 where the truth is known.

  Returns:
    Sum over valid pixels, and their number.  An ignored pixel has exactly no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> ones = jnp.ones((1, 1, 2, 3))
    >>> squared_error(2 * ones, ones, valid=jnp.array([[[[1.0], [0.0]]]]))
    MaskedMean(total=Array(3., dtype=float32), count=Array(1., dtype=float32))
  """
  # The difference is masked before it is squared: a truth that is not finite has no gradient then.
  difference = jnp.where(jnp.asarray(valid) > 0, jnp.asarray(predicted) - jnp.asarray(truth), 0)
  return MaskedMean.from_values(jnp.sum(difference**2, axis=-1, keepdims=True), valid)


def negative_cosine(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  valid: Float[ArrayLike, "n h w 1"],
) -> MaskedMean:
  """Minus the cosine between vectors at every valid pixel.

  Args:
    predicted: vectors of any length; that of 0 has the cosine 0.
    truth: unit vectors.
    valid: 1 where the truth is known.

  Returns:
    Sum over valid pixels, and their number.

  Example:
    >>> import jax.numpy as jnp
    >>> up, slanted = jnp.array([[[[0.0, 0.0, 1.0]]]]), jnp.array([[[[3.0, 0.0, 4.0]]]])
    >>> print(f"{negative_cosine(slanted, up, valid=jnp.ones((1, 1, 1, 1))).mean():.2f}")
    -0.80
  """
  cosine = jnp.sum(unit(predicted) * jnp.asarray(truth), axis=-1, keepdims=True)
  return MaskedMean.from_values(-cosine, valid)


def unit(x: Float[ArrayLike, "... c"], eps: float = 1e-12) -> Float[Array, "... c"]:
  """Vectors along the last axis at length 1; those whose squared length is below `eps` are shorter.

  Example:
    >>> import jax.numpy as jnp
    >>> print(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]
  """
  x = jnp.asarray(x)
  return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), eps))
