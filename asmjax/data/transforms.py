"""Transforms of one example on the host: pure functions that act on all of its arrays together.

An example is a dict with `image` uint8 (h, w, 3) and any of `label` int32 (h, w), `depth` float32
(h, w), `normals` float32 (h, w, 3) with x to the right, y down and z towards the camera, `instance`
int32 (h, w), and the `replay_` keys of earlier predictions of these; see `asmjax.batch`.
"""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np

from asmjax.batch import MISSING, UNLABELED, kind
from asmjax.data.distortions import RGB, Distortions, Example
from asmjax.utils.ranges import Fraction, check_ranges

# Default color of padding: the middle of 0..255; see `InputTransform.fill`.
GRAY = (127, 127, 127)

_RESIZES = ("none", "stretch", "letterbox")

# Number of crops that are drawn at most until no class has too much of one, as in MMSegmentation.
_CROPS = 10


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes an image, uint8 (h, w) or (h, w, c), to `size`, (height, width) in pixels.

  Averages over areas where neither side grows, since bilinear interpolation would alias, and
  interpolates otherwise; centers of pixels are at halves.
  """
  if image.shape[:2] == tuple(size):
    return image
  shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(np.ascontiguousarray(image), (size[1], size[0]), interpolation=method)


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes an array (h, w, ...) of any type to `size` by the nearest pixel.

  `cv2.INTER_NEAREST` takes pixel floor(i * h / h'), which shifts labels against the image by up to
  half a pixel; here output pixel i takes floor((i + 1/2) * h / h').
  """
  rows, columns = (
    (2 * np.arange(new) + 1) * old // (2 * new)
    for new, old in zip(size, array.shape[:2], strict=True)
  )
  return array[rows][:, columns]  # Faster than both at once.


def flip(example: Example) -> Example:
  """Flips an example left to right; the normals' x changes its sign too."""
  flipped = {key: cv2.flip(value, 1) for key, value in example.items()}
  for key in flipped:
    if kind(key) == "normals":
      flipped[key] = flipped[key] * np.array([-1, 1, 1], np.float32)
  return flipped


def resize(example: Example, size: tuple[int, int]) -> Example:
  """Resizes an example to `size`: the image by interpolation, all else by the nearest pixel.

  Values do not change: a smaller picture of the same scene has the same depths and normals.

  Raises:
    ValueError: `size` is not two positive numbers.
  """
  _check_size(size)
  return {
    key: resize_image(value, size) if key == "image" else resize_nearest(value, size)
    for key, value in example.items()
  }


def rescale_depth_and_normals(example: Example, factor: float) -> Example:
  """Brings the scene of an example that was resized by `factor` > 0 nearer by that factor.

  Depths are divided by the factor (Eigen et al. 2014).  That squeezes the scene along z alone, so
  normals follow by the inverse transpose: z times the factor, then unit length again (Eigen and
  Fergus 2015).  Without it, an enlarged example is the same scene through a longer lens.
  """
  rescaled = dict(example)
  for key, value in example.items():
    if kind(key) == "depth":
      rescaled[key] = value / np.float32(factor)
    if kind(key) == "normals":
      normals = value * np.array([1, 1, factor], np.float32)
      length = np.linalg.norm(normals, axis=-1, keepdims=True)
      rescaled[key] = normals / np.where(length > 0, length, 1)
  return rescaled


def pad(example: Example, size: tuple[int, int], fill: RGB = GRAY) -> Example:
  """Pads an example at the bottom and on the right to at least `size`.

  Args:
    size: Smallest (height, width) of the result in pixels.
    fill: RGB color, in 0..255, of the image's padding. All truth is missing there.

  Raises:
    ValueError: `size` is not two positive numbers.
  """
  _check_size(size)
  height, width = example["image"].shape[:2]
  bottom, right = max(0, size[0] - height), max(0, size[1] - width)
  if not (bottom or right):
    return dict(example)
  padded = {}
  for key, value in example.items():
    shape = (height + bottom, width + right, *value.shape[2:])
    padded[key] = np.full(shape, {"image": fill, **MISSING}[kind(key)], value.dtype)
    padded[key][:height, :width] = value
  return padded


def crop(example: Example, top: int, left: int, size: tuple[int, int]) -> Example:
  """Crops an example to a window of `size` that begins in row `top` and column `left`.

  Raises:
    ValueError: The window does not lie inside the image.
  """
  _check_size(size)
  height, width = example["image"].shape[:2]
  bottom, right = top + size[0], left + size[1]
  if not (0 <= top and bottom <= height and 0 <= left and right <= width):
    raise ValueError(
      f"crop rows {top}:{bottom}, columns {left}:{right} leaves the image of size {height}x{width}"
    )
  return {key: value[top:bottom, left:right] for key, value in example.items()}


def find_class_share(label: np.ndarray) -> float:
  """Finds the part of the labeled pixels that the most frequent class has; 1 if there are none."""
  pixels = np.bincount(label[label != UNLABELED])
  return float(pixels.max() / pixels.sum()) if pixels.size else 1.0


@dataclasses.dataclass(frozen=True)
class Augment:
  """Transform of examples to one size: random in training, without loss of pixels in evaluation.

  Applies a user's function, resizes, rotates and shears, scales and crops, distorts colors, pads,
  and flips, in this order.

  Attributes:
    size: (height, width) of the result in pixels.
    resize: Kind of resizing: "none" (the default), "stretch" (to `size` exactly) or "letterbox" (to
      the largest size of the same aspect ratio inside `size`).
    flip: Whether to flip an example left to right with probability 1/2.
    scale: Range (low, high) of the random scale factor, whose logarithm is uniform.
    scale_depth: Whether to divide depths by the scale factor; see `rescale_depth_and_normals`.
    random_crop: Whether to crop images larger than `size` at a random place. Otherwise they raise
      ValueError, since evaluation must never lose pixels.
    fill: RGB color, in 0..255, of the images' padding.
    keep_size: Whether to add `size` to the example, int32 (height, width) before padding, on which
      the tolerance of boundary metrics depends.
    distortions: Distortions of colors, sharpness and the image plane.
    max_class_share: Largest part of a random crop's labeled pixels that one class may have; after
      ten crops with more, the last one is taken.
    transform: Function from (example, generator) to an example, which comes first.

  Raises:
    ValueError: A field is invalid, or `scale` enlarges resized images, or `max_class_share` is set,
      without `random_crop`.
  """

  size: tuple[int, int]
  resize: str = "none"
  flip: bool = False
  scale: tuple[float, float] = (1.0, 1.0)
  scale_depth: bool = True
  random_crop: bool = False
  fill: RGB = GRAY
  keep_size: bool = dataclasses.field(default=False, repr=False)
  distortions: Distortions = Distortions()
  max_class_share: Fraction = 1.0
  transform: Callable[[Example, np.random.Generator], Example] | None = None

  def __post_init__(self) -> None:
    """Checks the fields; `size` and `scale` are lists when they come from a config."""
    check_ranges(self)
    object.__setattr__(self, "size", tuple(self.size))
    object.__setattr__(self, "scale", tuple(self.scale))
    _check_size(self.size)
    if self.resize not in _RESIZES:
      raise ValueError(f"unknown resize {self.resize!r}; known: {', '.join(_RESIZES)}")
    if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
      raise ValueError(f"scale {self.scale}: expected (low, high) with 0 < low <= high")
    if self.max_class_share < 1 and not self.random_crop:
      raise ValueError(f"max_class_share {self.max_class_share} is for crops: set random_crop")
    if self.scale[1] > 1 and self.resize != "none" and not self.random_crop:
      raise ValueError(f"scale {self.scale} enlarges images beyond {self.size}: set random_crop")

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    """Returns the example transformed as `rng` draws.

    Raises:
      ValueError: The example exceeds `size`, and `random_crop` is not set.
    """
    if self.transform:
      example = self.transform(example, rng)
    example = self.distortions.move(self.resize_only(example), self.fill, rng)
    factor = math.exp(rng.uniform(*np.log(self.scale))) if self.scale != (1.0, 1.0) else 1.0
    example = self._scale_and_crop(example, factor, rng)
    if self.scale_depth and factor != 1:
      example = rescale_depth_and_normals(example, factor)
    example = self.distortions.recolor(example, self.fill, rng)
    size = np.array(example["image"].shape[:2], np.int32)
    example = pad(example, self.size, self.fill)
    example = flip(example) if self.flip and rng.random() < 0.5 else example
    return {**example, "size": size} if self.keep_size else example

  def resize_only(self, example: Example) -> Example:
    """Returns the example resized, but neither cropped nor scaled, padded or flipped."""
    if self.resize == "none":
      return example
    return resize(example, self.output_size(example["image"].shape[:2]))

  def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) to which `resize_only` brings an example of `size`."""
    return {
      "none": tuple(size),
      "stretch": self.size,
      "letterbox": _letterbox_size(size, self.size),
    }[self.resize]

  def _scale_and_crop(self, example: Example, factor: float, rng: np.random.Generator) -> Example:
    """Scales by `factor` and crops to `self.size`; crops first, so as to resize fewer pixels."""
    height, width = example["image"].shape[:2]
    scaled = max(1, round(height * factor)), max(1, round(width * factor))
    if scaled[0] <= self.size[0] and scaled[1] <= self.size[1]:
      return resize(example, scaled)
    if not self.random_crop:
      raise ValueError(
        f"image of {scaled[0]}x{scaled[1]} exceeds size {self.size[0]}x{self.size[1]} and would be"
        " cut: choose a larger size, resize 'letterbox' or 'stretch', or random_crop in training"
      )
    # Sides of the window that fills `self.size` once it is scaled; a side that fits is kept.
    rows, columns = (
      min(side, max(1, round(limit / factor))) if scaled_side > limit else side
      for side, scaled_side, limit in zip((height, width), scaled, self.size, strict=True)
    )
    size = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
    return resize(self._crop(example, (rows, columns), rng), size)

  def _crop(self, example: Example, size: tuple[int, int], rng: np.random.Generator) -> Example:
    """Crops to a window of `size` at a random place, not too much of which is of one class."""
    height, width = example["image"].shape[:2]
    window = example
    is_limited = self.max_class_share < 1 and "label" in example
    for _ in range(_CROPS if is_limited else 1):
      top, left = int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))
      window = crop(example, top, left, size)
      if not is_limited or find_class_share(window["label"]) <= self.max_class_share:
        break
    return window


def _letterbox_size(inner: tuple[int, int], outer: tuple[int, int]) -> tuple[int, int]:
  """Returns the largest size inside `outer` with the aspect ratio of `inner`, up to rounding."""
  factor = min(outer[0] / inner[0], outer[1] / inner[1])
  height, width = (
    min(limit, max(1, round(side * factor))) for side, limit in zip(inner, outer, strict=True)
  )
  return height, width


def _check_size(size: tuple[int, int]) -> None:
  if len(size) != 2 or min(size) < 1:
    raise ValueError(f"size {tuple(size)}: expected (height, width), both at least 1")
