"""Times the boundary metrics against straightforward NumPy and SciPy.

Draws label maps of PASCAL VOC's size with blobs of several of 21 classes, and warps each a little
for a prediction. Then, on one core, in turns of a batch of images:

  one-to-one  `ContourBenchmark` against the contour benchmark's correspondence (Arbelaez et al.
              2011) class by class: all distances, those beyond the tolerance at the price of two
              outliers (100 tolerances each), and the assignment of least cost. The numbers of
              matched pixels are asserted equal.
  closest     `BFScore` against the smallest of all distances, class by class. The scores are
              asserted equal.

Both sides find boundary pixels with the library's `mark_contours`, whose time counts for both. The
time of the other sides grows with the square of a contour's length or more, so the longest contours
decide its total; the ratios are printed for all images together and for the median batch.

  python benchmarks/boundary.py
  python benchmarks/boundary.py --images=20 --size=187x250
"""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from asmjax.metrics import BFScore, ContourBenchmark, Tolerance
from asmjax.metrics.contours import mark_contours
from benchmarks.harness import make_parser, parse_size, record_ratio

CLASSES = 21
BF = Tolerance(5, "pixels")
OUTLIER = 100  # Tolerances, as in the contour benchmark.

Maps = tuple[np.ndarray, np.ndarray]  # True and predicted, (h, w) or stacks of them.


def draw(rng: np.random.Generator, size: tuple[int, int]) -> Maps:
  """Draws a label map of 2 to 5 blobs on background, and the same map warped by some 3 pixels."""
  label = np.zeros(size, np.uint8)
  y, x = np.indices(size).astype(np.float32)
  for _ in range(rng.integers(2, 6)):
    center, radius = rng.random(2) * size, rng.uniform(0.08, 0.3) * min(size)
    away = np.hypot(y - center[0], x - center[1]) + 0.2 * radius * _waves(rng, size, 8)
    label[away < radius] = rng.integers(1, CLASSES)
  shifts = (3 * _waves(rng, size, 6) for _ in range(2))
  warped = cv2.remap(
    label,
    *(at + shift for at, shift in zip((x, y), shifts, strict=True)),
    cv2.INTER_NEAREST,
    borderMode=cv2.BORDER_REPLICATE,
  )
  return label.astype(np.int32), warped.astype(np.int32)


def _waves(rng: np.random.Generator, size: tuple[int, int], scale: float) -> np.ndarray:
  """Draws smooth noise of unit variance."""
  noise = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), scale)
  return noise / noise.std()


def boundary_points(maps: Maps) -> list[tuple[int, np.ndarray, np.ndarray]]:
  """Returns (class, places of its true, of its predicted boundary) of classes with either."""
  edges = [mark_contours(ids, np.ones(ids.shape, bool)) for ids in maps]
  present = np.unique([c for ids, edge in zip(maps, edges, strict=True) for c in ids[edge]])
  return [
    (c, *(np.argwhere(edge & (ids == c)) for ids, edge in zip(maps, edges, strict=True)))
    for c in present
  ]


def assigned(batch: Maps) -> np.ndarray:
  """Counts the pixels matched by the assignment of least cost, (c,)."""
  matched = np.zeros(CLASSES, np.int64)
  tolerance = ContourBenchmark.empty(1).tolerance.pixels(batch[0].shape[1:])
  for maps in zip(*batch, strict=True):
    for c, true, guess in boundary_points(maps):
      distance = cdist(true, guess)
      cost = np.where(distance <= tolerance, distance, 2 * OUTLIER * tolerance)
      matched[c] += np.sum(distance[linear_sum_assignment(cost)] <= tolerance)
  return matched


def pairwise(batch: Maps) -> float:
  """Computes the mean BF by all distances."""
  tolerance = BF.pixels(batch[0].shape[1:])  # All images have one size.
  return float(np.mean([_pairwise(maps, tolerance) for maps in zip(*batch, strict=True)]))


def _pairwise(maps: Maps, tolerance: float) -> float:
  scores = []
  for _, true, guess in boundary_points(maps):
    if len(true) and len(guess):
      near = cdist(true, guess) <= tolerance
      precision, recall = near.any(0).mean(), near.any(1).mean()
      scores.append(2 * precision * recall / max(precision + recall, 1e-30))
    elif len(true):
      scores.append(0.0)
  return np.mean(scores)


def one_to_one(batch: Maps) -> np.ndarray:
  """Counts the pixels matched by the library, (c,)."""
  return ContourBenchmark.from_batch(*batch[::-1], num_classes=CLASSES).matched


def closest(batch: Maps) -> float:
  """Computes the mean BF by the library."""
  return BFScore.from_batch(*batch[::-1], num_classes=CLASSES, tolerance=BF).compute()["bf"]


def measure(
  sides: Mapping[str, Callable[[Maps], Any]], batches: list[Maps]
) -> dict[str, np.ndarray]:
  """Measures seconds an image by side and batch; the sides take turns, and must find the same."""
  times: dict[str, list[float]] = {name: [] for name in sides}
  for i, batch in enumerate([batches[0], *batches]):  # The first batch warms up.
    results = []
    for name, side in sides.items():
      start = time.perf_counter()
      results.append(side(batch))
      if i:
        times[name].append((time.perf_counter() - start) / len(batch[0]))
    np.testing.assert_allclose(*results, rtol=1e-12)
  return {name: np.asarray(seconds) for name, seconds in times.items()}


def report(times: Mapping[str, np.ndarray]) -> None:
  """Prints times, and how many times as long the second side took."""
  (name, seconds), (reference, reference_seconds) = times.items()
  record_ratio(f"boundary metrics: ours ({name}) / {reference}", seconds / reference_seconds)
  low, middle, high = np.percentile(reference_seconds / seconds, (0, 50, 100))
  total = reference_seconds.sum() / seconds.sum()
  print(
    f"  {name:12}{1e3 * seconds.mean():9.2f} ms an image\n"
    f"  {reference:12}{1e3 * reference_seconds.mean():9.2f} ms an image   {reference} / {name} = "
    f"{total:.1f} (batches: {low:.1f} to {high:.1f}, median {middle:.1f})",
    flush=True,
  )


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--images", type=int, default=100)
  parser.add_argument("--batch", type=int, default=5, help="images in a turn")
  parser.add_argument("--size", type=parse_size, default=(375, 500), help="of the maps: 375x500")
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  cv2.setNumThreads(1)
  rng = np.random.default_rng(0)
  drawn = [draw(rng, args.size) for _ in range(args.images)]
  lengths = [len(x) for maps in drawn for _, *both in boundary_points(maps) for x in both]
  print(f"SciPy {scipy.__version__}, OpenCV {cv2.__version__}, {os.cpu_count()} cores")
  print(
    f"{args.images} images of {'x'.join(map(str, args.size))}, on average "
    f"{len(lengths) / 2 / args.images:.1f} classes an image and {np.mean(lengths):.0f} "
    f"boundary pixels a class (longest: {max(lengths)})"
  )
  starts = range(0, args.images, args.batch)
  batches = [tuple(map(np.stack, zip(*drawn[i : i + args.batch], strict=True))) for i in starts]
  report(measure({"one-to-one": one_to_one, "assignment": assigned}, batches))
  report(measure({"closest": closest, "pairwise": pairwise}, batches))


if __name__ == "__main__":
  main()
