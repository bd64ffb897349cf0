"""Adversarial losses (Luc et al. 2016), and the structures that a discriminator is shown.

A discriminator says with a logit z how likely a structure is the truth: a = sigmoid(z).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import MaskedMean


def judge(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  real: bool,
  smoothing: float = 0.0,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """What the discriminator descends, for one kind of input (Luc et al. 2016, Eq. 2).

  bce(a, 1 - smoothing) of true structures, bce(a, 0) of predicted ones, in nats; Eq. 2 adds the
  two. Smoothing is one-sided: it does not touch the target of predicted structures (Salimans et
  al. 2016, Sec. 3.4).

  Args:
    logits: of the discriminator, one for the whole structure or one a patch.
    real: whether it was shown the truth.
    smoothing: how far the target of the truth is below 1; the best logit is then
      log((1 - smoothing) / smoothing).
    valid: 1 where a logit counts; everywhere by default.

  Returns:
    Sum over valid logits, and their number.

  Raises:
    ValueError: a smoothing outside [0, 1).

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([3.0])).reshape(1, 1, 1, 1)  # a = 3/4
    >>> print(f"{judge(logits, real=True).mean():.4f} {judge(logits, real=False).mean():.4f}")
    0.2877 1.3863
  """
  if not 0 <= smoothing < 1:
    raise ValueError(f"a label smoothing of {smoothing}; expected one in [0, 1)")
  logits = jnp.asarray(logits)
  if not real:
    return _over(jax.nn.softplus(logits), valid)
  return _over(jax.nn.softplus(-logits) + smoothing * logits, valid)


def deceive(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  saturating: bool = False,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """What the predictor descends, the discriminator held constant.

  Args:
    logits: of the discriminator, for predicted structures.
    saturating: -bce(a, 0) = log(1 - a), the other side of the discriminator's own loss (Luc et al.
      2016, Eq. 3), whose slope -a vanishes where the discriminator is sure. By default bce(a, 1),
      which they use in practice, with the slope a - 1: of the same sign, and largest there.
    valid: 1 where a logit counts; everywhere by default.

  Returns:
    Sum over valid logits, and their number.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = -jnp.log(jnp.array([3.0])).reshape(1, 1, 1, 1)  # a = 1/4
    >>> print(f"{deceive(logits).mean():.4f} {deceive(logits, saturating=True).mean():.4f}")
    1.3863 -0.2877
  """
  logits = jnp.asarray(logits)
  return _over(-jax.nn.softplus(logits) if saturating else jax.nn.softplus(-logits), valid)


def accuracy(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  real: bool,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Part of the logits on the right side: above 0 for the truth, below 0 for predictions.

  A logit of exactly 0 decides nothing and is wrong for both.

  Args:
    logits: of the discriminator.
    real: whether it was shown the truth.
    valid: 1 where a logit counts; everywhere by default.

  Returns:
    Number of right logits, and of all valid ones.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([-1.0, 0.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    >>> print(accuracy(logits, real=True).mean(), accuracy(logits, real=False).mean())
    0.5 0.25
  """
  logits = jnp.asarray(logits)
  right = logits > 0 if real else logits < 0
  return _over(right.astype(logits.dtype), valid)


def product(
  structure: Float[ArrayLike, "n h w c"], image: Float[ArrayLike, "n h w d"]
) -> Float[Array, "n h w c*d"]:
  """The Product input: each color channel times each map (Luc et al. 2016, Sec. 3.2, Fig. 2).

  Args:
    structure: one-hot truth, or probabilities.
    image: at the structure's size, each color centered on its mean.

  Returns:
    The d colors times the first map, then times the second, and so on.

  Example:
    >>> import jax.numpy as jnp
    >>> structure, colors = jnp.array([[[[0.25, 0.75]]]]), jnp.array([[[[4.0, -8.0, 12.0]]]])
    >>> print(product(structure, colors))
    [[[[ 1. -2.  3.  3. -6.  9.]]]]
  """
  structure, image = jnp.asarray(structure), jnp.asarray(image)
  crossed = structure[..., :, None] * image[..., None, :]
  return crossed.reshape(*crossed.shape[:-2], -1)


def soften(
  truth: Float[ArrayLike, "n h w c"], predicted: Float[ArrayLike, "n h w c"], *, mass: float = 0.9
) -> Float[Array, "n h w c"]:
  """The Scaling input: the truth made as soft as the prediction (Luc et al. 2016, Sec. 3.2).

  With s the prediction and l the true class, y_l = max(mass, s_l) and elsewhere
  y_c = s_c (1 - y_l) / (1 - s_l). Of all distributions with at least `mass` on l this is the
  closest to s, by KL(y || s) and by KL(s || y). So the discriminator cannot tell the truth by its
  zeros and ones.

  Args:
    truth: one-hot; all 0 at pixels without a label.
    predicted: probabilities that sum to 1 at labeled pixels. They receive a gradient unless the
      caller stops it.
    mass: tau, the least probability of the true class.

  Returns:
    Distributions over the classes; all 0 at pixels without a label.

  Raises:
    ValueError: a mass outside (0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> truth, predicted = jnp.array([[[[1.0, 0.0, 0.0]]]]), jnp.array([[[[0.0, 0.5, 0.5]]]])
    >>> print(soften(truth, predicted, mass=0.75))
    [[[[0.75  0.125 0.125]]]]
  """
  if not 0 < mass <= 1:
    raise ValueError(f"a mass of {mass} on the true class; expected one in (0, 1]")
  chosen, predicted = jnp.asarray(truth) > 0, jnp.asarray(predicted)
  true_class = jnp.sum(jnp.where(chosen, predicted, 0), axis=-1, keepdims=True)
  short = true_class < mass
  # Where the prediction stays as it is, 1 - s_l may be 0: there nothing is divided by it.
  rest = 1 - jnp.where(short, true_class, 0)
  raised = jnp.where(chosen, mass, predicted * ((1 - mass) / rest))
  labeled = jnp.any(chosen, axis=-1, keepdims=True)
  return jnp.where(labeled, jnp.where(short, raised, predicted), 0)


def gradient_penalty(
  critic: Callable[[Array], Array],
  structure: Float[ArrayLike, "n h w c"],
  *,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """R1: half the squared gradient of the critic at the truth (Mescheder et al. 2018, Eq. 9).

  Without the factor gamma, which is the weight of the term. It has a gradient with respect to
  whatever `critic` closes over, its parameters among it.

  Args:
    critic: from structures to logits of any shape, each example's from that example alone.
    structure: true structures.
    valid: 1 where the structure is labeled; everywhere by default. The gradient of other pixels,
      whose structure says nothing, does not count.

  Returns:
    Sum over examples of 1/2 ||d (sum of the example's logits) / d structure||^2, and the number of
    examples with any valid pixel.

  Example:
    >>> import jax.numpy as jnp
    >>> slope = jnp.array([3.0, 4.0])
    >>> print(gradient_penalty(lambda x: x @ slope, jnp.zeros((1, 1, 1, 2))).mean())
    12.5
  """
  structure = jnp.asarray(structure)
  valid = jnp.ones_like(structure[..., :1]) if valid is None else jnp.asarray(valid)
  slopes = jax.grad(lambda x: jnp.sum(critic(x)))(structure)
  squares = jnp.where(valid > 0, slopes, 0) ** 2
  return MaskedMean.from_values(
    jnp.sum(squares, axis=(1, 2, 3)) / 2, jnp.any(valid > 0, axis=(1, 2, 3))
  )


def _over(values: Array, valid: ArrayLike | None) -> MaskedMean:
  return MaskedMean.from_values(values, jnp.ones_like(values) if valid is None else valid)
