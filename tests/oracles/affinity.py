"""Slow oracle for affinity fields: every pixel, neighbor and class in turn."""

import math

import numpy as np

FLOOR = 1e-4


def affinity(
  probabilities,
  label,
  *,
  sizes,
  neighbors="corners",
  ignore="pair",
  margin=3.0,
  weights=None,
  weight_by="center",
):
  """(edge sums, edge counts), (non-edge sums, non-edge counts), each (k,)."""
  probabilities, label = map(np.asarray, (probabilities, label))
  weights = None if weights is None else [np.asarray(of_kind) for of_kind in weights]
  sums, counts = np.zeros((2, len(sizes))), np.zeros((2, len(sizes)), np.int64)
  n, h, w, classes = probabilities.shape
  for k, size in enumerate(sizes):
    for b, y, x in np.ndindex(n, h, w):
      for dy, dx in _around(size // 2, neighbors):
        i = _class_at(label[b], y, x, classes)
        j = _class_at(label[b], y + dy, x + dx, classes)
        opposite = _class_at(label[b], y - dy, x - dx, classes)
        if i is None or j is None or (ignore == "opposite" and opposite is None):
          continue
        for c in range(classes):
          divergence = bernoulli_divergence(
            probabilities[b, y + dy, x + dx, c], probabilities[b, y, x, c]
          )
          kind, cost = (1, divergence) if (i == c) == (j == c) else (0, max(0, margin - divergence))
          whose = i if weight_by == "center" else c
          sums[kind, k] += cost * (1 if weights is None else weights[kind][whose][k])
          counts[kind, k] += 1
  return (sums[0], counts[0]), (sums[1], counts[1])


def value(*args, **options):
  """The loss as it is trained on: all means, added; that of no entry is 0."""
  return sum(np.sum(total / np.maximum(count, 1)) for total, count in affinity(*args, **options))


def bernoulli_divergence(p, q):
  """KL of the Bernoulli distribution of p from that of q, all four probabilities clipped."""
  return sum(a * math.log(a / b) for a, b in ((_clip(p), _clip(q)), (_clip(1 - p), _clip(1 - q))))


def _clip(p):
  return min(max(float(p), FLOOR), 1.0)


def _around(radius, neighbors):
  steps = {"corners": (-radius, 0, radius), "full": range(-radius, radius + 1)}[neighbors]
  return [(dy, dx) for dy in steps for dx in steps if dy or dx]


def _class_at(label, y, x, classes):
  """The class of a labeled pixel inside the image, else None."""
  if not (0 <= y < label.shape[0] and 0 <= x < label.shape[1]):
    return None
  return int(label[y, x]) if 0 <= label[y, x] < classes else None
