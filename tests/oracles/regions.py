"""Slow NumPy oracles of losses on regions, from their definitions."""

import itertools

import numpy as np
from scipy import ndimage


def maps_of_classes(p, label, mask, classes):
  """Yields the values (p, g) of the pixels that count, for each image and class to be averaged."""
  for image, ids, counts in zip(np.float64(p), label, mask[..., 0] > 0, strict=True):
    counted = counts & (ids >= 0) & (ids < p.shape[-1])
    for c in range(p.shape[-1]):
      g = (ids == c)[counted]
      if counted.any() and (classes == "all" or g.any()):
        yield image[counted][:, c], g.astype(float)


def dice(p, label, mask, *, squared, smooth, classes):
  power = 2 if squared else 1
  return np.mean(
    [
      1 - (2 * (a * g).sum() + smooth) / ((a**power).sum() + (g**power).sum() + smooth)
      for a, g in maps_of_classes(p, label, mask, classes)
    ]
  )


def tversky(p, label, mask, *, alpha, beta, gamma, smooth, classes):
  losses = []
  for a, g in maps_of_classes(p, label, mask, classes):
    hits, false_alarms, misses = (a * g).sum(), (a * (1 - g)).sum(), ((1 - a) * g).sum()
    score = (hits + smooth) / (hits + alpha * false_alarms + beta * misses + smooth)
    losses.append((1 - score) ** gamma)
  return np.mean(losses)


def generalized_dice(p, label, mask, *, smooth):
  losses = []
  for index in range(len(p)):
    one = slice(index, index + 1)
    maps = list(maps_of_classes(p[one], label[one], mask[one], "all"))
    sizes = np.array([g.sum() for _, g in maps])
    if sizes.any():
      weights = np.array([1 / max(size, min(sizes[sizes > 0])) ** 2 for size in sizes])
      both = sum(w * (a * g).sum() for w, (a, g) in zip(weights, maps, strict=True))
      total = sum(w * (a + g).sum() for w, (a, g) in zip(weights, maps, strict=True))
      losses.append(1 - (2 * both + smooth) / (total + smooth))
  return np.mean(losses)


def jaccard_loss(wrong, truth):
  """1 - IoU of the region that `truth` becomes where pixels are wrong."""
  predicted = truth ^ wrong
  union = (predicted | truth).sum()
  return 1 - (predicted & truth).sum() / union if union else 0.0


def extend(errors, truth):
  """The Lovász extension: Jaccard losses of level sets, integrated over the level of the errors."""
  levels = np.unique(np.append(errors, 0.0))
  return sum(
    (high - low) * jaccard_loss(errors >= high, truth) for low, high in itertools.pairwise(levels)
  )


def lovasz_softmax(p, label, mask, *, classes):
  maps = maps_of_classes(p, label, mask, classes)
  return np.mean([extend(np.abs(g - a), g > 0) for a, g in maps])


def lovasz_hinge(logits, label, mask):
  losses = []
  for scores, ids, counts in zip(np.float64(logits), label, mask[..., 0] > 0, strict=True):
    counted = counts & (ids >= 0) & (ids < 2)
    if counted.any():
      sign = 2.0 * ids[counted] - 1
      losses.append(extend(np.maximum(0, 1 - scores[counted] * sign), ids[counted] == 1))
  return np.mean(losses)


def signed_distance(regions):
  """By SciPy's exact transform, with the sign and the offset of Kervadec et al. 2019."""
  distances = np.zeros(regions.shape)
  for index in np.ndindex(regions.shape[0], regions.shape[-1]):
    region = regions[index[0], ..., index[1]]
    if region.any() and not region.all():
      outside = ndimage.distance_transform_edt(~region)
      inside = ndimage.distance_transform_edt(region)
      distances[index[0], ..., index[1]] = outside - np.where(region, inside - 1, 0)
  return distances


def soft_skeleton(x, iterations):
  """By SciPy's grey morphology, one map at a time."""

  def erode(a):
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    return ndimage.grey_erosion(a, footprint=cross, mode="constant", cval=np.inf)

  def dilate(a):
    return ndimage.grey_dilation(a, size=(3, 3), mode="constant", cval=-np.inf)

  def removed(a):
    return np.maximum(a - dilate(erode(a)), 0)

  skeleton = removed(x)
  for _ in range(iterations):
    x = erode(x)
    delta = removed(x)
    skeleton = skeleton + np.maximum(delta - skeleton * delta, 0)
  return skeleton


def region_mutual_information(p, g, radius, epsilon):
  """Of one map of cells, by explicit covariances in double precision and a matrix inverse."""
  height, width = (side - radius + 1 for side in p.shape)
  vectors = lambda x: (
    np.array([x[i : i + radius, j : j + radius].ravel() for i, j in np.ndindex(height, width)]).T
  )
  predicted, true = (v - v.mean(1, keepdims=True) for v in map(vectors, (p, g)))
  identity = np.eye(radius**2)
  cross = true @ predicted.T
  inverse = np.linalg.inv(predicted @ predicted.T + epsilon * identity)
  residual = true @ true.T - cross @ inverse @ cross.T
  return np.linalg.slogdet(residual + epsilon * identity)[1] / (2 * radius**2)


def ssim(x, y, window, sigma, value_range):
  """SSIM of every window within two maps, with its weights as a matrix."""
  positions = np.arange(window) - (window - 1) / 2
  weights = np.exp(-(positions[:, None] ** 2 + positions**2) / (2 * sigma**2))
  weights /= weights.sum()
  c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
  height, width = (side - window + 1 for side in x.shape)
  values = np.zeros((height, width))
  for i, j in np.ndindex(height, width):
    a, b = (z[i : i + window, j : j + window].astype(float) for z in (x, y))
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    cov = (weights * (a - mean_a) * (b - mean_b)).sum()
    values[i, j] = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
      (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
  return values
