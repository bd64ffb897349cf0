"""Pixel-wise (IID) losses."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from asmjax.moments import Moments


def cross_entropy(
  logits: Float[ArrayLike, "n h w c"],
  label: Int[ArrayLike, "n h w"],
  *,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
) -> Moments:
  """Softmax cross-entropy of every labelled pixel, in nats.

  Args:
    logits: unnormalised log-probabilities.
    label: class ids; a pixel with an id outside [0, c) is ignored, 255 among them.
    valid: 1 where the pixel counts; by default where the label is a class.

  Returns:
    Sum over the pixels that count, and their number.  An ignored pixel has exactly no gradient.

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
  return Moments.over(-jnp.sum(chosen * jax.nn.log_softmax(logits), axis=-1), valid)
