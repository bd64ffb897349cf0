"""Slow oracles of the boundary metrics, pixel by pixel, from their definitions."""

import math

import numpy as np

FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))


def pixels(shape):
  return np.ndindex(*shape)


def at(ids, known, place):
  """The id at a place; None outside the image and where nothing is known."""
  inside = all(0 <= x < side for x, side in zip(place, ids.shape, strict=True))
  return ids[place] if inside and known[place] else None


def filled(ids, known, width):
  """All ids that a pixel may have once unlabeled bands are filled: several where classes tie."""
  tall, wide = ids.shape
  reach = range(width + 1)
  inside = lambda y, x: (min(max(y, 0), tall - 1), min(max(x, 0), wide - 1))
  choices = np.empty(ids.shape, object)
  for y, x in pixels(ids.shape):
    open_squares = (
      not any(known[inside(y + i - a, x + j - b)] for i in reach for j in reach)
      for a in reach
      for b in reach
    )
    choices[y, x] = {ids[y, x]}
    if not known[y, x] and not any(open_squares):
      distances = [((y - p) ** 2 + (x - q) ** 2, ids[p, q]) for p, q in np.argwhere(known)]
      choices[y, x] = {each for distance, each in distances if distance == min(distances)[0]}
  return choices


def contour(ids, known, c):
  """Places of class c with a known neighbor of another class."""
  return [
    (y, x)
    for y, x in pixels(ids.shape)
    if at(ids, known, (y, x)) == c
    and any(at(ids, known, (y + i, x + j)) not in (None, c) for i, j in FOUR)
  ]


def davis_contour(ids, known, c):
  """Places that differ, in being of class c, from a known one right, below or right below."""
  places = []
  for y, x in pixels(ids.shape):
    near = [at(ids, known, (y + i, x + j)) for i, j in ((0, 1), (1, 0), (1, 1))]
    if known[y, x] and any(n is not None and (n == c) != (ids[y, x] == c) for n in near):
      places.append((y, x))
  return places


def band(ids, known, c, reach):
  """Places of class c with a known other class, or the image's outside, in a square around."""
  places = set()
  for y, x in pixels(ids.shape):
    if at(ids, known, (y, x)) != c:
      continue
    for i, j in np.ndindex(2 * reach + 1, 2 * reach + 1):
      place = y + i - reach, x + j - reach
      outside = not (0 <= place[0] < ids.shape[0] and 0 <= place[1] < ids.shape[1])
      if outside or (known[place] and ids[place] != c):
        places.add((y, x))
  return places


def near(places, others, reach):
  """How many places have another within reach."""
  return sum(any(math.dist(p, q) <= reach + 1e-6 for q in others) for p in places)


def matching(places, others, reach):
  """Maximum one-to-one matching by augmenting paths, one place at a time (Kuhn 1955)."""
  partner = {}

  def augment(p, tried):
    for q in others:
      if q not in tried and math.dist(p, q) <= reach + 1e-6:
        tried.add(q)
        if q not in partner or augment(partner[q], tried):
          partner[q] = p
          return True
    return False

  return sum(augment(p, set()) for p in places)


def exhaustive_matching(places, others, reach):
  """Maximum one-to-one matching by trying every choice."""
  if not places:
    return 0
  first, remaining = places[0], places[1:]
  best = exhaustive_matching(remaining, others, reach)
  for q in others:
    if math.dist(first, q) <= reach + 1e-6:
      left = [o for o in others if o != q]
      best = max(best, 1 + exhaustive_matching(remaining, left, reach))
  return best


def mean(values):
  values = [v for v in values if not math.isnan(v)]
  return sum(values) / len(values) if values else math.nan


def over(part, total):
  return part / total if total else math.nan


def f_of(precision, recall):
  """F with undefined precision or recall counted as 0; undefined if both are."""
  if math.isnan(precision) and math.isnan(recall):
    return math.nan
  p, r = np.nan_to_num([precision, recall])
  return 2 * p * r / (p + r) if p + r else 0.0


def contour_benchmark(labels, guesses, classes, reach):
  """(3, c) pairs, predicted and true boundary pixels over images, and the mean image's F."""
  counts, images = np.zeros((3, classes), int), []
  for label, guess in zip(labels, guesses, strict=True):
    known = (label >= 0) & (label < classes)
    image_counts = np.zeros((3, classes), int)
    for c in range(classes):
      true, predicted = contour(label, known, c), contour(guess, known, c)
      image_counts[:, c] = matching(predicted, true, reach), len(predicted), len(true)
    images.append(mean([f_of(over(m, p), over(m, t)) for m, p, t in image_counts.T]))
    counts += image_counts
  return counts, mean(images)


def bf(labels, guesses, classes, reach):
  """Scores of all images (NaN where undefined), and (n, 3, c) precision, recall and F."""
  scores = np.full((len(labels), 3, classes), math.nan)
  for i, (label, guess) in enumerate(zip(labels, guesses, strict=True)):
    known = (label >= 0) & (label < classes)
    for c in range(classes):
      true, predicted = contour(label, known, c), contour(guess, known, c)
      if true:
        precision = over(near(predicted, true, reach), len(predicted))
        recall = near(true, predicted, reach) / len(true)
        scores[i, :, c] = precision, recall, f_of(precision, recall)
  return [mean(image[2]) for image in scores], scores


def boundary_iou(labels, guesses, classes, reach):
  """(c,) IoU of bands, pooled."""
  common, either = np.zeros((2, classes))
  for label, guess in zip(labels, guesses, strict=True):
    known = (label >= 0) & (label < classes)
    for c in range(classes):
      true, predicted = (band(ids, known, c, reach) for ids in (label, guess))
      common[c] += len(true & predicted)
      either[c] += len(true | predicted)
  return [over(*x) for x in zip(common, either, strict=True)]


def davis(labels, guesses, classes, reach):
  """(c,) mean F over the images with a contour."""
  scores = np.full((len(labels), classes), math.nan)
  for i, (label, guess) in enumerate(zip(labels, guesses, strict=True)):
    known = (label >= 0) & (label < classes)
    for c in range(classes):
      true, predicted = davis_contour(label, known, c), davis_contour(guess, known, c)
      precision = over(near(predicted, true, reach), len(predicted))
      scores[i, c] = f_of(precision, over(near(true, predicted, reach), len(true)))
  return [mean(column) for column in scores.T]
