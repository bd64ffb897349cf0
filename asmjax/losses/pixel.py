"""Pixel-wise (IID) losses."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Num

from asmjax.losses.maps import mark_labeled
from asmjax.ops.masked_mean import MaskedMean
from asmjax.utils.shapes import check_shapes


def cross_entropy(
  logits: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  weights: Float[ArrayLike, "n h w"] | None = None,
  label_smoothing: float = 0.0,
) -> MaskedMean:
  """Computes the softmax cross-entropy of every labeled pixel, in nats.

  Args:
    logits: Unnormalized log-probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored, 255 among them.
    mask: 1 where a labeled pixel counts; everywhere by default.
    weights: Factor on each pixel's loss, such as `class_balance_weights`; 1 by default.
    label_smoothing: Probability of the true distribution that is spread evenly over all classes
      (Szegedy et al. 2016, Sec. 7); 0 by default.

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
  log_p, of_truth, labeled = _log_probabilities(logits, label, mask, weights)
  loss = -of_truth
  if label_smoothing:
    loss = (1 - label_smoothing) * loss - label_smoothing * jnp.mean(log_p, axis=-1)
  return MaskedMean.from_values(loss if weights is None else jnp.asarray(weights) * loss, labeled)


def focal_loss(
  logits: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  weights: Float[ArrayLike, "n h w"] | None = None,
  gamma: float = 2.0,
) -> MaskedMean:
  """Computes the focal loss, -(1 - p)^gamma log p of the true class (Lin et al. 2017, Eq. 4).

  In nats.

  Args:
    logits: Unnormalized log-probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    weights: Factor on each pixel's loss, there alpha; 1 by default.
    gamma: Power by which pixels count less the surer they are of the truth; 0 is `cross_entropy`,
      and 2, the default, what Lin et al. recommend.

  Returns:
    Sum over the pixels that count, and their number, whatever their weights.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[[[0.5, 0.25, 0.25]]]]))
    >>> print(f"{focal_loss(logits, jnp.array([[[0]]])).mean():.4f}")
    0.1733
  """
  _, of_truth, labeled = _log_probabilities(logits, label, mask, weights)
  # 1 - p, exact where p is almost 1. Where it is 1, the slope of a power below 1 is infinite, and
  # that of the loss is 0.
  rest = jnp.maximum(-jnp.expm1(of_truth), jnp.finfo(of_truth.dtype).tiny)
  loss = -(rest**gamma) * of_truth
  return MaskedMean.from_values(loss if weights is None else jnp.asarray(weights) * loss, labeled)


def mark_hard_pixels(
  logits: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  threshold: float = 0.7,
  min_part: float = 0.0625,
) -> Float[Array, "n h w 1"]:
  """Marks each image's pixels that are hardest: a mask for online hard example mining.

  Shrivastava et al. 2016 learn from the regions of an image with the highest loss. In segmentation
  it is the pixels whose true class has less than some probability, and at least a given number.

  Args:
    logits: Unnormalized log-probabilities.
    label: Class ids; a pixel with an id outside [0, c) is never marked.
    mask: 1 where a labeled pixel may be marked; everywhere by default.
    threshold: Probability of the true class below which a pixel is hard; 0.7 by default.
    min_part: Part of an image's labeled pixels to mark at least, rounded up; 1/16 by default.

  Returns:
    1 for the hard pixels, without a gradient: the `mask` for any pixel loss.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[[[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]]]))
    >>> print(mark_hard_pixels(logits, jnp.zeros((1, 1, 3), int))[0, 0, :, 0])
    [0. 1. 0.]
  """
  _, of_truth, labeled = _log_probabilities(logits, label, mask)
  scores = lax.stop_gradient(jnp.where(labeled, of_truth, jnp.inf)).reshape(len(labeled), -1)
  num_min = jnp.ceil(min_part * jnp.sum(labeled, axis=(1, 2))).astype(int)
  ordered = jnp.sort(scores, axis=1)
  of_last = jnp.take_along_axis(ordered, jnp.maximum(num_min - 1, 0)[:, None], axis=1)
  enough = jnp.where(num_min[:, None] > 0, of_last, -jnp.inf)
  hard = (scores < jnp.log(threshold)) | (scores <= enough)
  return (hard & jnp.isfinite(scores)).reshape(labeled.shape)[..., None].astype(float)


def _log_probabilities(
  logits: ArrayLike, label: ArrayLike, mask: ArrayLike | None, weights: ArrayLike | None = None
) -> tuple[Array, Array, Array]:
  """Returns the log-probabilities of all classes and of the true one, and which pixels count."""
  logits, label = jnp.asarray(logits), jnp.asarray(label)
  check_shapes(
    logits=(logits, "n h w c"),
    label=(label, "n h w"),
    mask=(mask, "n h w 1"),
    weights=(weights, "n h w"),
  )
  classes = logits.shape[-1]
  labeled = mark_labeled(label, classes, mask)
  # Whatever the logits of an ignored pixel are, NaN among them, it has no gradient.
  log_p = jax.nn.log_softmax(jnp.where(labeled[..., None], logits, 0))
  is_truth = jax.nn.one_hot(jnp.where(labeled, label, 0), classes, dtype=bool)
  # Not a product with 0: a class that is ruled out has the logit -inf.
  return log_p, jnp.sum(jnp.where(is_truth, log_p, 0), axis=-1), labeled


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


def weigh_classes(
  label: Integer[ArrayLike, "n h w"], class_weights: Float[ArrayLike, " c"]
) -> Float[Array, "n h w"]:
  """Returns the weight of each pixel's class, and 0 where a pixel has none.

  Args:
    label: Class ids; a pixel with an id outside [0, c) is unlabeled.
    class_weights: Weight of each class, such as `inverse_frequency_weights`.

  Returns:
    Weights of pixels, for the `weights` of `cross_entropy` and `focal_loss`.

  Examples:
    >>> import jax.numpy as jnp
    >>> print(weigh_classes(jnp.array([[[0, 1, 255]]]), jnp.array([0.5, 2.0])))
    [[[0.5 2.  0. ]]]
  """
  class_weights = jnp.asarray(class_weights)
  return jax.nn.one_hot(jnp.asarray(label), len(class_weights)) @ class_weights


def inverse_frequency_weights(shares: Float[ArrayLike, " c"]) -> Float[Array, " c"]:
  """Computes weights with which all classes count alike, 1 / (c share); 0 for an absent class.

  Args:
    shares: Share of each class in the labeled pixels; see `asmjax.data.frequencies.class_shares`.

  Returns:
    Weights whose mean over the labeled pixels is 1 if every class occurs.

  Examples:
    >>> import jax.numpy as jnp
    >>> print(inverse_frequency_weights(jnp.array([0.75, 0.25])))
    [0.6666667 2.       ]
  """
  shares = jnp.asarray(shares)
  return jnp.where(shares > 0, 1 / (len(shares) * jnp.where(shares > 0, shares, 1)), 0)


def effective_number_weights(
  counts: Num[ArrayLike, " c"], *, beta: float = 0.999
) -> Float[Array, " c"]:
  """Computes weights by the effective number of samples (Cui et al. 2019, Eq. 2).

  (1 - beta) / (1 - beta^n) for a class of n samples.

  Args:
    counts: Number n of samples of each class. Neighboring pixels hardly differ, so that images with
      the class, or its instances, are better samples than pixels.
    beta: 0 gives all classes the same weight; towards 1 it nears the inverse number of samples.

  Returns:
    Weights with the sum c, as there in Sec. 4; 0 for a class without samples.

  Examples:
    >>> import jax.numpy as jnp
    >>> print(effective_number_weights(jnp.array([1000, 10]), beta=0.99))
    [0.17455284 1.8254472 ]
  """
  counts = jnp.asarray(counts, float)
  # beta^n - 1, exact where it is almost 0.
  weights = jnp.where(counts > 0, (beta - 1) / jnp.expm1(counts * jnp.log(beta)), 0)
  return len(counts) * weights / jnp.sum(weights)


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
    Sum over the pixels that count, and their number; of depths in square meters. An ignored pixel
    has exactly no gradient.

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
    targets: Unit vectors; where the mask is 0 they may hold anything.
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
  if mask is not None:  # Of products with NaN the gradient would be NaN, masked or not.
    targets = jnp.where(jnp.asarray(mask) > 0, targets, 0)
  cosine = jnp.sum(l2_normalize(predictions) * targets, axis=-1, keepdims=True)
  return MaskedMean.from_values(-cosine, mask)


def l2_normalize(x: Float[ArrayLike, "... c"], epsilon: float = 1e-12) -> Float[Array, "... c"]:
  """Scales vectors along the last axis to length 1, as `tf.math.l2_normalize` does.

  Args:
    x: Vectors.
    epsilon: Squared length below which a vector is scaled by epsilon^(-1/2) only, and stays
      shorter; TensorFlow's by default.

  Returns:
    Vectors of length 1, or shorter where they are almost 0.

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
