"""Losses on the skeletons of thin structures, whose connections regions do not measure."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.maps import average_over_classes, compare_maps, ratio_or_one
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.pooling import max_pool


def cl_dice_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  iterations: int = 3,
  smooth: float = 1.0,
  classes: str = "present",
) -> MaskedMean:
  """Computes the soft-clDice loss, the Dice loss of centerlines (Shit et al. 2021, Alg. 2).

  Precision is the part of the predicted skeleton that lies in the true region, sensitivity the part
  of the true skeleton that lies in the predicted region, and clDice their harmonic mean.

  Args:
    probabilities: Class probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.
    iterations: Number k of erosions, at least half the width in pixels of the widest structure.
    smooth: Pixels added to numerators and denominators of precision and sensitivity.
    classes: "present", the default, for the classes in an image's truth, or "all". Only those of
      thin structures have meaningful skeletons.

  Returns:
    Sum over images and classes, and their number.

  Raises:
    ValueError: The shapes do not fit, or `classes` is unknown.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> line = jnp.zeros((1, 5, 9), int).at[0, 2].set(1)
    >>> broken = jax.nn.one_hot(line.at[0, 2, 4].set(0), 2)
    >>> same = cl_dice_loss(jax.nn.one_hot(line, 2), line)
    >>> print(f"{same.mean():.3f} {cl_dice_loss(broken, line, smooth=0.0).mean():.3f}")
    0.000 0.029
  """
  p, g = compare_maps(probabilities, label, mask)
  predicted, true = (soft_skeleton(x, iterations) for x in (p, g))
  add = lambda x: jnp.sum(x, axis=(1, 2)) + smooth
  part = lambda skeleton, region: ratio_or_one(add(skeleton * region), add(skeleton))
  precision, sensitivity = part(predicted, g), part(true, p)
  total = precision + sensitivity
  score = 2 * precision * sensitivity / jnp.where(total > 0, total, 1)
  return average_over_classes(1 - score, g, classes)


def soft_skeleton(maps: Float[ArrayLike, "n h w c"], iterations: int) -> Float[Array, "n h w c"]:
  """Computes soft skeletons by repeated erosion (Shit et al. 2021, Alg. 1).

  A skeleton has what an opening of the map, or of one of its erosions, removes.

  Args:
    maps: Maps of values in [0, 1], of which the larger ones are the structures.
    iterations: Number of erosions; each takes a pixel off all around.

  Returns:
    Maps of values in [0, 1]: how far a pixel is of the skeleton.

  Examples:
    >>> import jax.numpy as jnp
    >>> bar = jnp.zeros((1, 5, 7, 1)).at[0, 1:4, 1:6].set(1)
    >>> print(soft_skeleton(bar, 2)[0, 2, :, 0])
    [0. 0. 1. 1. 1. 0. 0.]
  """
  maps = jnp.asarray(maps)
  skeleton = jax.nn.relu(maps - _open(maps))
  for _ in range(iterations):
    maps = _erode(maps)
    removed = jax.nn.relu(maps - _open(maps))
    skeleton += jax.nn.relu(removed - skeleton * removed)
  return skeleton


def _erode(maps: Array) -> Array:
  """Takes the minimum over each pixel's cross of 5; what lies outside the image is no minimum."""
  return jnp.minimum(_minimum(maps, (3, 1)), _minimum(maps, (1, 3)))


def _open(maps: Array) -> Array:
  return max_pool(_erode(maps), 3, 1)


def _minimum(maps: Array, window: tuple[int, int]) -> Array:
  """Takes the minimum over a window around each pixel."""
  height, width = window
  padding = ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0))
  padded = jnp.pad(maps, padding, constant_values=jnp.inf)
  views = [
    lax.slice_in_dim(
      lax.slice_in_dim(padded, y, y + maps.shape[1], axis=1), x, x + maps.shape[2], axis=2
    )
    for y in range(height)
    for x in range(width)
  ]
  smallest = views[0]
  for view in views[1:]:
    smallest = jnp.minimum(smallest, view)
  return smallest
