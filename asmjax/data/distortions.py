"""Distortions of training examples: of colors, of sharpness, and of the image plane.

All are pure functions of an example (see `asmjax.data.transforms`) and their parameters;
`Distortions` draws these. Colors and sharpness concern the image alone; rotation and shear move all
truths together, by the nearest pixel, and turn the normals with the scene.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any

import cv2
import numpy as np

from asmjax.batch import MISSING, kind
from asmjax.utils.ranges import BelowOne, Fraction, NonNegative, Range, check_ranges

Example = dict[str, np.ndarray]
Generator = np.random.Generator
RGB = tuple[int, int, int]

# Best quality of a JPEG that distorts: above it hardly anything can be seen.
_BEST_QUALITY = 95


def adjust_brightness(image: np.ndarray, delta: float) -> np.ndarray:
  """Adds `delta`, in 0..255, to all channels of an image, uint8 (h, w, 3)."""
  return _to_uint8(image.astype(np.float32) + np.float32(delta))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies all channels of an image, uint8 (h, w, 3), by `factor`."""
  return _to_uint8(image.astype(np.float32) * np.float32(factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
  """Multiplies the saturation (of HSV) of an image, uint8 (h, w, 3), by `factor`."""
  hsv = _to_hsv(image)
  hsv[..., 1] = np.minimum(hsv[..., 1] * np.float32(factor), 1)
  return _from_hsv(hsv)


def adjust_hue(image: np.ndarray, degrees: float) -> np.ndarray:
  """Turns the hue (of HSV) of an image, uint8 (h, w, 3), by an angle."""
  hsv = _to_hsv(image)
  hsv[..., 0] = (hsv[..., 0] + np.float32(degrees)) % 360
  return _from_hsv(hsv)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
  """Blurs an image, uint8 (h, w, 3), by a Gaussian of standard deviation `sigma` > 0 in pixels."""
  return cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
  """Returns an image, uint8 (h, w, 3), as it is after compression to a JPEG.

  Args:
    quality: Quality of the JPEG, 1..100.
  """
  # The encoder takes BGR; what it decodes comes back in the same order.
  bgr = np.ascontiguousarray(image[..., ::-1])
  _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
  decoded: Any = cv2.imdecode(content, cv2.IMREAD_COLOR)
  return np.ascontiguousarray(decoded[..., ::-1])


def cut_out(image: np.ndarray, top: int, left: int, size: tuple[int, int], fill: RGB) -> np.ndarray:
  """Fills a rectangle of an image, uint8 (h, w, 3), with one color (DeVries and Taylor 2017).

  The truth stays as it is: a network has to infer it from what lies around.

  Args:
    top: First row of the rectangle.
    left: First column of the rectangle.
    size: (height, width) of the rectangle; what is beyond the image is left out.
    fill: RGB color in 0..255.
  """
  covered = image.copy()
  covered[top : top + size[0], left : left + size[1]] = fill
  return covered


def make_affine(rotation: float, shear: float) -> np.ndarray:
  """Makes the matrix of a shear along x and then a rotation, float64 (2, 2), of (x, y).

  Args:
    rotation: Angle in degrees, from x to the right towards y down: clockwise on the screen.
    shear: Angle in degrees by which vertical lines lean.
  """
  cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
  return np.array([[cos, -sin], [sin, cos]]) @ [[1, math.tan(math.radians(shear))], [0, 1]]


def affine(example: Example, matrix: np.ndarray, fill: RGB) -> Example:
  """Moves what an example shows at (x, y) to `matrix` (x, y), from the middle of the image.

  The size stays; what comes from beyond the image has no truth. The image is interpolated, all else
  is taken from the nearest pixel. It is the view of another scene: of that whose x and y, in the
  frame of a camera that looks at the middle of the image, are multiplied by `matrix`. Depths along
  the optical axis stay, and normals follow by the inverse transpose, then unit length again.

  Args:
    matrix: Invertible matrix, (2, 2), of (x, y) with x to the right and y down.
    fill: RGB color, in 0..255, of what comes from beyond the image.
  """
  height, width = example["image"].shape[:2]
  inverse = np.linalg.inv(matrix)
  rows, columns, inside = _find_sources((height, width), inverse)
  moved = {}
  for key, value in example.items():
    if key == "image":
      moved[key] = _warp(value, inverse, fill)
      continue
    missing = np.array(MISSING[kind(key)], value.dtype)
    where = inside if value.ndim == 2 else inside[..., None]
    moved[key] = np.where(where, value[rows, columns], missing)
    if kind(key) == "normals":
      normals = moved[key].copy()
      normals[..., :2] = normals[..., :2] @ inverse.astype(np.float32)
      length = np.linalg.norm(normals, axis=-1, keepdims=True)
      moved[key] = normals / np.where(length > 0, length, 1)
  return moved


def _find_sources(
  size: tuple[int, int], inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the row and column that each pixel shows, (h, w), and whether they are in the image."""
  height, width = size
  y, x = np.ogrid[:height, :width]
  x, y = x + 0.5 - width / 2, y + 0.5 - height / 2
  # Rounding keeps a pixel's center that is turned onto a pixel's border on one side of it.
  columns, rows = (
    np.floor(np.round(row[0] * x + row[1] * y + side / 2, 9)).astype(int)
    for row, side in zip(inverse, (width, height), strict=True)
  )
  inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
  return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1), inside


def _warp(image: np.ndarray, inverse: np.ndarray, fill: RGB) -> np.ndarray:
  """Moves an image by interpolation; OpenCV's coordinates are whole numbers at pixels' centers."""
  height, width = image.shape[:2]
  middle = np.array([width / 2 - 0.5, height / 2 - 0.5])
  offset = middle - inverse @ middle
  return cv2.warpAffine(
    np.ascontiguousarray(image),
    np.column_stack([inverse, offset]),
    (width, height),
    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_CONSTANT,
    borderValue=fill,
  )


Degrees = Annotated[float, Range(0, 180)]


@dataclasses.dataclass(frozen=True)
class Distortions:
  """Random distortions of training examples; by default there are none.

  Those of colors are drawn as in SSD (Liu et al. 2016): each with probability 1/2, the contrast
  before or after saturation and hue. SSD's own strengths are brightness 32, contrast 0.5,
  saturation 0.5 and hue 36. Blur, JPEG and cutout are drawn with probability 1/2 each, too.

  Attributes:
    brightness: Largest number, in 0..255, to add to all channels or to take off.
    contrast: Largest deviation from 1 of the factor of all channels.
    saturation: Largest deviation from 1 of the factor of the saturation.
    hue: Largest angle in degrees by which the hue is turned, either way.
    blur: Largest standard deviation of a Gaussian in pixels.
    jpeg: Lowest quality of a compression to JPEG, 1 to 95; 0 for none.
    cutout: Largest part of the height and of the width that a rectangle of one color covers.
    rotation: Largest angle in degrees by which examples are rotated, either way.
    shear: Largest angle in degrees by which they are sheared along x, either way.

  Raises:
    ValueError: A number is out of its range.
  """

  brightness: Annotated[float, Range(0, 255)] = 0.0
  contrast: BelowOne = 0.0
  saturation: BelowOne = 0.0
  hue: Degrees = 0.0
  blur: NonNegative = 0.0
  jpeg: Annotated[int, Range(0, _BEST_QUALITY)] = 0
  cutout: Fraction = 0.0
  rotation: Degrees = 0.0
  shear: Annotated[float, Range(0, 90, below=True)] = 0.0

  def __post_init__(self) -> None:
    check_ranges(self)

  def move(self, example: Example, fill: RGB, rng: Generator) -> Example:
    """Returns an example rotated and sheared by the angles that `rng` draws.

    Args:
      fill: RGB color, in 0..255, of what comes from beyond the image.
    """
    if not self.rotation and not self.shear:
      return example
    rotation, shear = (_draw(limit, rng) for limit in (self.rotation, self.shear))
    return affine(example, make_affine(rotation, shear), fill)

  def recolor(self, example: Example, fill: RGB, rng: Generator) -> Example:
    """Returns an example whose image `rng` distorts, as far as that moves nothing.

    Args:
      fill: RGB color, in 0..255, of what a cutout covers.
    """
    image = example["image"]
    for distort in self._choose_colors(rng):
      image = distort(image)
    if self.blur and rng.random() < 0.5:
      # Below a hundredth of a pixel nothing changes, and 0 has another meaning for OpenCV.
      image = blur(image, max(rng.uniform(0, self.blur), 0.01))
    if self.jpeg and rng.random() < 0.5:
      image = compress_jpeg(image, int(rng.integers(self.jpeg, _BEST_QUALITY + 1)))
    if self.cutout and rng.random() < 0.5:
      image = _cut_out_at_random(image, self.cutout, fill, rng)
    return {**example, "image": image}

  def _choose_colors(self, rng: Generator) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Returns the distortions of colors that `rng` draws, in their order."""

    def choose(
      function: Callable[[np.ndarray, float], np.ndarray], middle: float, limit: float
    ) -> list[Callable[[np.ndarray], np.ndarray]]:
      if not limit or rng.random() >= 0.5:
        return []
      amount = middle + _draw(limit, rng)
      return [lambda image: function(image, amount)]

    brightness = choose(adjust_brightness, 0, self.brightness)
    contrast = choose(adjust_contrast, 1, self.contrast)
    saturation = choose(adjust_saturation, 1, self.saturation)
    hue = choose(adjust_hue, 0, self.hue)
    if contrast and rng.random() < 0.5:
      return [*brightness, *contrast, *saturation, *hue]
    return [*brightness, *saturation, *hue, *contrast]


def _cut_out_at_random(image: np.ndarray, part: float, fill: RGB, rng: Generator) -> np.ndarray:
  """Covers a rectangle of up to `part` of each side, anywhere inside the image."""
  size = [math.ceil(rng.uniform(0, part) * side) for side in image.shape[:2]]
  top, left = (
    int(rng.integers(side - covered + 1))
    for side, covered in zip(image.shape[:2], size, strict=True)
  )
  return cut_out(image, top, left, (size[0], size[1]), fill)


def _draw(limit: float, rng: Generator) -> float:
  """Draws a number in -limit..limit; takes none from `rng` if the limit is 0."""
  return float(rng.uniform(-limit, limit)) if limit else 0.0


def _to_hsv(image: np.ndarray) -> np.ndarray:
  """Converts an image to hue in 0..360, saturation and value in 0..1, float32 (h, w, 3)."""
  return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)


def _from_hsv(hsv: np.ndarray) -> np.ndarray:
  return _to_uint8(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


def _to_uint8(image: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(image), 0, 255).astype(np.uint8)
