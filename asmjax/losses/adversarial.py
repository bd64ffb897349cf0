"""Adversarial losses (Luc et al. 2016), and the inputs of their discriminators.

A discriminator gives with a logit z the probability a = sigmoid(z) that a structure is the truth.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import MaskedMean
from asmjax.utils.shapes import check_shapes


def discriminator_loss(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  real: bool,
  label_smoothing: float = 0.0,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the discriminator's cross-entropy of one kind of input (Luc et al. 2016, Eq. 2).

  bce(a, 1 - label_smoothing) of true structures, bce(a, 0) of predicted ones, in nats; Eq. 2 adds
  the two. Smoothing is one-sided: it leaves the target of predicted structures at 0 (Salimans et
  al. 2016, Sec. 3.4).

  Args:
    logits: Logits of the discriminator, one for the whole structure or one a patch.
    real: Whether they are of true structures.
    label_smoothing: Distance of the truth's target below 1, in [0, 1); 0 by default. The best logit
      is log((1 - label_smoothing) / label_smoothing).
    mask: 1 where a logit counts; everywhere by default.

  Returns:
    Sum over the logits that count, and their number.

  Raises:
    ValueError: A label smoothing outside [0, 1).

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([3.0])).reshape(1, 1, 1, 1)  # a = 3/4
    >>> losses = [discriminator_loss(logits, real=real).mean() for real in (True, False)]
    >>> print(f"{losses[0]:.4f} {losses[1]:.4f}")
    0.2877 1.3863
  """
  if not 0 <= label_smoothing < 1:
    raise ValueError(f"label_smoothing={label_smoothing}; expected a number in [0, 1)")
  logits = jnp.asarray(logits)
  if real:
    return MaskedMean.from_values(jax.nn.softplus(-logits) + label_smoothing * logits, mask)
  return MaskedMean.from_values(jax.nn.softplus(logits), mask)


def generator_loss(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  saturating: bool = False,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the generator's cross-entropy, with the discriminator held constant (Luc et al. 2016).

  Args:
    logits: Logits of the discriminator for predicted structures.
    saturating: Whether the loss is -bce(a, 0) = log(1 - a), the negative of the discriminator's own
      (Luc et al. 2016, Eq. 3), whose slope -a vanishes where the discriminator is sure. By default
      it is bce(a, 1), which they use in practice, with the slope a - 1: of the same sign, and
      largest there.
    mask: 1 where a logit counts; everywhere by default.

  Returns:
    Sum over the logits that count, and their number.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = -jnp.log(jnp.array([3.0])).reshape(1, 1, 1, 1)  # a = 1/4
    >>> losses = [generator_loss(logits, saturating=saturating).mean()
    ...           for saturating in (False, True)]
    >>> print(f"{losses[0]:.4f} {losses[1]:.4f}")
    1.3863 -0.2877
  """
  logits = jnp.asarray(logits)
  loss = -jax.nn.softplus(logits) if saturating else jax.nn.softplus(-logits)
  return MaskedMean.from_values(loss, mask)


def discriminator_accuracy(
  logits: Float[ArrayLike, "n h w 1"],
  *,
  real: bool,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the fraction of logits on the right side: above 0 for the truth, else below 0.

  A logit of exactly 0 decides nothing and is wrong for both.

  Args:
    logits: Logits of the discriminator.
    real: Whether they are of true structures.
    mask: 1 where a logit counts; everywhere by default.

  Returns:
    Number of right logits, and of all that count.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([-1.0, 0.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    >>> print(*(discriminator_accuracy(logits, real=real).mean() for real in (True, False)))
    0.5 0.25
  """
  logits = jnp.asarray(logits)
  right = logits > 0 if real else logits < 0
  return MaskedMean.from_values(right.astype(logits.dtype), mask)


def class_color_product(
  structure: Float[ArrayLike, "n h w c"], image: Float[ArrayLike, "n h w d"]
) -> Float[Array, "n h w c*d"]:
  """Multiplies each class map by each color channel (Luc et al. 2016, Sec. 3.2, Fig. 2).

  Args:
    structure: One-hot truth, or probabilities.
    image: Image at the structure's size, each color centered on its mean.

  Returns:
    The "Product" input: the d colors times the first map, then times the second, and so on.

  Raises:
    ValueError: The image has another size than the structure.

  Examples:
    >>> import jax.numpy as jnp
    >>> structure, colors = jnp.array([[[[0.25, 0.75]]]]), jnp.array([[[[4.0, -8.0, 12.0]]]])
    >>> print(class_color_product(structure, colors))
    [[[[ 1. -2.  3.  3. -6.  9.]]]]
  """
  structure, image = jnp.asarray(structure), jnp.asarray(image)
  check_shapes(structure=(structure, "n h w c"), image=(image, "n h w d"))
  products = structure[..., :, None] * image[..., None, :]
  return products.reshape(*products.shape[:-2], -1)


def soften_one_hot(
  one_hot: Float[ArrayLike, "n h w c"],
  probabilities: Float[ArrayLike, "n h w c"],
  *,
  min_probability: float = 0.9,
) -> Float[Array, "n h w c"]:
  """Makes the one-hot truth as soft as the prediction (Luc et al. 2016, Sec. 3.2, "Scaling").

  With s the prediction and l the true class, y_l = max(tau, s_l) and elsewhere
  y_c = s_c (1 - y_l) / (1 - s_l). Of all distributions with at least tau on l this is the closest
  to s, by KL(y || s) and by KL(s || y). So the discriminator cannot tell the truth by its zeros
  and ones.

  Args:
    one_hot: True classes; all 0 at pixels without a label.
    probabilities: Prediction that sums to 1 at labeled pixels. It receives a gradient unless the
      caller stops it.
    min_probability: tau, the least probability of the true class, in (0, 1]; 0.9 by default, as
      in the paper.

  Returns:
    Distributions over the classes; all 0 at pixels without a label.

  Raises:
    ValueError: A `min_probability` outside (0, 1].

  Examples:
    >>> import jax.numpy as jnp
    >>> truth, predicted = jnp.array([[[[1.0, 0.0, 0.0]]]]), jnp.array([[[[0.0, 0.5, 0.5]]]])
    >>> print(soften_one_hot(truth, predicted, min_probability=0.75))
    [[[[0.75  0.125 0.125]]]]
  """
  if not 0 < min_probability <= 1:
    raise ValueError(f"min_probability={min_probability}; expected a number in (0, 1]")
  is_true, probabilities = jnp.asarray(one_hot) > 0, jnp.asarray(probabilities)
  of_true = jnp.sum(jnp.where(is_true, probabilities, 0), axis=-1, keepdims=True)
  too_low = of_true < min_probability
  # Where the prediction stays as it is, 1 - s_l may be 0: there nothing is divided by it.
  of_others = 1 - jnp.where(too_low, of_true, 0)
  raised = jnp.where(is_true, min_probability, probabilities * ((1 - min_probability) / of_others))
  labeled = jnp.any(is_true, axis=-1, keepdims=True)
  return jnp.where(labeled, jnp.where(too_low, raised, probabilities), 0)


def gradient_penalty(
  critic: Callable[[Array], Array],
  structure: Float[ArrayLike, "n h w c"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes R1, half the critic's squared gradient at the truth (Mescheder et al. 2018, Eq. 9).

  Without the factor gamma, which is the weight of the loss. It has a gradient with respect to
  whatever `critic` closes over, its parameters among it.

  Args:
    critic: Function from structures to logits of any shape, each example's from that example alone.
    structure: True structures.
    mask: 1 where the structure is labeled; everywhere by default. The gradient of other pixels,
      whose structure means nothing, does not count.

  Returns:
    Sum over examples of 1/2 ||d (sum of the example's logits) / d structure||^2, and the number of
    examples with any pixel that counts.

  Examples:
    >>> import jax.numpy as jnp
    >>> slope = jnp.array([3.0, 4.0])
    >>> print(gradient_penalty(lambda x: x @ slope, jnp.zeros((1, 1, 1, 2))).mean())
    12.5
  """
  structure = jnp.asarray(structure)
  mask = jnp.ones_like(structure[..., :1]) if mask is None else jnp.asarray(mask)
  gradient = jax.grad(lambda x: jnp.sum(critic(x)))(structure)
  squares = jnp.where(mask > 0, gradient, 0) ** 2
  return MaskedMean.from_values(
    jnp.sum(squares, axis=(1, 2, 3)) / 2, jnp.any(mask > 0, axis=(1, 2, 3))
  )
