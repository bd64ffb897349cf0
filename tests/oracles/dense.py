"""Slow oracles for depth and normals, pixel by pixel."""

import math

import numpy as np


def depth_scores(truth, predicted, cap=1e6):
  """Every depth metric by name, over all pixels of the maps."""
  pairs = []
  for y, p in zip(np.ravel(truth).tolist(), np.ravel(predicted).tolist(), strict=True):
    if math.isfinite(y) and 0 < y <= cap:
      p = 1e-3 if math.isnan(p) or p < 1e-3 else p
      pairs.append((max(y, 1e-3), min(p, cap)))
  mean = lambda error: math.fsum(error(y, p) for y, p in pairs) / len(pairs) if pairs else math.nan
  scores = {
    "rel": mean(lambda y, p: abs(y - p) / y),
    "rel_by_prediction": mean(lambda y, p: abs(y - p) / p),
    "sq_rel": mean(lambda y, p: (y - p) ** 2 / y),
    "rms": math.sqrt(mean(lambda y, p: (y - p) ** 2)),
    "log_rms": math.sqrt(mean(lambda y, p: (math.log(y) - math.log(p)) ** 2)),
    "log10": mean(lambda y, p: abs(math.log10(y) - math.log10(p))),
  }
  for name, power in [
    ("^0.125", 1 / 8),
    ("^0.25", 1 / 4),
    ("^0.5", 1 / 2),
    ("", 1),
    ("^2", 2),
    ("^3", 3),
  ]:
    scores[f"delta_1.25{name}"] = mean(lambda y, p, k=power: max(y / p, p / y) < 1.25**k)
  return scores


def angles(truth, predicted):
  """Degrees for every pixel with a truth, by Kahan's formula with normalized vectors."""
  degrees = []
  for a, b in zip(np.reshape(truth, (-1, 3)), np.reshape(predicted, (-1, 3)), strict=True):
    if not np.isfinite(a).all() or not a.any():
      continue
    if not np.isfinite(b).all() or not b.any():
      degrees.append(90.0)
      continue
    a, b = ([float(x) / math.hypot(*v.tolist()) for x in v] for v in (a, b))
    apart = math.dist(a, b)
    degrees.append(math.degrees(2 * math.atan2(apart, math.dist(a, [-x for x in b]))))
  return np.array(degrees)


def normal_scores(truth, predicted):
  """Every metric of normals by name, with the exact median."""
  degrees = angles(truth, predicted)
  mean = lambda values: float(np.mean(values)) if len(degrees) else math.nan
  scores = {
    "mean": mean(degrees),
    "median": float(np.median(degrees)) if len(degrees) else math.nan,
  }
  return scores | {f"within_{t:g}": mean(degrees < t) for t in (2.82, 5.63, 11.25, 22.5, 30)}


def instance_scores(score, truth, predicted, instance, label, classes):
  """By class, the mean of `score` over instances, image by image and instance by instance."""
  by_class = [[] for _ in range(classes)]
  for image in range(len(instance)):
    for one in sorted(set(instance[image].ravel()) - {0}):
      mask = instance[image] == one
      votes = [(label[image][mask] == c).sum() for c in range(classes)]
      scores = score(truth[image][mask], predicted[image][mask])
      if max(votes) and not any(math.isnan(x) for x in scores.values()):
        by_class[votes.index(max(votes))].append(scores)
  names = score(np.ones((1, 3)), np.ones((1, 3)))
  return {
    name: np.array([np.mean([s[name] for s in of]) if of else np.nan for of in by_class])
    for name in names
  }
