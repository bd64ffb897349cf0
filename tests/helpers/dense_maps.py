"""True and predicted depths and normals, and the segments of their pixels."""

import numpy as np


def depth_maps(seed=0, shape=(3, 9, 7), spread=0.3):
  """Depths in meters, 0 where missing, and predictions that are off by a random factor."""
  rng = np.random.default_rng(seed)
  truth = rng.uniform(0.5, 12, shape).astype(np.float32)
  predicted = (truth * np.exp(rng.normal(0, spread, shape))).astype(np.float32)
  truth[rng.random(shape) < 0.2] = 0
  return truth, predicted


def normal_maps(seed=0, shape=(3, 9, 7), spread=0.3):
  """Unit normals, 0 where missing, and disturbed predictions that are three times as long."""
  rng = np.random.default_rng(seed)
  truth = rng.normal(size=(*shape, 3))
  truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
  predicted = 3 * (truth + spread * rng.normal(size=truth.shape))
  truth[rng.random(shape) < 0.2] = 0
  return truth.astype(np.float32), predicted.astype(np.float32)


def segments(seed=0, shape=(3, 9, 7), classes=4):
  """Instance ids, and labels that mostly are of one class by instance."""
  rng = np.random.default_rng(seed)
  instance = rng.integers(0, 6, shape).astype(np.int32) * 1000
  label = ((instance // 1000 + rng.integers(0, 2, shape)) % classes).astype(np.int32)
  label[rng.random(shape) < 0.2] = 255
  return instance, label
