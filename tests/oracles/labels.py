"""Slow NumPy oracles of the metrics of label maps."""

import numpy as np


def class_iou(label, predicted, c, classes):
  """Pixel by pixel; None for a class in neither map."""
  hits = union = 0
  for true, guess in zip(label.ravel(), predicted.ravel(), strict=True):
    if 0 <= true < classes:
      hits += true == c and guess == c
      union += true == c or guess == c
  return hits / union if union else None


def class_of_instance(label, instance, number, classes):
  """The most frequent class of an instance, the lowest of equals; None if it is unlabeled."""
  ids = [t for t in label[instance == number] if 0 <= t < classes]
  return max(sorted(set(ids)), key=ids.count) if ids else None


def instance_iou(images, classes):
  """By class, from (label, predicted, instance) of each image; None without an instance."""
  scores = []
  for c in range(classes):
    num_instances = weighted = 0
    for label, predicted, instance in images:
      n = sum(
        class_of_instance(label, instance, number, classes) == c
        for number in set(instance.ravel()) - {0}
      )
      num_instances += n
      weighted += n * class_iou(label, predicted, c, classes) if n else 0
    scores.append(weighted / num_instances if num_instances else None)
  return scores


def components(region):
  """Number of 8-connected components, by flooding."""
  left, number = set(zip(*np.nonzero(region), strict=True)), 0
  while left:
    number += 1
    front = [left.pop()]
    while front:
      i, j = front.pop()
      near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
      left -= near
      front.extend(near)
  return number


def calibration(probabilities, label, bins):
  """Expected and maximal calibration error, bin by bin and pixel by pixel."""
  pixels = [
    (p.max(), p.argmax() == t)
    for p, t in zip(probabilities.reshape(-1, probabilities.shape[-1]), label.ravel(), strict=True)
    if 0 <= t < probabilities.shape[-1]
  ]
  expected = largest = 0.0
  for m in range(bins):
    inside = [x for x in pixels if m / bins < x[0] <= (m + 1) / bins or (m == 0 and x[0] == 0)]
    if inside:
      confidence, accuracy = np.mean(inside, axis=0)
      expected += len(inside) / len(pixels) * abs(accuracy - confidence)
      largest = max(largest, abs(accuracy - confidence))
  return expected, largest
