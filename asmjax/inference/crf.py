"""Fully connected conditional random fields with Gaussian edges (Kraehenbuehl and Koltun 2011)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from asmjax.inference.lattice import Lattice, build
from asmjax.ops.masked_mean import promote_to_float32
from asmjax.utils.shapes import check_image

FILTERS = ("released", "close")
# Reach of `Separable` in standard deviations: pixels beyond weigh less than exp(-25 / 2) = 4e-6.
_REACH = 5

# NumPy arrays as built on the host, or JAX arrays while a function is traced.
_Arrays = Array | np.ndarray


class Separable(NamedTuple):
  """Normalized Gaussian filter D^-1/2 K D^-1/2 of positions, separable into rows and columns.

  Attributes:
    taps: Values of the Gaussian along one axis, centered.
    scale: Normalization D^-1/2 of each pixel.
  """

  taps: Float[_Arrays, " t"]
  scale: Float[_Arrays, "h w 1"]

  def __call__(self, values: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Filters a map of values, with zeros beyond its border."""
    scale = jnp.asarray(self.scale)
    return scale * _blur(scale * values, self.taps)


class Kernel(NamedTuple):
  """Weighted, normalized filter on maps (h, w, c).

  Attributes:
    weight: Weight of the filter in the messages.
    filter: Filter that maps the marginals (h, w, c) to sums over all pixels.
  """

  weight: Float[_Arrays, ""] | np.float32
  filter: Lattice | Separable


@dataclasses.dataclass(frozen=True)
class DenseCRF:
  """Fully connected CRF over an image's pixels, by mean field inference.

  The energy of a labeling is the sum over pixels of the negative logits and over pairs of pixels
  with different labels (Potts) of two Gaussian kernels: a bilateral one of positions and colors,
  and one of positions. As in the authors' code (and pydensecrf) each kernel matrix K is normalized
  to D^-1/2 K D^-1/2, D = diag(K 1), and has no zero diagonal: a message to i sums over all j,
  i included.

  There are two sets of filters. "released" gives the numbers of the authors' code up to rounding,
  with one permutohedral lattice for each kernel. On small images its probabilities differ from
  those of exact sums by 0.002 to 0.003 on average and by at most 0.02, but by up to 0.09 where the
  noise is three times `bilateral_rgb`: the lattice is then mostly empty, and values that would pass
  over missing vertices are lost. "close" keeps more vertices, averages over two lattices that are
  shifted against each other, and sums over positions exactly (at a cost in proportion to
  `spatial_xy`). It is within 0.01 of exact sums where the noise does not exceed `bilateral_rgb`,
  and within 0.03 at three times that, for about three times the time.

  Attributes:
    bilateral_weight: Weight of the bilateral kernel; 0 leaves it out.
    bilateral_xy: Standard deviation of the bilateral kernel in pixels.
    bilateral_rgb: Standard deviation of the bilateral kernel in color levels, 0..255.
    spatial_weight: Weight of the kernel of positions; 0 leaves it out.
    spatial_xy: Standard deviation of the kernel of positions in pixels.
    iterations: Number of updates of mean field inference.
    filters: Set of filters: "released", the default, or "close".

  Raises:
    ValueError: A weight is negative, a deviation is not positive, a number is not finite, the
      number of iterations is no integer from 0, or the filters are unknown.
  """

  bilateral_weight: float = 1.0
  bilateral_xy: float = 40.0
  bilateral_rgb: float = 3.0
  spatial_weight: float = 1.0
  spatial_xy: float = 1.0
  iterations: int = 10
  filters: str = "released"

  def __post_init__(self):
    for name in ("bilateral_xy", "bilateral_rgb", "spatial_xy"):
      if not 0 < getattr(self, name) < np.inf:
        raise ValueError(f"{name} {getattr(self, name)!r}; expected a positive number")
    for name in ("bilateral_weight", "spatial_weight"):
      if not 0 <= getattr(self, name) < np.inf:
        raise ValueError(f"{name} {getattr(self, name)!r}; expected a number from 0")
    if not isinstance(self.iterations, int) or self.iterations < 0:
      raise ValueError(f"iterations {self.iterations!r}; expected an integer from 0")
    if self.filters not in FILTERS:
      raise ValueError(f"unknown filters {self.filters!r}; known: {', '.join(FILTERS)}")

  def __call__(
    self, logits: Shaped[ArrayLike, "..."], image: Shaped[ArrayLike, "..."]
  ) -> Float[Array, "h w c"]:
    """Refines the class probabilities of an image.

    It is differentiable by the logits, in reverse mode.

    Args:
      logits: Logits or log-probabilities, floating point (h, w, c); a constant added to all classes
        of a pixel has no effect.
      image: RGB image, uint8 (h, w, 3); it may not be traced, as the lattice is built on the host.

    Returns:
      Marginal probabilities of the classes, (h, w, c).

    Raises:
      ValueError: The logits or the image have another shape or type.

    Examples:
      >>> import numpy as np
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> image[:, 3:] = 200
      >>> logits = np.zeros((4, 6, 2), np.float32)
      >>> logits[:, :3, 0] = logits[:, 3:, 1] = 1
      >>> logits[1, 4, 1] = -1
      >>> refined = DenseCRF()(logits, image)
      >>> print(logits.argmax(-1)[1], refined.argmax(-1)[1])
      [0 0 0 1 0 1] [0 0 0 1 1 1]
    """
    logits = jnp.asarray(logits)
    if logits.ndim != 3 or not jnp.issubdtype(logits.dtype, jnp.floating):
      raise ValueError(f"logits {logits.shape} {logits.dtype}; expected (h, w, c) floating point")
    kernels = self.kernels(image)
    if logits.shape[:2] != np.shape(image)[:2]:
      raise ValueError(
        f"logits {logits.shape} for an image {np.shape(image)}; expected the same height and width"
      )
    return mean_field(logits, kernels, self.iterations)

  def kernels(self, image: Shaped[ArrayLike, "..."]) -> tuple[Kernel, ...]:
    """Makes the kernels of an image for `mean_field`, of NumPy arrays.

    Args:
      image: RGB image, uint8 (h, w, 3).

    Raises:
      ValueError: The image has another shape or type.
    """
    image = check_image(image)
    spatial = self._spatial(*image.shape[:2]) if self.spatial_weight else []
    bilateral = self._bilateral(image) if self.bilateral_weight else []
    weighted = ((self.spatial_weight, spatial), (self.bilateral_weight, bilateral))
    return tuple(
      Kernel(np.float32(weight / len(filters)), filter)
      for weight, filters in weighted
      for filter in filters
    )

  def _spatial(self, height: int, width: int) -> list[Lattice | Separable]:
    make = _build_position_lattice if self.filters == "released" else _build_separable
    return [make(height, width, self.spatial_xy)]

  def _bilateral(self, image: np.ndarray) -> list[Lattice]:
    height, width = image.shape[:2]
    colors = image.reshape(-1, 3) / self.bilateral_rgb
    features = np.concatenate([_scale_positions(height, width, self.bilateral_xy), colors], axis=1)
    if self.filters == "released":
      return [build(features)]
    # Half the square roots of primes, an arbitrary shift that is no vector of the lattice.
    shifts = (np.zeros(5), np.sqrt([2, 3, 5, 7, 11]) / 2)
    return [build(features + shift, fill=True) for shift in shifts]


@functools.partial(jax.jit, static_argnames="iterations")
def mean_field(
  logits: Float[Array, "h w c"], kernels: Sequence[Kernel], iterations: int
) -> Float[Array, "h w c"]:
  """Infers marginals of a CRF with Potts compatibility (Kraehenbuehl and Koltun 2011, Algorithm 1).

  It iterates Q = softmax(logits + sum of weight * filter(Q)), starting from softmax(logits).

  The function is pure, so it can be a layer: it is differentiable by the logits and the kernels'
  weights, and `jax.vmap` takes several images whose lattices were padded to one size by
  `Lattice.padded` and stacked.

  Args:
    logits: Logits of the classes.
    kernels: Kernels of the image, as returned by `DenseCRF.kernels`.
    iterations: Number of updates.

  Returns:
    Marginal probabilities of the classes, in at least single precision.
  """
  logits = promote_to_float32(logits)

  def update(marginals: Array, _) -> tuple[Array, None]:
    messages = sum(kernel.weight * kernel.filter(marginals) for kernel in kernels)
    return jax.nn.softmax(logits + messages), None

  return lax.scan(update, jax.nn.softmax(logits), length=iterations)[0]


def _scale_positions(height: int, width: int, deviation: float) -> np.ndarray:
  y, x = np.divmod(np.arange(height * width), width)
  return np.stack([x, y], axis=1) / deviation


@functools.lru_cache(maxsize=8)
def _build_position_lattice(height: int, width: int, deviation: float) -> Lattice:
  return build(_scale_positions(height, width, deviation))


@functools.lru_cache(maxsize=8)
def _build_separable(height: int, width: int, deviation: float) -> Separable:
  reach = min(int(np.ceil(_REACH * deviation)), max(height, width) - 1)
  taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
  rows, columns = (
    np.convolve(np.ones(size), taps)[reach : reach + size] for size in (height, width)
  )
  return Separable(taps, (1 / np.sqrt(np.outer(rows, columns)))[..., None].astype(np.float32))


def _blur(values: Array, taps: _Arrays) -> Array:
  """Convolves a map along both axes, with zeros outside."""
  reach = len(taps) // 2
  for axis in (0, 1):
    size = values.shape[axis]
    padded = jnp.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
    parts = (taps[t] * lax.slice_in_dim(padded, t, t + size, axis=axis) for t in range(len(taps)))
    values = functools.reduce(jnp.add, parts)
  return values
