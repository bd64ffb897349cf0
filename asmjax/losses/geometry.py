"""Losses on the shape of depth and normal maps: scale, slopes, structure and smoothness."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.utils.shapes import check_shapes

Maps = Float[ArrayLike, "n h w c"]
Mask = Float[ArrayLike, "n h w 1"]


def scale_invariant_log_loss(
  predictions: Float[ArrayLike, "n h w 1"],
  targets: Float[ArrayLike, "n h w 1"],
  *,
  mask: Mask | None = None,
  scale_invariance: float = 0.5,
  min_depth: float = 1e-3,
) -> MaskedMean:
  """Computes the scale-invariant error of log depths (Eigen et al. 2014, Eq. 4).

  mean d^2 - lambda (mean d)^2, where d is the difference of a pixel's log depths, and means are
  those of an image.

  Args:
    predictions: Depths in meters.
    targets: True depths; where the mask is 0 they may hold anything.
    mask: 1 where the truth is known; everywhere by default.
    scale_invariance: lambda: 0 is the mean squared error of log depths, 1 does not see a common
      factor at all, and 0.5, the default, is that of Eigen et al.
    min_depth: Depth in meters below which predictions are taken to be this near.

  Returns:
    Sum over images with a pixel that counts, and their number.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> depth = jnp.array([[[[1.0], [2.0]]]])
    >>> loss = scale_invariant_log_loss(3 * depth, depth, scale_invariance=1.0)
    >>> print(abs(loss.mean()) < 1e-6)
    True
  """
  predictions, targets, mask = _check(predictions, targets, mask)
  logs = lambda depth: jnp.log(jnp.maximum(jnp.where(mask > 0, depth, 1), min_depth))
  difference = logs(predictions) - logs(targets)
  count = jnp.sum(mask, axis=(1, 2, 3))
  mean = lambda x: jnp.sum(x * mask, axis=(1, 2, 3)) / jnp.maximum(count, 1)
  values = mean(difference**2) - scale_invariance * mean(difference) ** 2
  return MaskedMean.from_values(values, count > 0)


def gradient_matching_loss(
  predictions: Maps, targets: Maps, *, mask: Mask | None = None, scales: int = 4
) -> MaskedMean:
  """Computes the absolute difference of slopes at several scales (Li & Snavely 2018, Eq. 3).

  Scale k takes every 2^k-th pixel. It favors discontinuities where the truth has them and smooth
  surfaces elsewhere; there the maps are log depths.

  Args:
    predictions: Log depths, depths or normals.
    targets: True values; where the mask is 0 they may hold anything.
    mask: 1 where the truth is known; everywhere by default.
    scales: Number of scales; 4 by default.

  Returns:
    Sum over the neighboring pixels, along both axes, that are both known, and their number, over
    all scales; of each pair the sum over channels, in the maps' unit per step of the scale.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> slope = jnp.arange(4.0).reshape(1, 1, 4, 1)
    >>> print(gradient_matching_loss(2 * slope, slope, scales=1).mean())
    1.0
  """
  predictions, targets, mask = _check(predictions, targets, mask)
  difference = jnp.where(mask > 0, predictions - targets, 0)
  total = MaskedMean(jnp.zeros(()), jnp.zeros(()))
  for scale in range(scales):
    at = (slice(None), slice(None, None, 2**scale), slice(None, None, 2**scale))
    for axis in (1, 2):
      slopes, known = _slopes(difference[at], mask[at], axis)
      total += MaskedMean.from_values(jnp.sum(_abs(slopes), axis=-1, keepdims=True), known)
  return total


def ssim_loss(
  predictions: Maps,
  targets: Maps,
  *,
  mask: Mask | None = None,
  value_range: float = 1.0,
  window: int = 11,
  sigma: float = 1.5,
) -> MaskedMean:
  """Computes (1 - SSIM) / 2, the structural dissimilarity of maps (Wang et al. 2004, Eq. 13).

  Args:
    predictions: Maps, such as depths.
    targets: True maps; where the mask is 0 they may hold anything.
    mask: 1 where the truth is known; everywhere by default. A window counts if all its pixels do.
    value_range: L, the range of the values, such as the greatest depth, in their unit; the
      constants are (0.01 L)^2 and (0.03 L)^2.
    window: Side of the Gaussian window, in pixels; 11 by default, as there.
    sigma: Standard deviation of the window, in pixels; 1.5 by default, as there.

  Returns:
    Sum over windows within the maps and channels, and their number; from 0 to 1.

  Raises:
    ValueError: The shapes do not fit, the window has no pixels, or the maps are smaller than it.

  Examples:
    >>> import jax.numpy as jnp
    >>> board = jnp.indices((12, 12)).sum(0).reshape(1, 12, 12, 1) % 2.0
    >>> same, inverse = (ssim_loss(x, board).mean() for x in (board, 1 - board))
    >>> print(f"{same:.2f} {inverse:.2f}")
    0.00 1.00
  """
  predictions, targets, mask = _check(predictions, targets, mask)
  if window < 1:
    raise ValueError(f"window={window}; expected a side of at least one pixel")
  if min(predictions.shape[1:3]) < window:
    raise ValueError(f"maps {predictions.shape[1:3]} are smaller than a window of {window} pixels")
  # Squares of maps far from 0, and factors near 1, would lose the digits of a small loss.
  center = _mean_over_image(targets, mask)
  x, y = (jnp.where(mask > 0, maps - center, 0) for maps in (predictions, targets))
  positions = jnp.arange(window) - (window - 1) / 2
  weights = jnp.exp(-(positions**2) / (2 * sigma**2))
  blur = lambda maps: _filter(maps, weights / jnp.sum(weights))
  mean_y, mean_difference = blur(y), blur(x - y)
  mean_x = mean_y + mean_difference
  variances = blur(x * x + y * y) - mean_x**2 - mean_y**2
  variance_of_difference = blur((x - y) ** 2) - mean_difference**2
  c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
  # 1 minus the luminance's factor of SSIM, and 1 minus that of contrast and structure.
  luminance = mean_difference**2 / ((mean_x + center) ** 2 + (mean_y + center) ** 2 + c1)
  structure = variance_of_difference / (variances + c2)
  known = _filter(mask, jnp.full(window, 1.0 / window)) > 1 - 0.5 / window**2
  values = (luminance + structure - luminance * structure) / 2
  return MaskedMean.from_values(values, jnp.broadcast_to(known, values.shape))


def edge_aware_smoothness(
  predictions: Maps,
  image: Float[ArrayLike, "n h w d"],
  *,
  mask: Mask | None = None,
  sharpness: float = 1.0,
) -> MaskedMean:
  """Computes slopes of a prediction, less where the image has edges (Godard et al. 2017, Eq. 3).

  |dp| exp(-sharpness |dI|) for neighboring pixels along both axes: surfaces are smooth but for what
  shows in the image. It needs no truth.

  Args:
    predictions: Normals, depths or class probabilities.
    image: Image, or another guide, with values of the order of 1.
    mask: 1 where a pixel counts; everywhere by default.
    sharpness: Factor of the image's slopes, which are means over its channels; 1 by default.

  Returns:
    Sum over the pairs of neighbors that count, and their number; of each the sum over channels.

  Raises:
    ValueError: The shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> step = jnp.array([0.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4, 1)
    >>> flat, edge = (edge_aware_smoothness(step, x).mean() for x in (0 * step, 3 * step))
    >>> print(f"{flat:.3f} {edge:.3f}")
    0.333 0.017
  """
  check_shapes(
    predictions=(predictions, "n h w c"), image=(image, "n h w d"), mask=(mask, "n h w 1")
  )
  predictions, image = promote_to_float32(predictions), promote_to_float32(image)
  mask = jnp.ones_like(predictions[..., :1]) if mask is None else promote_to_float32(mask)
  total = MaskedMean(jnp.zeros(()), jnp.zeros(()))
  for axis in (1, 2):
    slopes, known = _slopes(jnp.where(mask > 0, predictions, 0), mask, axis)
    edges, _ = _slopes(image, mask, axis)
    weights = jnp.exp(-sharpness * jnp.mean(jnp.abs(edges), axis=-1, keepdims=True))
    values = jnp.sum(_abs(slopes), axis=-1, keepdims=True) * lax.stop_gradient(weights)
    total += MaskedMean.from_values(values, known)
  return total


def _check(predictions: Maps, targets: Maps, mask: Mask | None) -> tuple[Array, Array, Array]:
  """Checks shapes and casts to float32 or wider; the mask is 1 everywhere by default."""
  check_shapes(
    predictions=(predictions, "n h w c"), targets=(targets, "n h w c"), mask=(mask, "n h w 1")
  )
  predictions, targets = promote_to_float32(predictions), promote_to_float32(targets)
  mask = jnp.ones_like(predictions[..., :1]) if mask is None else promote_to_float32(mask)
  return predictions, targets, mask


def _mean_over_image(maps: Array, mask: Array) -> Array:
  """Averages the pixels of each image and channel that count, without a gradient."""
  total = jnp.sum(jnp.where(mask > 0, maps, 0), axis=(1, 2), keepdims=True)
  count = jnp.sum(mask, axis=(1, 2), keepdims=True)
  return lax.stop_gradient(total / jnp.maximum(count, 1))


def _abs(x: Array) -> Array:
  """Absolute values whose derivative at 0 is 0: JAX's is 1 there, which would tilt flat maps."""
  return x * jnp.sign(x)


def _slopes(maps: Array, mask: Array, axis: int) -> tuple[Array, Array]:
  """Returns the differences of neighbors along an axis, and 1 where both count."""
  behind = lambda x: lax.slice_in_dim(x, 1, None, axis=axis)
  before = lambda x: lax.slice_in_dim(x, 0, -1, axis=axis)
  return behind(maps) - before(maps), behind(mask) * before(mask)


def _filter(maps: Array, weights: Array) -> Array:
  """Correlates each channel with a separable window, where the window is within the map."""
  for axis in (1, 2):
    length = maps.shape[axis] - len(weights) + 1
    views = [lax.slice_in_dim(maps, i, i + length, axis=axis) for i in range(len(weights))]
    maps = jnp.tensordot(weights, jnp.stack(views), axes=1, precision=lax.Precision.HIGHEST)
  return maps
