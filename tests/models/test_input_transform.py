"""What networks see of an image, by published formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.input_transform import IMAGENET, INPUT_TRANSFORMS, SUBTRACT_MEAN, SYMMETRIC

# Every shade in every channel.
SHADES = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=-1)


@pytest.mark.parametrize(
  ("transform", "formula"),
  [
    # torchvision's presets: Normalize(mean, std) of pixels in 0..1.
    (IMAGENET, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    # DeepLab's feature_extractor.py: 2 / 255 times the pixel, less 1.
    (SYMMETRIC, lambda x: 2 / 255 * x - 1),
    # TF-Slim's vgg_preprocessing.py.
    (SUBTRACT_MEAN, lambda x: x - [123.68, 116.78, 103.94]),
  ],
  ids=lambda value: getattr(value, "name", ""),
)
def test_input_transform_is_the_published_formula(transform, formula):
  inputs = transform(SHADES)
  assert inputs.dtype == jnp.float32 and INPUT_TRANSFORMS[transform.name] is transform
  np.testing.assert_allclose(inputs, formula(SHADES.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", INPUT_TRANSFORMS.values(), ids=INPUT_TRANSFORMS.keys())
def test_input_transform_fill_is_the_color_nearest_to_zero(transform):
  size = np.abs(transform(SHADES))[0, 0]
  padding = np.abs(transform(np.array([[[transform.fill]]], np.uint8)))[0, 0, 0]
  np.testing.assert_allclose(padding, size.min(0), atol=1e-6)
