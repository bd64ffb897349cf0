"""Losses on the overlap of predicted and true regions: Dice, Tversky and their relatives.

All are computed image by image and then averaged, so that any number of devices gives the same
value. A class that is neither there nor predicted has no loss, with a `smooth` of 0 as well.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.maps import average_over_classes, compare_maps, ratio_or_one
from asmjax.ops.masked_mean import MaskedMean


class Overlap(NamedTuple):
  """Soft numbers of pixels (n, c) by image and class.

  Attributes:
    both: Pixels of the class that are predicted so: true positives.
    predicted: Pixels predicted to be of the class.
    true: Pixels of the class.
  """

  both: Float[Array, "n c"]
  predicted: Float[Array, "n c"]
  true: Float[Array, "n c"]


def dice_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  squared: bool = False,
  smooth: float = 1.0,
  classes: str = "present",
) -> MaskedMean:
  """Computes the soft Dice loss, 1 - (2 sum p g + s) / (sum p + sum g + s).

  Args:
    probabilities: Class probabilities p.
    label: Class ids, of which g is the one-hot form; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    squared: Whether the denominator has squares of p and g (Milletari et al. 2016), not p and g.
    smooth: s, in pixels; 1 by default.
    classes: "present", the default, for the classes in an image's truth, or "all". With a `smooth`
      of much less than a pixel an absent class has almost no gradient.

  Returns:
    Sum over images and classes, and their number.

  Raises:
    ValueError: The shapes do not fit, or `classes` is unknown.

  Examples:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([[0.8, 0.2], [0.4, 0.6]]).reshape(1, 1, 2, 2)
    >>> print(f"{dice_loss(p, jnp.array([[[0, 1]]]), smooth=0.0).mean():.4f}")
    0.3030
  """
  p, g = compare_maps(probabilities, label, mask)
  power = 2 if squared else 1
  overlap = _measure_overlap(p, g, power)
  score = ratio_or_one(2 * overlap.both + smooth, overlap.predicted + overlap.true + smooth)
  return average_over_classes(1 - score, g, classes)


def tversky_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  alpha: float = 0.3,
  beta: float = 0.7,
  gamma: float = 1.0,
  smooth: float = 1.0,
  classes: str = "present",
) -> MaskedMean:
  """Computes the Tversky loss (Salehi et al. 2017), or the focal one (Abraham & Khan 2019).

  (1 - (TP + s) / (TP + alpha FP + beta FN + s))^gamma, with soft numbers of true positives, false
  positives and false negatives. alpha = beta = 0.5 is the Dice loss with twice the smoothing, and
  alpha = beta = 1 the soft Jaccard loss.

  Args:
    probabilities: Class probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    alpha: Weight of false positives; 0.3 by default, as Salehi et al. recommend.
    beta: Weight of false negatives; 0.7 by default, more than `alpha` to find small regions.
    gamma: Power of the loss; 1 by default. Abraham & Khan have 3/4, written there as 1/gamma, which
      attends to regions that are found badly.
    smooth: s, in pixels; 1 by default.
    classes: "present", the default, for the classes in an image's truth, or "all".

  Returns:
    Sum over images and classes, and their number.

  Raises:
    ValueError: The shapes do not fit, or `classes` is unknown.

  Examples:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([[0.8, 0.2], [0.4, 0.6]]).reshape(1, 1, 2, 2)
    >>> loss = tversky_loss(p, jnp.array([[[0, 1]]]), alpha=0.5, beta=0.5, smooth=0.0)
    >>> print(f"{loss.mean():.4f}")
    0.3030
  """
  p, g = compare_maps(probabilities, label, mask)
  both, predicted, true = _measure_overlap(p, g)
  errors = alpha * (predicted - both) + beta * (true - both)
  score = ratio_or_one(both + smooth, both + errors + smooth)
  loss = 1 - score
  if gamma != 1:
    # The slope of a power below 1 is infinite at 0.
    loss = jnp.maximum(loss, 1e-6) ** gamma
  return average_over_classes(loss, g, classes)


def generalized_dice_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  smooth: float = 1e-5,
) -> MaskedMean:
  """Computes the generalized Dice loss, in which every class has the same say (Sudre et al. 2017).

  1 - (2 sum_c w_c sum p g + s) / (sum_c w_c (sum p + sum g) + s) with w_c = 1 / (sum g)^2. An
  absent class, whose weight would be infinite, has the largest weight of those present.

  Args:
    probabilities: Class probabilities p.
    label: Class ids, of which g is the one-hot form; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    smooth: s; 1e-5 by default. Weights are 1 / pixels^2, so that it is no number of pixels.

  Returns:
    Sum over images with a pixel that counts, and their number.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([[0.8, 0.2], [0.4, 0.6]]).reshape(1, 1, 2, 2)
    >>> print(f"{generalized_dice_loss(p, jnp.array([[[0, 1]]])).mean():.4f}")
    0.3000
  """
  p, g = compare_maps(probabilities, label, mask)
  both, predicted, true = _measure_overlap(p, g)
  weights = jnp.where(true > 0, 1 / jnp.square(jnp.maximum(true, 1)), 0)
  weights = jnp.where(true > 0, weights, jnp.max(weights, axis=1, keepdims=True))
  shared, total = (jnp.sum(weights * x, axis=1) for x in (both, predicted + true))
  score = ratio_or_one(2 * shared + smooth, total + smooth)
  return MaskedMean.from_values(1 - score, jnp.any(true > 0, axis=1))


def _measure_overlap(p: Array, g: Array, power: int = 1) -> Overlap:
  """Sums the pixels of each image and class; predicted and true ones with a power."""
  add = lambda x: jnp.sum(x, axis=(1, 2))
  return Overlap(add(p * g), add(p**power), add(g))  # A power of 0 or 1 is itself.
