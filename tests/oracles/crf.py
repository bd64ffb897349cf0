"""Slow oracle for dense CRFs: every pair of pixels, in double precision."""

import numpy as np


def positions(height, width, deviation):
  """(n, 2), row by row, in standard deviations."""
  return np.stack(np.divmod(np.arange(height * width), width), axis=1) / deviation


def features(image, xy, rgb):
  """(n, 5) positions and colors, in standard deviations."""
  places = positions(*image.shape[:2], xy)
  return np.concatenate([places, image.reshape(-1, 3) / rgb], axis=1)


def gaussian(points):
  """The kernel matrix exp(-|f_i - f_j|^2 / 2), its diagonal included."""
  apart = points[:, None] - points[None]
  return np.exp(-0.5 * np.sum(apart**2, axis=-1))


def normalized(kernel):
  """D^-1/2 K D^-1/2."""
  scale = 1 / np.sqrt(kernel.sum(axis=1))
  return scale[:, None] * kernel * scale[None]


def softmax(logits):
  """Over the last axis."""
  odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return odds / odds.sum(axis=-1, keepdims=True)


def marginals(
  logits,
  image,
  *,
  bilateral_weight=1,
  bilateral_xy=40,
  bilateral_rgb=3,
  spatial_weight=1,
  spatial_xy=1,
  iterations=10,
):
  """Mean field inference with Potts compatibility, (h, w, c)."""
  flat = np.asarray(logits, np.float64).reshape(-1, logits.shape[-1])
  bilateral = normalized(gaussian(features(image, bilateral_xy, bilateral_rgb)))
  spatial = normalized(gaussian(positions(*image.shape[:2], spatial_xy)))
  q = softmax(flat)
  for _ in range(iterations):
    q = softmax(flat + bilateral_weight * bilateral @ q + spatial_weight * spatial @ q)
  return q.reshape(logits.shape)
