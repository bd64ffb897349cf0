"""Times adaptive affinity fields against the released scheme in PyTorch, and measures memory.

Both sides compute the loss of three sizes from logits, and its gradient by the logits and by the
free variables whose softmax weighs the sizes (Ke et al. 2018, Eq. 7; weights by the center's class,
8 neighbors a size).

  ours     the library's loss, compiled: one channel after the other, forward and backward.
  pytorch  as released: for each size a tensor (n, c, h, w, 8) of all neighbors, from it one of
           divergences, and means over what boolean masks gather.

First it is asserted that both sides compute the same value and gradients. Then they take turns on
one device, on the CPU each with as many threads. Memory, measured on the CPU, is the growth of a
fresh process's peak over what it held before, inputs included in the latter. At full resolution
PyTorch's tensors do not fit an ordinary machine: it is measured at two smaller shapes, which shows
that it is linear in pixels, and extrapolated along that line.

  python benchmarks/affinity.py
  taskset -c 0 python benchmarks/affinity.py --threads=1 --no-memory
"""

import argparse
import math
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asmjax.losses.affinity import SizeWeights, affinity_loss
from benchmarks.harness import (
  add_device_flag,
  count_calls,
  format_ratio,
  limit_cores,
  make_parser,
  read_memory,
  record_ratio,
  reset_peak_memory,
  run_in_new_process,
  time_in_turns,
  use_device,
  wait_for,
)

SIZES = (3, 5, 7)
MARGIN, FLOOR = 3.0, 1e-4
SHAPES = ((8, 64, 64, 21), (4, 84, 84, 21))
LARGE = (8, 512, 512, 19)
FITTING = ((1, 256, 256, 19), (1, 256, 512, 19))  # PyTorch's, in place of LARGE.
PAUSE = 0.05  # Seconds until the other side's worker threads sleep.

Shape = tuple[int, int, int, int]
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]  # Logits, labels and free variables (2, c, k).
# From nothing to the value and the gradients by logits (n, h, w, c) and by free variables, on the
# device.
Side = Callable[[], tuple[Any, Any, Any]]


def draw(shape: Shape) -> Inputs:
  """Draws 8x8 blocks of random classes, 2 % unlabeled, and logits that are often right."""
  rng = np.random.default_rng(0)
  n, h, w, c = shape
  blocks = rng.integers(0, c, (n, -(-h // 8), -(-w // 8)))
  label = blocks.repeat(8, 1).repeat(8, 2)[:, :h, :w].astype(np.int32)
  logits = rng.standard_normal(shape, np.float32)
  np.put_along_axis(
    logits, label[..., None], np.take_along_axis(logits, label[..., None], -1) + 3, -1
  )
  label[rng.random(label.shape) < 0.02] = 255
  return logits, label, rng.standard_normal((2, c, len(SIZES)), np.float32)


def ours(logits: np.ndarray, label: np.ndarray, free: np.ndarray, device: str) -> Side:
  """Compiles the library's loss for these inputs."""
  del device  # JAX's own.

  def loss(logits, free, label):
    weights = SizeWeights(*jax.nn.softmax(free))
    fields = affinity_loss(
      jax.nn.softmax(logits), label, sizes=SIZES, margin=MARGIN, weights=weights
    )
    return fields.mean()

  inputs = jax.device_put((logits, free, label))
  compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*inputs).compile()

  def run():
    value, gradients = compiled(*inputs)
    return value, *gradients

  return run


def pytorch(logits: np.ndarray, label: np.ndarray, free: np.ndarray, device: str) -> Side:
  """Makes the released scheme, channels first."""
  logits, label, free = (torch.from_numpy(x).to(device) for x in (logits, label, free))
  logits = logits.permute(0, 3, 1, 2).contiguous().requires_grad_()
  label, free = label.long(), free.requires_grad_()

  def run():
    logits.grad = free.grad = None
    value = _released(logits.softmax(1), label, free.softmax(-1))
    value.backward()
    return value, logits.grad.permute(0, 2, 3, 1), free.grad

  return run


def _released(probabilities: Tensor, label: Tensor, weights: Tensor) -> Tensor:
  """Computes the loss from one tensor of neighbors a size."""
  classes = probabilities.shape[1]
  known = label < classes
  safe = torch.where(known, label, 0)
  hot = F.one_hot(safe, classes).permute(0, 3, 1, 2).bool()
  total = 0
  for k, size in enumerate(SIZES):
    pairs = known[:, None, :, :, None] & _neighbors(known[:, None], size)
    edge = _neighbors(hot, size) != hot[..., None]
    divergence = _divergence(_neighbors(probabilities, size), probabilities)
    costs = (MARGIN - divergence).clamp(min=0), divergence
    for by_class, kind, cost in zip(weights, (edge & pairs, ~edge & pairs), costs, strict=True):
      of_center = by_class[safe, k][:, None, :, :, None]
      total = total + torch.masked_select(of_center * cost, kind).mean()
  return total


def _neighbors(x: Tensor, size: int) -> Tensor:
  """(n, c, h, w) to (n, c, h, w, 8); 0 outside."""
  r, (h, w) = size // 2, x.shape[2:]
  wide = F.pad(x, (r,) * 4)
  starts = [(y, x) for y in (0, r, 2 * r) for x in (0, r, 2 * r) if (y, x) != (r, r)]
  return torch.stack([wide[..., y : y + h, x : x + w] for y, x in starts], dim=-1)


def _divergence(neighbor: Tensor, center: Tensor) -> Tensor:
  """KL(neighbor || center) of each class against all others."""
  center = center[..., None]
  p, not_p, q, not_q = (x.clamp(FLOOR, 1) for x in (neighbor, 1 - neighbor, center, 1 - center))
  return p * torch.log(p / q) + not_p * torch.log(not_p / not_q)


SIDES = {"ours": ours, "pytorch": pytorch}


def check(sides: dict[str, Side]) -> None:
  """Asserts that both sides have the same value and gradients."""
  (value, *gradients), (expected, *expected_gradients) = (
    [np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x) for x in side()]
    for side in sides.values()
  )
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  errors = [
    np.abs(a - b).max() / np.abs(b).max()
    for a, b in zip(gradients, expected_gradients, strict=True)
  ]
  assert max(errors) < 1e-3, f"gradients differ by {max(errors):.1e} of the largest"
  print(
    f"  value {value:.5f} and {expected:.5f}; gradients differ by at most {max(errors):.0e} of "
    "the largest"
  )


def measure_time(shape: Shape, rounds: int, device: str) -> None:
  """Checks, and prints median seconds and the ratio of each round."""
  print(f"{_name(shape)}: forward and backward")
  inputs = draw(shape)
  sides = {name: make(*inputs, device) for name, make in SIDES.items()}
  check(sides)
  times = time_in_turns(sides, rounds, calls=count_calls(device), pause=PAUSE)
  for name, seconds in times.items():
    print(f"  {name:9}{1e3 * np.median(seconds):9.1f} ms")
  ratios = np.divide(*times.values())
  print(f"  ours / pytorch = {format_ratio(ratios)}")
  record_ratio(f"affinity fields of three sizes, {_name(shape)}: ours / pytorch", ratios)


def measure_memory() -> None:
  """Prints what a pass of either side takes at `LARGE`; PyTorch's is extrapolated."""
  print(f"{_name(LARGE)}: peak of a forward and backward pass, in a fresh process")
  needed = run_in_new_process(measure_growth, "ours", LARGE)
  print(f"  ours     {needed / 2**20:9.0f} MiB")
  small, large = (run_in_new_process(measure_growth, "pytorch", shape) for shape in FITTING)
  for shape, size in zip(FITTING, (small, large), strict=True):
    print(f"  pytorch  {size / 2**20:9.0f} MiB at {_name(shape)}")
  pixels = [math.prod(shape[:3]) for shape in (*FITTING, LARGE)]
  slope = (large - small) / (pixels[1] - pixels[0])
  extrapolated = large + slope * (pixels[2] - pixels[1])
  print(
    f"  pytorch  {extrapolated / 2**20:9.0f} MiB at {_name(LARGE)}, extrapolated: "
    f"{pixels[1] / pixels[0]:.0f} times the pixels take {large / small:.2f} times the memory"
  )
  print(f"  ours / pytorch = {needed / extrapolated:.3f}")
  row = f"affinity fields, memory at {_name(LARGE)}: ours / pytorch, extrapolated"
  record_ratio(row, needed / extrapolated)


def measure_growth(name: str, shape: Shape) -> int:
  """Measures the bytes that a forward and backward pass adds to those of its process."""
  # Worker threads and libraries do not count.
  wait_for(SIDES[name](*draw((1, 16, 16, shape[-1])), "cpu")())
  run = SIDES[name](*draw(shape), "cpu")
  reset_peak_memory()
  before = read_memory("VmRSS")
  wait_for(run())
  return read_memory("VmHWM") - before


def _name(shape: Shape) -> str:
  return "x".join(map(str, shape))


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--rounds", type=int, default=9, help="measured after a warm-up")
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side")
  parser.add_argument("--no-time", action="store_true", help="leave the times out")
  parser.add_argument("--no-memory", action="store_true", help="leave the memory out (Linux only)")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  limit_cores(args.threads)
  device = use_device(args.device)
  torch.set_num_threads(args.threads)
  print(f"JAX {jax.__version__} and PyTorch {torch.__version__}, {args.threads} threads each")
  for shape in () if args.no_time else SHAPES:
    measure_time(shape, args.rounds, device)
  if not args.no_memory and device == "cpu":
    measure_memory()


if __name__ == "__main__":
  main()
