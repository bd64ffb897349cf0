"""Boundary loss: predictions integrated over the distance to the true boundary."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from asmjax.losses.maps import compare_maps
from asmjax.ops.masked_mean import MaskedMean


def boundary_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
) -> MaskedMean:
  """Computes the boundary loss, the mean of p_c times the signed distance (Kervadec et al. 2019).

  Up to a constant it is the distance between predicted and true boundary, integrated over the
  region between them (Eqs. 4 and 5). It is negative where regions overlap. Alone it may end in an
  empty prediction, so it goes with a loss on pixels or regions, and its weight is meant to grow.

  Args:
    probabilities: Class probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored.
    mask: 1 where a labeled pixel counts; everywhere by default.

  Returns:
    Sum over pixels and classes, in pixels of distance, and their number. A class without a boundary
    in an image, absent or all over it, adds 0 and counts.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> p = jnp.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]).reshape(1, 1, 3, 2)
    >>> loss = boundary_loss(p, jnp.array([[[0, 0, 1]]]))
    >>> print(f"{loss.total:.2f} over {loss.count:.0f}")
    -0.10 over 6
  """
  p, g = compare_maps(probabilities, label, mask)
  distances = signed_distance(g > 0)
  counts = jnp.broadcast_to(jnp.any(g > 0, axis=-1, keepdims=True), p.shape)
  return MaskedMean.from_values(p * distances, counts)


def signed_distance(regions: Bool[ArrayLike, "n h w c"]) -> Float[Array, "n h w c"]:
  """Computes the distance to the nearest pixel across each region's boundary, in pixels.

  Outside a region it is the distance to its nearest pixel. Inside it is 1 minus that to the nearest
  pixel outside: 0 at the border, as in the code of Kervadec et al. 2019. Exact and Euclidean.

  Args:
    regions: Whether a pixel is in the region.

  Returns:
    Positive distances outside and negative ones inside; 0 everywhere for a region that has no pixel
    or all of them.

  Examples:
    >>> import jax.numpy as jnp
    >>> region = jnp.array([True, True, False, False]).reshape(1, 1, 4, 1)
    >>> print(signed_distance(region)[0, 0, :, 0])
    [-1.  0.  1.  2.]
  """
  regions = jnp.asarray(regions)
  to_region, to_rest = (jnp.sqrt(squared_distance(x)) for x in (regions, ~regions))
  bounded = jnp.any(regions, (1, 2), keepdims=True) & jnp.any(~regions, (1, 2), keepdims=True)
  return jnp.where(bounded, jnp.where(regions, 1 - to_rest, to_region), 0)


def squared_distance(targets: Bool[ArrayLike, "n h w c"]) -> Float[Array, "n h w c"]:
  """Computes the squared Euclidean distance to the nearest target, in pixels.

  Separable (Felzenszwalb & Huttenlocher 2012, Sec. 2.1): first along columns, then the minimum over
  the columns of a row, one of them after the other, in a memory of two maps.

  Args:
    targets: Whether a pixel is a target.

  Returns:
    Distances, exact up to 2^24; where an image has no target they are beyond any in the image.

  Examples:
    >>> import jax.numpy as jnp
    >>> corner = jnp.zeros((1, 2, 3, 1), bool).at[0, 0, 0, 0].set(True)
    >>> print(squared_distance(corner)[0, ..., 0])
    [[0. 1. 4.]
     [1. 2. 5.]]
  """
  targets = jnp.asarray(targets)
  height, width = targets.shape[1:3]
  far = height + width  # Beyond any distance in the image.
  rows = jnp.arange(height)[None, :, None, None]
  above = lax.cummax(jnp.where(targets, rows, -far), axis=1)
  below = lax.cummin(jnp.where(targets, rows, height - 1 + far), axis=1, reverse=True)
  columns = jnp.square(jnp.minimum(rows - above, below - rows).astype(jnp.float32))
  positions = jnp.arange(width, dtype=jnp.float32)[None, None, :, None]

  def nearer(column: Array, nearest: Array) -> Array:
    along_row = jnp.square(positions - column)
    of_column = lax.dynamic_slice_in_dim(columns, column, 1, axis=2)
    return jnp.minimum(nearest, of_column + along_row)

  return jax.lax.fori_loop(0, width, nearer, jnp.full_like(columns, jnp.inf))
