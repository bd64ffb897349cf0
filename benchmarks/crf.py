"""Times the dense CRF against the authors' C++ code, and compares their probabilities.

Both sides refine the same noisy logits of one image, with the same parameters: a bilateral and a
spatial kernel, Potts compatibility, symmetric normalization and 10 iterations.

  ours  the library's CRF; lattices are built with NumPy, inference is compiled once.
  cpp   pydensecrf2 1.1, one thread.

The sides take turns on the CPU. The first round compiles and is not counted. Either side's setting
up (its lattices) and inference are timed apart; ours builds the spatial lattice once for images of
one size, and so in the uncounted round.

  pip install pydensecrf2==1.1
  python benchmarks/crf.py
  python benchmarks/crf.py --image=photo.jpg --filters=close
"""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2
import jax
import numpy as np
import pydensecrf.densecrf as densecrf

from asmjax.inference.crf import FILTERS, DenseCRF, mean_field
from benchmarks.harness import format_ratio, limit_cores, make_parser, record_ratio

HEIGHT, WIDTH, CLASSES = 360, 480, 21
SCALES = ((40, 70), (12, 30), (4, 10), (1, 4))  # Of the drawn image: sizes and amplitudes.

# From nothing to (probabilities (h, w, c), seconds of setting up, seconds of inference).
Side = Callable[[], tuple[np.ndarray, float, float]]


def draw() -> np.ndarray:
  """Draws an image of smooth noise at several scales, about as rich in colors as a photo."""
  noise = np.random.default_rng(0).standard_normal((HEIGHT, WIDTH, 3), np.float32)
  waves = sum(cv2.GaussianBlur(noise, (0, 0), size) * size * high for size, high in SCALES)
  return np.clip(128 + 1.5 * waves, 0, 255).astype(np.uint8)


def read(path: pathlib.Path) -> np.ndarray:
  """Reads and resizes a photo."""
  image = cv2.imread(str(path))
  if image is None:
    raise ValueError(f"{path} is not an image that can be read")
  return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)[..., ::-1].copy()


def noisy_logits() -> np.ndarray:
  """Draws logits that are often right of blocks of 40 x 40 pixels."""
  rng = np.random.default_rng(1)
  label = rng.integers(0, CLASSES, (HEIGHT // 40, WIDTH // 40)).repeat(40, 0).repeat(40, 1)
  noise = 1.5 * rng.standard_normal((HEIGHT, WIDTH, CLASSES), np.float32)
  return noise + 3 * np.eye(CLASSES, dtype=np.float32)[label]


def ours(crf: DenseCRF, logits: np.ndarray, image: np.ndarray) -> Side:
  """Makes the side of the library's CRF."""

  def run():
    start = time.perf_counter()
    kernels = crf.kernels(image)
    built = time.perf_counter()
    refined = np.asarray(mean_field(logits, kernels, crf.iterations))
    return refined, built - start, time.perf_counter() - built

  return run


def cpp(crf: DenseCRF, logits: np.ndarray, image: np.ndarray) -> Side:
  """Makes the side of the authors' code."""
  unary = np.ascontiguousarray(-logits.reshape(-1, CLASSES).T)

  def run():
    start = time.perf_counter()
    field = densecrf.DenseCRF2D(WIDTH, HEIGHT, CLASSES)
    field.setUnaryEnergy(unary)
    field.addPairwiseGaussian(crf.spatial_xy, crf.spatial_weight)
    field.addPairwiseBilateral(crf.bilateral_xy, crf.bilateral_rgb, image, crf.bilateral_weight)
    built = time.perf_counter()
    refined = np.array(field.inference(crf.iterations))
    seconds = time.perf_counter() - built
    return refined.T.reshape(HEIGHT, WIDTH, CLASSES), built - start, seconds

  return run


def compare(refined: np.ndarray, expected: np.ndarray) -> None:
  """Prints how far apart the probabilities of both sides are."""
  error = np.abs(refined - expected)
  agreement = np.mean(refined.argmax(-1) == expected.argmax(-1))
  print(
    f"  probabilities differ by at most {error.max():.1e}, on average {error.mean():.1e}; "
    f"the same class at {agreement:.4%} of the pixels"
  )


def measure(sides: dict[str, Side], rounds: int) -> None:
  """Compares, and prints median seconds and the ratios of the rounds."""
  results = {name: run() for name, run in sides.items()}
  compare(*(refined for refined, *_ in results.values()))
  times = {name: [] for name in sides}
  for _ in range(rounds):
    for name, run in sides.items():
      times[name].append(run()[1:])
  times = {name: np.array(seconds) for name, seconds in times.items()}
  for name, seconds in times.items():
    building, inference = np.median(seconds, axis=0)
    total = np.median(seconds.sum(axis=1))
    print(f"  {name:5} set up {building:.3f} s, inference {inference:.3f} s, total {total:.3f} s")
  for part, choose in (("inference", lambda x: x[:, 1]), ("total", lambda x: x.sum(axis=1))):
    ratios = np.divide(*map(choose, times.values()))
    print(f"  ours / cpp, {part}: {format_ratio(ratios)}")
    record_ratio(f"dense CRF, {part}: ours / C++", ratios)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--rounds", type=int, default=5, help="measured after the first")
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="ours")
  parser.add_argument("--image", type=pathlib.Path, help="a photo in place of a drawn image")
  parser.add_argument("--filters", choices=FILTERS, default="released", help="ours")
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  limit_cores(args.threads)
  image = draw() if args.image is None else read(args.image)
  crf, logits = DenseCRF(filters=args.filters), noisy_logits()
  size, vertices = f"{HEIGHT}x{WIDTH}x{CLASSES}", crf.kernels(image)[-1].filter.neighbors.shape[-1]
  print(f"JAX {jax.__version__}, {args.threads} threads; {size}, {vertices} bilateral vertices")
  measure({"ours": ours(crf, logits, image), "cpp": cpp(crf, logits, image)}, args.rounds)


if __name__ == "__main__":
  main()
