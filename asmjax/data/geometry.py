"""Surface normals from a depth map: planes fitted to inverse depth, kept apart at edges.

A pixel (u, v) of depth z depicts the point z K^-1 (u, v, 1).  If it lies on the plane n . p = d,
then 1/z = (K^-T n / d) . (u, v, 1): inverse depth is linear in the pixel coordinates,
1/z = a u + b v + c, and n is K^T (a, b, c) up to length.  A least-squares fit of a, b, c is exact
on planes, and right for stereo and structured light, whose noise is uniform in inverse depth.

A window across an edge mixes two surfaces.  So every pixel chooses among nine windows of each size:
the one around it, and the eight that have it in a corner or in the middle of a side.  Near a
straight edge, one of them lies entirely on the pixel's side (Kuwahara et al. 1976).  The pixel
takes the window whose slope has the least expected squared error at the pixel,

  (noise^2 / m + max(0, s^2 - 2 noise^2) (1 + 7.5 q)) tr C^-1,

where m is the window's number of pixels with depth, C the covariance of their coordinates, s^2 the
variance of their inverse depths about the plane, and q = 0 for a pixel in the middle of the window,
1 at a side and 2 in a corner.  Noise averages out; a bend of the surface does not, and its error
grows off the middle.  Flat places thus take large windows, details small ones.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# Relative rounding error of float32 depths: noise that no map is free of.  Above float32's 6e-8.
_ROUNDING = 1e-6
# The variance estimated in a window scatters about the noise's variance: up to this multiple of it,
# the variance is no evidence that the surface bends.
_SCATTER = 2
# A parabola with variance s^2 about its mean over x = -r..r has a squared slope of 45 s^2 / r^2 at
# the ends: 7.5 times 6 s^2 / r^2, which is s^2 tr C^-1 of a square window.
_OFF_CENTER = 7.5
# A pixel leaves the window around it, which is symmetric, only for a window whose expected error is
# below this share of its own.
_BETTER = 0.5
# Largest distance from the plane, as a fraction of depth, of the pixel itself and, as a root mean
# square, of its window's pixels.
_TOLERANCE = 0.02


class _Planes(NamedTuple):
  """Planes fitted to inverse depth, one for each pixel; all fields are float64 (h, w)."""

  right: np.ndarray  # Change of inverse depth per column.
  down: np.ndarray  # Change of inverse depth per row.
  value: np.ndarray  # Inverse depth of the plane at the pixel.
  variance: np.ndarray  # Variance of the window's inverse depths about the plane.
  error: np.ndarray  # Expected squared error of (right, down); infinite where no plane fits.


def normals_from_depth(
  depth: np.ndarray,
  intrinsics: np.ndarray,
  *,
  windows: Sequence[int] = (9, 17, 33),
  noise: float = 0.0,
) -> np.ndarray:
  """Computes the unit normals of the surfaces in a depth map; the module explains how.

  Args:
    depth: Depth along the optical axis, (h, w), in any unit; missing where not positive and finite.
    intrinsics: Camera matrix K, (3, 3): [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, for
      coordinates in which the pixel in column c and row r has its center at (c, r).  Where the
      center is at (c + 1/2, r + 1/2), subtract 1/2 from cx and cy.
    windows: Sides of the windows in pixels, odd; the smallest one limits the detail that is kept.
    noise: Standard deviation of inverse depth, in 1 / the unit of depth; 0 by default.

  Returns:
    Unit normals, float32 (h, w, 3): x to the right, y down, z towards the camera.  A normal is
    missing, 0, where the pixel has no depth, no window has depth in half of its pixels, or depths
    are off the plane by more than 2 %.

  Raises:
    ValueError: `depth` is not two-dimensional, `intrinsics` are malformed, or an option is out of
      range.
  """
  _check_options(depth, windows, noise)
  check_intrinsics(intrinsics)
  valid = np.isfinite(depth) & (depth > 0)
  inverse = np.divide(1, depth, out=np.zeros(depth.shape), where=valid)
  plane = _select_best([_fit_planes(inverse, valid.astype(float), side, noise) for side in windows])
  limit = _TOLERANCE * inverse
  valid &= (np.abs(plane.value - inverse) <= limit) & (plane.variance <= limit**2)
  row, column = np.ogrid[: depth.shape[0], : depth.shape[1]]
  constant = plane.value - plane.right * column - plane.down * row
  # K^T (a, b, c) points away from the camera, in a frame whose z does so too.  Negating the vector
  # and then its z, to count it towards the camera, changes the signs of x and y alone.
  normals = np.stack([plane.right, plane.down, constant], -1) @ (intrinsics * (-1, -1, 1))
  length = np.linalg.norm(normals, axis=-1, keepdims=True)
  return np.where(valid[..., None], normals / np.where(length > 0, length, 1), 0).astype(np.float32)


def check_intrinsics(intrinsics: np.ndarray) -> None:
  """Raises ValueError unless `intrinsics` has the form that `normals_from_depth` expects."""
  if (
    intrinsics.shape != (3, 3)
    or not np.isfinite(intrinsics).all()
    or (intrinsics[[1, 2, 2, 2], [0, 0, 1, 2]] != (0, 0, 0, 1)).any()
    or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0
  ):
    raise ValueError(
      f"intrinsics {intrinsics.tolist()}; expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with "
      "positive fx and fy"
    )


def _check_options(depth: np.ndarray, windows: Sequence[int], noise: float) -> None:
  if depth.ndim != 2:
    raise ValueError(f"depth has the shape {depth.shape}; expected (height, width)")
  if not windows or any(side < 3 or side % 2 == 0 for side in windows):
    raise ValueError(f"windows {tuple(windows)}: expected odd numbers of pixels, at least 3")
  if noise < 0:
    raise ValueError(f"noise {noise}: expected a standard deviation, 0 or more")


def _fit_planes(inverse: np.ndarray, weight: np.ndarray, side: int, noise: float) -> _Planes:
  """Fits each pixel's best plane of one window size; `weight` is 1 where there is depth, else 0."""
  planes, bend = _fit_centered_planes(inverse, weight, side, noise)
  rows, columns, error = _choose_windows(planes.error, bend, side // 2)
  right, down, center, variance, _ = (field[rows, columns] for field in planes)
  row, column = np.ogrid[: inverse.shape[0], : inverse.shape[1]]
  value = center + right * (column - columns) + down * (row - rows)
  return _Planes(right, down, value, variance, error)


def _fit_centered_planes(
  inverse: np.ndarray, weight: np.ndarray, side: int, noise: float
) -> tuple[_Planes, np.ndarray]:
  """Fits planes in the windows around the pixels; returns them and the errors due to bends.

  The planes' own errors are due to noise alone.
  """
  one, x = np.ones(side), np.arange(side) - side // 2.0

  def window_sum(
    values: np.ndarray, across: np.ndarray = one, along: np.ndarray = one
  ) -> np.ndarray:
    return cv2.sepFilter2D(values, -1, across, along, borderType=cv2.BORDER_CONSTANT)

  count = window_sum(weight)
  enough = count >= side**2 / 2
  scale = np.divide(1, count, out=np.zeros_like(count), where=enough)
  mx, my = scale * window_sum(weight, x), scale * window_sum(weight, one, x)
  mz = scale * window_sum(inverse)
  xx = scale * window_sum(weight, x * x) - mx * mx
  xy = scale * window_sum(weight, x, x) - mx * my
  yy = scale * window_sum(weight, one, x * x) - my * my
  xz = scale * window_sum(inverse, x) - mx * mz
  yz = scale * window_sum(inverse, one, x) - my * mz
  zz = scale * window_sum(inverse * inverse) - mz * mz
  # More than half of a square is never on one line, so that the determinant is positive.
  inverse_det = np.divide(1, xx * yy - xy * xy, out=np.zeros_like(count), where=enough)
  right, down = (yy * xz - xy * yz) * inverse_det, (xx * yz - xy * xz) * inverse_det
  # The fit of three parameters takes three degrees of freedom.
  unbiased = np.divide(count, count - 3, out=np.ones_like(count), where=enough)
  variance = np.maximum(zz - right * xz - down * yz, 0) * unbiased
  noise_variance = noise**2 + (_ROUNDING * mz) ** 2
  trace = (xx + yy) * inverse_det  # tr C^-1
  error = np.where(enough, noise_variance * scale * trace, np.inf)
  bend = np.maximum(variance - _SCATTER * noise_variance, 0) * trace
  return _Planes(right, down, mz - right * mx - down * my, variance, error), bend


def _choose_windows(
  error: np.ndarray, bend: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns row and column of the center of each pixel's best window, and the pixel's error."""
  height, width = error.shape
  row, column = np.mgrid[:height, :width]
  rows, columns = row.copy(), column.copy()
  centered = error + bend
  least = _BETTER * centered
  error, bend = (np.pad(array, radius, constant_values=np.inf) for array in (error, bend))
  for down, right in itertools.product((-1, 0, 1), repeat=2):
    top, left = radius * (1 + down), radius * (1 + right)
    window = np.s_[top : top + height, left : left + width]
    shifted = error[window] + (1 + _OFF_CENTER * (down**2 + right**2)) * bend[window]
    better = shifted < least
    np.copyto(least, shifted, where=better)
    np.copyto(rows, row + radius * down, where=better)
    np.copyto(columns, column + radius * right, where=better)
  return rows, columns, np.where(least < _BETTER * centered, least, centered)


def _select_best(candidates: Sequence[_Planes]) -> _Planes:
  """Selects the plane of least error at each pixel, the first one of equal planes."""
  best = np.argmin([planes.error for planes in candidates], axis=0)[None]
  return _Planes(
    *(np.take_along_axis(np.stack(field), best, 0)[0] for field in zip(*candidates, strict=True))
  )
