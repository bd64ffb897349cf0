"""Times the input pipeline against a PyTorch DataLoader, and how long a training step waits for it.

Both sides decode the photos and masks of a data set in PASCAL VOC's layout with Pillow, scale them
by 0.5 to 2 with OpenCV, cut a window of 336 x 336 at random, flip every second one and batch 8.

  threads    the library's loader with as many threads in one process.
  processes  the library's loader with as many worker processes, of one thread each.
  pytorch    a Dataset as it is usually written, which resizes before it crops, in a DataLoader with
             as many worker processes.
  adapter    the library's source and transform in that DataLoader: what is left is the difference
             between the loaders.

The sides take turns, so that other work on the machine falls on all of them: the ratios are what
counts. Then the same training steps run once from the loader and once from a batch that is already
on the device. The share of the time that passes until the next batch is there is the wait for data;
where step and loader share the same cores, the step itself also takes longer.

  python benchmarks/input.py --data_root=VOCdevkit
  python benchmarks/input.py            # draws photos and masks of VOC's sizes first
"""

import argparse
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2
import jax
import numpy as np
from PIL import Image

from asmjax.data.loader import EpochSampler, LoaderOptions, train_batches
from asmjax.data.sources.pascal_voc import PascalVoc
from asmjax.data.transforms import Augment
from asmjax.game import PREDICTOR, Game
from asmjax.models.predictors import UNet
from asmjax.tasks import Segmentation
from asmjax.terms import Pixel
from asmjax.train.optim import Optimizer
from asmjax.train.parallel import pmap_step, prefetch_to_device
from asmjax.train.state import init_state
from asmjax.train.step import make_step
from benchmarks.harness import format_ratio, make_parser, record_ratio

try:
  import torch
except ImportError:
  torch = None

BATCH = 8
CROP = (336, 336)
SCALE = (0.5, 2.0)
FILL = (127, 127, 127)


class UsualDataset:
  """Data set as PyTorch projects write it: decode, resize, pad, crop, flip, one after the other."""

  def __init__(self, source: PascalVoc):
    self.files = [source.files(index) for index in range(len(source))]

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng()
    image = np.array(Image.open(self.files[index]["image"]).convert("RGB"))
    label = np.array(Image.open(self.files[index]["label"]))
    factor = math.exp(rng.uniform(*np.log(SCALE)))
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, size, interpolation=method)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    down, right = max(0, CROP[0] - size[1]), max(0, CROP[1] - size[0])
    image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=FILL)
    label = cv2.copyMakeBorder(label, 0, down, 0, right, cv2.BORDER_CONSTANT, value=255)
    top = rng.integers(image.shape[0] - CROP[0] + 1)
    left = rng.integers(image.shape[1] - CROP[1] + 1)
    window = slice(top, top + CROP[0]), slice(left, left + CROP[1])
    image, label = image[window], label[window]
    if rng.random() < 0.5:
      image, label = image[:, ::-1], label[:, ::-1]
    return {"image": np.ascontiguousarray(image), "label": label.astype(np.int32)}


class Adapter:
  """Map-style data set of the library's source and transform."""

  def __init__(self, sampler: EpochSampler):
    self.sampler = sampler

  def __len__(self) -> int:
    return len(self.sampler.source)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return self.sampler.example(0, index)


def ours(sampler: EpochSampler, options: LoaderOptions) -> Iterator[Any]:
  """Yields the library's batches."""
  return train_batches(sampler, batch_size=BATCH, options=options)


def pytorch(dataset: Any, workers: int) -> Iterator[Any]:
  """Yields endless batches of a DataLoader whose workers stay."""
  loader = torch.utils.data.DataLoader(
    dataset,
    batch_size=BATCH,
    shuffle=True,
    drop_last=True,
    num_workers=workers,
    persistent_workers=True,
    worker_init_fn=_one_thread,
    multiprocessing_context="fork",
  )
  while True:
    yield from loader


def _one_thread(_: int) -> None:
  cv2.setNumThreads(0)


def measure_speeds(
  sides: Mapping[str, Callable[[], Iterator[Any]]], *, batches: int, rounds: int
) -> dict[str, np.ndarray]:
  """Measures images a second by side and round; the sides take turns, and start anew each time."""
  speeds: dict[str, list[float]] = {name: [] for name in sides}
  for _, (name, make) in itertools.product(range(rounds), sides.items()):
    with contextlib.closing(make()) as iterator:
      for _ in itertools.islice(iterator, 4):
        pass  # Until the workers run and what they had prepared is used up.
      start = time.perf_counter()
      for _ in itertools.islice(iterator, batches):
        pass
      speeds[name].append(batches * BATCH / (time.perf_counter() - start))
  return {name: np.asarray(of_side) for name, of_side in speeds.items()}


def report(speeds: Mapping[str, np.ndarray]) -> None:
  """Prints medians, and the library's sides over PyTorch's, round by round."""
  if "pytorch" in speeds:
    ratios = speeds["pytorch"] / speeds["threads"]
    record_ratio("input, photos of PASCAL VOC: time of ours (threads) / DataLoader", ratios)
  for name, speed in speeds.items():
    ratios = "".join(
      f"   / {reference} = {format_ratio(speed / speeds[reference])}"
      for reference in ("pytorch", "adapter")
      if reference in speeds and name in ("threads", "processes")
    )
    print(f"  {name:10}{np.median(speed):8.1f} images/s{ratios}", flush=True)


def measure_waiting(
  sampler: EpochSampler, options: LoaderOptions, *, steps: int, rounds: int
) -> None:
  """Prints the share of training steps that is spent waiting for the loader."""
  step, state = _training_step(sampler)
  times = []
  for _ in range(rounds + 1):  # The first compiles.
    with contextlib.closing(ours(sampler, options)) as batches:
      batches = prefetch_to_device(batches)
      same = next(batches)
      loading = _seconds(step, state, itertools.islice(batches, steps))
    times.append((*loading, *_seconds(step, state, itertools.repeat(same, steps))))
  total, waited, without_loading, _ = np.median(times[1:], axis=0)
  print(
    f"  a training step takes {1e3 * total / steps:.0f} ms, {100 * waited / total:.1f} % of it "
    f"waiting for data; {1e3 * without_loading / steps:.0f} ms while nothing is loaded"
  )


def _training_step(sampler: EpochSampler) -> tuple[Callable[..., Any], Any]:
  """Makes a step of a small U-Net, which computes little and so waits much."""
  tasks = {"segmentation": Segmentation(classes=sampler.source.descriptor.classes)}
  heads = {name: task.channels for name, task in tasks.items()}
  game = Game(UNet(heads=heads, levels=4, width=8, stride=4), tasks, {"pixel": Pixel()})
  transformations = {PREDICTOR: Optimizer().make_transformation(1000)}
  state = init_state(game, transformations, seed=0, image_size=CROP)
  return pmap_step(make_step(game, transformations, active_players=(PREDICTOR,), steps=1000)), state


def _seconds(step: Callable[..., Any], state: Any, batches: Iterator[Any]) -> tuple[float, float]:
  """Measures the seconds of all steps, and those of them until each batch was there."""
  start, waited = time.perf_counter(), 0.0
  while True:
    begin = time.perf_counter()
    batch = next(batches, None)
    if batch is None:
      return time.perf_counter() - start, waited
    waited += time.perf_counter() - begin
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)


def draw(root: pathlib.Path, count: int = 64) -> None:
  """Writes photos and palette masks of VOC's sizes: smooth blobs, which compress as photos do."""
  for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
    (root / folder).mkdir(parents=True)
  rng = np.random.default_rng(0)
  for index in range(count):
    size = (375, 500) if index % 4 else (500, 375)
    coarse = rng.integers(0, 256, (size[0] // 6, size[1] // 6, 3)).astype(np.uint8)
    photo = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    Image.fromarray(photo).save(root / "JPEGImages" / f"{index:04}.jpg", quality=90)
    ids = cv2.resize(
      rng.integers(0, 21, (5, 7)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST
    )
    mask = Image.fromarray(ids)
    mask.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
    mask.save(root / "SegmentationClass" / f"{index:04}.png")
  names = "".join(f"{index:04}\n" for index in range(count))
  (root / "ImageSets" / "Segmentation" / "train.txt").write_text(names)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--data_root", help="folder of PASCAL VOC; drawn if not given")
  parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of each side")
  parser.add_argument("--batches", type=int, default=40, help="measured in each round")
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--steps", type=int, default=20, help="measured in each round")
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  print(
    f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
    f"{args.workers} workers"
  )
  with tempfile.TemporaryDirectory() as folder:
    if not args.data_root:
      draw(pathlib.Path(folder) / "VOC2012")
    source = PascalVoc(args.data_root or folder, "train")
    augment = Augment(CROP, flip=True, scale=SCALE, random_crop=True)
    sampler = EpochSampler(source, augment, seed=0)
    threads = LoaderOptions(num_threads=args.workers)
    processes = LoaderOptions(num_workers=args.workers, num_threads=1)
    sides = {
      "threads": lambda: ours(sampler, threads),
      "processes": lambda: ours(sampler, processes),
    }
    if torch is None:
      print("PyTorch is not installed and left out")
    else:
      sides["pytorch"] = lambda: pytorch(UsualDataset(source), args.workers)
      sides["adapter"] = lambda: pytorch(Adapter(sampler), args.workers)
    report(measure_speeds(sides, batches=args.batches, rounds=args.rounds))
    options = dataclasses.replace(threads, prefetch=4)
    measure_waiting(sampler, options, steps=args.steps, rounds=3)


if __name__ == "__main__":
  main()
