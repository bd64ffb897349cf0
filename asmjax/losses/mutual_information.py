"""Region mutual information: how well a prediction's neighborhoods tell those of the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # Imports its modules at their first use.
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from asmjax.losses.maps import average_over_classes, compare_maps
from asmjax.ops.masked_mean import MaskedMean
from asmjax.ops.pooling import avg_pool


def region_mutual_information_loss(
  probabilities: Float[ArrayLike, "n h w c"],
  label: Integer[ArrayLike, "n h w"],
  *,
  mask: Float[ArrayLike, "n h w 1"] | None = None,
  radius: int = 3,
  stride: int = 4,
  epsilon: float = 5e-4,
  classes: str = "all",
) -> MaskedMean:
  """Computes the negative lower bound of the region mutual information (Zhao et al. 2019, Eq. 15).

  A pixel's region is the vector y of the true, and p of the predicted values of a class in a square
  of d = radius^2 pixels. The loss is the entropy of y given p, up to a constant and per component:
  log det(M + epsilon I) / 2d, where M is the covariance of what a linear regression on p leaves of
  y, summed over the regions of an image.

  Args:
    probabilities: Class probabilities.
    label: Class ids; a pixel with an id outside [0, c) is ignored: it has the value 0 in both maps.
    mask: 1 where a labeled pixel counts; everywhere by default.
    radius: Side of the regions, in cells; 3 by default.
    stride: Side in pixels of the cells over which both maps are averaged first; 4 by default.
    epsilon: Variance that is added to every component; 5e-4 by default, as in the released code.
    classes: "all", the default, or "present" for the classes in an image's truth.

  Returns:
    Sum over images and classes, and their number. The authors add up the classes.

  Raises:
    ValueError: The shapes do not fit, `classes` is unknown, or the maps have no region.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> label = jnp.tile(jnp.array([[0, 1, 1, 0], [1, 1, 0, 0]]), (4, 2))[None]
    >>> truth = jax.nn.one_hot(label, 2)
    >>> loss = lambda p: region_mutual_information_loss(p, label, stride=1).mean()
    >>> print(bool(loss(truth) < loss(0.6 * truth + 0.2) < loss(jnp.full_like(truth, 0.5))))
    True
  """
  p, g = compare_maps(probabilities, label, mask)
  cells = [avg_pool(x, stride) for x in (p, g)] if stride > 1 else [p, g]
  if min(cells[0].shape[1:3]) < radius:
    raise ValueError(
      f"maps {p.shape[1:3]} have no region of {radius} x {radius} cells of {stride} pixels"
    )
  predicted, true = (_region_components(x, radius) for x in cells)
  residual = _residual_covariance(predicted, true, epsilon)
  return average_over_classes(_log_det(residual, epsilon) / (2 * radius**2), g, classes)


def _region_components(maps: Float[Array, "n h w c"], radius: int) -> Float[Array, "n c d m"]:
  """Lists the regions of each image and class in an orthonormal basis, less their mean.

  No determinant depends on the basis, but rounding does: pixels of a smooth region are almost
  equal, and single precision loses the small eigenvalues of their covariance. The components of a
  cosine transform are almost uncorrelated, so each keeps its own precision.
  """
  height, width = (side - radius + 1 for side in maps.shape[1:3])
  views = [maps[:, y : y + height, x : x + width] for y in range(radius) for x in range(radius)]
  regions = jnp.stack(views, axis=-1)
  regions = jnp.moveaxis(regions.reshape(len(maps), -1, *regions.shape[3:]), 1, -1)
  cosines = scipy.fft.dct(np.eye(radius), norm="ortho", axis=0)
  basis = jnp.array(np.kron(cosines, cosines), maps.dtype)
  components = jnp.matmul(basis, regions, precision=lax.Precision.HIGHEST)
  return components - jnp.mean(components, axis=-1, keepdims=True)


def _residual_covariance(
  predicted: Float[Array, "n c d m"], true: Float[Array, "n c d m"], epsilon: float
) -> Float[Array, "n c d d"]:
  """Computes Syy - Syp (Spp + epsilon I)^-1 Spy, with the covariances S summed over regions.

  With B = Syp (Spp + epsilon I)^-1 it is (y - B p)(y - B p)' + epsilon B B', which no rounding
  makes indefinite, and whose derivative by B is 0: so B is a constant of the backward pass.
  """
  transpose = lambda x: jnp.swapaxes(x, -1, -2)
  product = lambda a, b: jnp.matmul(a, transpose(b), precision=lax.Precision.HIGHEST)
  factor = jnp.linalg.cholesky(_add_variance(product(predicted, predicted), epsilon))
  slopes = jax.scipy.linalg.cho_solve((factor, True), product(predicted, true))
  slopes = lax.stop_gradient(transpose(slopes))
  residual = true - jnp.matmul(slopes, predicted, precision=lax.Precision.HIGHEST)
  return product(residual, residual) + epsilon * product(slopes, slopes)


def _log_det(covariance: Float[Array, "n c d d"], epsilon: float) -> Float[Array, "n c"]:
  """Computes log det(M + epsilon I)."""
  factor = jnp.linalg.cholesky(_add_variance(covariance, epsilon))
  return 2 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def _add_variance(covariance: Float[Array, "n c d d"], epsilon: float) -> Float[Array, "n c d d"]:
  """Computes M + epsilon I."""
  return covariance + epsilon * jnp.eye(covariance.shape[-1], dtype=covariance.dtype)[None, None]
