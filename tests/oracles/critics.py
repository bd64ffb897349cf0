"""Slow oracles for adversarial and embedding losses, value by value, pair by pair."""

import math

import numpy as np


def binary_cross_entropy(logit, target):
  """-[t ln a + (1 - t) ln(1 - a)] from the probability itself."""
  a = 1 / (1 + math.exp(-logit))
  return -(target * math.log(a) + (1 - target) * math.log(1 - a))


def product(structure, image):
  """Map by map, color by color."""
  *shape, c = structure.shape
  out = np.zeros((*shape, c * image.shape[-1]))
  for pixel in np.ndindex(*shape):
    out[pixel] = [p * color for p in structure[pixel] for color in image[pixel]]
  return out


def soften(truth, predicted, mass):
  """Pixel by pixel, as the paper words it."""
  out = np.zeros(truth.shape)
  for pixel in np.ndindex(truth.shape[:-1]):
    if truth[pixel].any():
      (true_class,), s = np.flatnonzero(truth[pixel]), predicted[pixel].astype(np.float64)
      y = max(mass, s[true_class])
      others = s.sum() - s[true_class]
      out[pixel] = s * ((1 - y) / others if others else 0)
      out[pixel][true_class] = y
  return out


def contrastive(features, label, classes, around, margin):
  """Sum and number of the ordered pairs (i, i + offset) of one class, and of different ones."""
  n, h, w, _ = features.shape
  same, different = [], []
  for b, y, x in np.ndindex(n, h, w):
    for dy, dx in around:
      v, u = y + dy, x + dx
      if not (0 <= v < h and 0 <= u < w):
        continue
      i, j = label[b, y, x], label[b, v, u]
      if not (0 <= i < classes and 0 <= j < classes):
        continue
      distance = math.dist(_unit(features[b, y, x]), _unit(features[b, v, u]))
      if i == j:
        same.append(distance**2)
      else:
        different.append(max(0.0, margin - distance))
  return (math.fsum(same), len(same)), (math.fsum(different), len(different))


def _unit(vector):
  length = math.hypot(*vector.tolist())
  return [x / length if length else 0.0 for x in vector.tolist()]
