"""Input transforms: from the pixels of an image to the inputs that a network was trained on."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

RGB = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class InputTransform:
  """Affine map of each channel, (pixel - mean) / std, under which a network's weights were trained.

  Weights mean nothing without it: under another one a network still runs, only worse.

  Attributes:
    name: Key in `INPUT_TRANSFORMS`, by which configs call it.
    mean: RGB value that becomes 0, in 0..255.
    std: Divisor by channel, in units of pixels.

  Examples:
    >>> import numpy as np
    >>> print(SYMMETRIC(np.array([[[[0, 51, 255]]]], np.uint8)))
    [[[[-1.  -0.6  1. ]]]]
  """

  name: str
  mean: RGB
  std: RGB

  def __call__(self, image: Shaped[ArrayLike, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Transforms RGB images with pixels in 0..255, mostly uint8, to float32."""
    mean, std = (jnp.array(rgb, jnp.float32)[None, None, None] for rgb in (self.mean, self.std))
    return (jnp.asarray(image, jnp.float32) - mean) / std

  @property
  def fill(self) -> tuple[int, int, int]:
    """Color to pad images with: the uint8 one that is nearest to 0 once transformed."""
    red, green, blue = self.mean
    return round(red), round(green), round(blue)


# torchvision: mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225) of ImageNet's pixels
# in 0..1.  Keras calls it "torch".
IMAGENET = InputTransform("imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# pixel / 127.5 - 1: TF-Slim's "inception" preprocessing, as for its MobileNets, and the DeepLab
# model zoo's `_preprocess_zero_mean_unit_range`.  Keras calls it "tf".
SYMMETRIC = InputTransform("symmetric", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

# TF-Slim's "vgg" preprocessing, for its VGG and ResNet v1: the mean color goes, the scale stays.
# Keras calls it "caffe", there with the channels in the order BGR.
SUBTRACT_MEAN = InputTransform("subtract_mean", (123.68, 116.78, 103.94), (1.0, 1.0, 1.0))

# What a config calls the transform of the weights that the predictor starts from.
AUTO = "auto"

INPUT_TRANSFORMS: Mapping[str, InputTransform] = {
  transform.name: transform for transform in (IMAGENET, SYMMETRIC, SUBTRACT_MEAN)
}


def normalize_locally(x: Float[Array, "n h w c"], window: int = 15) -> Float[Array, "n h w c"]:
  """Subtracts each channel's mean in the window around a pixel, and divides by its deviation there.

  Where the deviation is below its mean over the image it is that mean, so that flat parts stay
  flat (Jarrett et al. 2009).
  """
  x = x - _window_means(x, window)
  # The gradient of a root is infinite at 0, where a window is flat.
  deviation = jnp.sqrt(_window_means(jnp.square(x), window) + 1e-8)
  return x / jnp.maximum(deviation, jnp.mean(deviation, (1, 2), keepdims=True))


def _window_means(x: Array, window: int) -> Array:
  """Averages the pixels in the window around each, axis by axis, of those within the image."""
  for shape in ((window, 1), (1, window)):
    x = nn.avg_pool(x, shape, (1, 1), "SAME", count_include_pad=False)
  return x
