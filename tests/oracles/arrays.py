"""Slow NumPy oracles."""

import numpy as np


def cross_entropy(logits, label):
  """Mean over labeled pixels, pixel by pixel."""
  losses = []
  for index in np.ndindex(label.shape):
    if 0 <= label[index] < logits.shape[-1]:
      shifted = logits[index].astype(np.float64) - logits[index].max()
      losses.append(np.log(np.exp(shifted).sum()) - shifted[label[index]])
  return np.mean(losses) if losses else 0.0


def matching_distance(predicted, truth, mask, normalize):
  """Mean over masked pixels, image by image and pixel by pixel."""
  distances = []
  for x, y, known in zip(predicted.astype(float), truth.astype(float), mask, strict=True):
    pairs = [(x[index], y[index]) for index in np.ndindex(known.shape) if known[index]]
    if normalize == "pixel":
      pairs = [(a / np.linalg.norm(a), b / np.linalg.norm(b)) for a, b in pairs]
    squares = [((a - b) ** 2).sum() for a, b in pairs]
    if normalize == "image":
      energy = sum((a**2).sum() + (b**2).sum() for a, b in pairs)
      distances += [len(pairs) * square / energy for square in squares]
    else:
      distances += [square / (2 if normalize == "none" else 1) for square in squares]
  return np.mean(distances) if distances else 0.0


def pool_mask(mask, size, count_partial_cells):
  """Cell by cell; cells are counted from the top left."""
  n, h, w, _ = mask.shape
  out = np.zeros((n, *size, 1))
  for b, i, j in np.ndindex(n, *size):
    cell = mask[
      b, i * h // size[0] : (i + 1) * h // size[0], j * w // size[1] : (j + 1) * w // size[1]
    ]
    out[b, i, j] = cell.max() if count_partial_cells else cell.min()
  return out


def convolve(x, kernel, bias, stride, dilation):
  """k x k convolution with (k - 1) // 2 and k // 2 dilated pixels of padding, output by output."""
  k = kernel.shape[0]
  pad = (k - 1) // 2 * dilation, k // 2 * dilation
  x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
  reach = (k - 1) * dilation + 1
  h, w = ((side - reach) // stride + 1 for side in x.shape[1:3])
  out = np.zeros((x.shape[0], h, w, kernel.shape[-1]))
  for i, j in np.ndindex(h, w):
    patch = x[
      :, i * stride : i * stride + reach : dilation, j * stride : j * stride + reach : dilation
    ]
    out[:, i, j] = np.einsum("nabc,abcf->nf", patch, kernel) + bias
  return out


def upsample(x, size, stride):
  """Bilinear, output by output: pixel S i is x[i], and what lies beyond repeats the border."""
  out = np.zeros((len(x), *size, x.shape[-1]))
  last = [side - 1 for side in x.shape[1:3]]
  for place in np.ndindex(*size):
    at = [min(p / stride, end) for p, end in zip(place, last, strict=True)]
    for corner in np.ndindex(2, 2):
      near = [min(int(a) + c, end) for a, c, end in zip(at, corner, last, strict=True)]
      parts = [a - int(a) if c else 1 - a + int(a) for a, c in zip(at, corner, strict=True)]
      out[:, place[0], place[1]] += np.prod(parts) * x[:, near[0], near[1]]
  return out


def confusion(label, predicted, classes):
  """Pixel by pixel."""
  counts = np.zeros((classes, classes), np.int64)
  for true, guess in zip(label.ravel(), predicted.ravel(), strict=True):
    if 0 <= true < classes:
      counts[true, guess] += 1
  return counts
