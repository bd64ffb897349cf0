"""Lovász extensions of the Jaccard loss, 1 - IoU (Berman et al. 2018)."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.maps import average_over_classes, compare_maps, mark_labeled
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes


def lovasz_softmax(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  classes: str = "present",
) -> MaskedMean:
  """Computes the Lovász-softmax loss, a surrogate of 1 - IoU (Berman et al. 2018, Eq. 11).

  Of each class it is the Lovász extension of the Jaccard loss at the errors |g - p| of the pixels;
  for decided predictions that is 1 - IoU.

  Args:
    probabilities: Class probabilities p.
    label: Class ids, of which g is the one-hot form; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    classes: "present", the default, for the classes in an image's truth, or "all".

  Returns:
    Sum over images and classes, and their number.

  Raises:
    ValueError: The shapes do not fit, or `classes` is unknown.

  Examples:
    >>> import jax.numpy as jnp
    >>> decided = jnp.array([[1.0, 0.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
    >>> print(lovasz_softmax(decided, jnp.array([[[0, 1]]])).mean())  # IoUs of 1/2 and 0.
    0.75
  """
  p, g = compare_maps(probabilities, label, mask)
  losses = _extend_jaccard(_pixels_last(jnp.abs(g - p)), _pixels_last(g))
  return average_over_classes(losses, g, classes)


def lovasz_hinge(
  logits: Float[ArrayLike, "n h w"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the Lovász hinge loss of figure against ground (Berman et al. 2018, Eqs. 7 and 8).

  It is the Lovász extension of the figure's Jaccard loss at the hinges max(0, 1 - s y) of the
  pixels, with y = 1 for the figure and -1 for the ground.

  Args:
    logits: Scores s, positive for the figure.
    label: 1 for the figure and 0 for the ground; a pixel with another id is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.

  Returns:
    Sum over images with a pixel that counts, and their number.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> scores, label = jnp.array([[[2.0, 1.0, -3.0]]]), jnp.array([[[1, 0, 0]]])
    >>> print(lovasz_hinge(scores, label).mean())  # A hinge of 2, and an IoU of 1/2 for its error.
    1.0
  """
  check_shapes(logits=(logits, "n h w"), label=(label, "n h w"), mask=(mask, "n h w 1"))
  logits, labeled = promote_to_float32(logits), mark_labeled(label, 2, mask)
  figure = jnp.where(labeled, jnp.asarray(label), 0).astype(logits.dtype)
  hinges = jnp.where(labeled, jnp.maximum(0, 1 - logits * (2 * figure - 1)), 0)
  losses = _extend_jaccard(hinges.reshape(len(hinges), -1), figure.reshape(len(figure), -1))
  return MaskedMean.from_values(losses, jnp.any(labeled, axis=(1, 2)))


def _pixels_last(maps: Float[Array, "n h w c"]) -> Float[Array, "n c p"]:
  """Lists the pixels of each image and class."""
  n, _, _, c = maps.shape
  return jnp.moveaxis(maps.reshape(n, -1, c), -1, 1)


def _extend_jaccard(
  errors: Float[Array, "*lists p"], truth: Float[Array, "*lists p"]
) -> Float[Array, "*lists"]:
  """Evaluates the Lovász extension of the Jaccard loss (Berman et al. 2018, Eqs. 8 and 9).

  With the pixels in the order of falling errors, a pixel's error weighs as much as the Jaccard loss
  grows once the pixel is wrong too. Pixels that do not count have the error 0, and so no effect.
  """
  order = jnp.argsort(-errors, axis=-1)
  errors, truth = (jnp.take_along_axis(x, order, axis=-1) for x in (errors, truth))
  size = jnp.sum(truth, axis=-1, keepdims=True)
  union = size + jnp.cumsum(1 - truth, axis=-1)
  # Where the class is absent there is a pixel of another in the union from the first one on.
  jaccard = 1 - (size - jnp.cumsum(truth, axis=-1)) / union
  growth = jnp.diff(jaccard, axis=-1, prepend=0)
  return jnp.sum(errors * lax.stop_gradient(growth), axis=-1)
