"""Times predictors and their training steps against the same networks in PyTorch.

  ours      asmjax's network, compiled by XLA.
  eager     PyTorch's, contiguous or channels last, whichever is faster here.
  compiled  the same through `torch.compile`, which needs a C++ compiler; on GPUs with CUDA graphs.

A step is forward pass, cross-entropy at the output's resolution, backward pass and SGD with
momentum, in float32 or, of the network alone, in bfloat16; the forward pass alone is that of
evaluation. First it is asserted that
both sides compute the same loss from the same weights. Then the sides take turns, so that other
work on the machine falls on all of them: the ratios are what counts.

Memory is the peak of further steps in a fresh process, less what that process held after its
imports: weights, gradients, momenta and activations, and the compiled program, which is all that
small images leave of ours. Its arrays alone are printed beside it.

  python benchmarks/predictors.py --size=513x513 --batch=4
  python benchmarks/predictors.py --only=deeplab_v3_resnet50,unet7 --no-compile
  python benchmarks/predictors.py --device=gpu --size=513x513 --batch=8 --dtype=bfloat16

hrnet_w18, segformer_b0, upernet_convnext_tiny and dinov2_small_linear are compared with networks of
timm and of transformers, at sizes of 32 k + 1, 32 k, 32 k and 14 k.
"""

import argparse
import ctypes
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from torch import nn

from asmjax.models.layers import ConvNet, Norm, with_compute_dtype
from asmjax.models.predictors.published import PUBLISHED
from asmjax.pretrained import transfer
from benchmarks.harness import (
  add_device_flag,
  count_calls,
  limit_cores,
  make_parser,
  parse_size,
  read_memory,
  record_ratio,
  reset_peak_memory,
  run_in_new_process,
  time_in_turns,
  use_device,
  wait_for,
)
from benchmarks.torch_maps import benchmark_map
from benchmarks.torch_networks.arrays import nchw, randomize, weights
from benchmarks.torch_networks.published import PREDICTORS

CLASSES = 21
HEADS = {"segmentation": CLASSES}
WARM_UPS = 2
PAUSE = 0.05  # Seconds until the other side's worker threads sleep.
LEARNING_RATE, MOMENTUM = 1e-3, 0.9


DEFAULT = (
  "unet7",
  "fcn8s_vgg16",
  "deeplab_v3_mobilenet_v2",
  "deeplab_v3_plus_mobilenet_v2",
  "deeplab_v3_resnet50",
  "pspnet_resnet50",
)


def create_network(name: str) -> ConvNet:
  """Creates our network with PyTorch's epsilon, and drops nothing where PyTorch's side does not."""
  network = PUBLISHED[name](HEADS)
  changes = {"dropout": 0.0} if hasattr(network, "dropout") else {}
  if backbone := getattr(network, "backbone", None):
    options = {"norm": Norm()} if backbone.norm.kind == "batch" else {}
    options |= {"drop_path": 0.0} if hasattr(backbone, "drop_path") else {}
    changes["backbone"] = backbone.clone(**options)
  return network.clone(**changes)


@dataclasses.dataclass(frozen=True)
class Case:
  """One row of the table.

  Attributes:
    name: Name of the predictor in `asmjax.models.predictors.published.PUBLISHED`.
    batch: Number of images.
    size: Size (h, w) of the images.
    device: PyTorch's name of the device of both sides; "cpu" by default.
    dtype: Type in which both sides compute: "float32", the default, or "bfloat16".
  """

  name: str
  batch: int
  size: tuple[int, int]
  device: str = "cpu"
  dtype: str = "float32"

  def __str__(self) -> str:
    return f"{self.name}, {self.dtype}, batch {self.batch} of {self.size[0]}x{self.size[1]}"

  def image(self) -> np.ndarray:
    """Draws random normalized images (n, h, w, 3)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((self.batch, *self.size, 3), np.float32)


def labels(shape: tuple[int, ...]) -> np.ndarray:
  """Draws random classes (n, h, w)."""
  return np.random.default_rng(1).integers(0, CLASSES, shape)


class Ours:
  """asmjax's side of a case.

  Args:
    case: Predictor, batch and size.
    state_dict: Weights of the PyTorch side; None draws random weights.
  """

  def __init__(self, case: Case, state_dict: Mapping[str, np.ndarray] | None = None):
    self.network = create_network(case.name)
    if case.dtype != "float32":
      self.network = with_compute_dtype(jnp.dtype(case.dtype), self.network)
    image = jnp.array(case.image())
    init = lambda: self.network.init(jax.random.key(0), image[:1], train=False)
    shapes = jax.eval_shape(init)
    self.variables = jax.tree.map(_initial, shapes)
    if state_dict is not None:
      self.variables, _ = transfer(self.variables, state_dict, benchmark_map(self.network))
    logits, _ = jax.eval_shape(lambda *x: self._logits(*x, train=False), shapes, image)
    # Arguments, since the compiler would evaluate what depends on constants only.
    self.batch = image, jnp.array(labels(logits.shape[:3]), jnp.int32)
    self.tx = optax.sgd(LEARNING_RATE, MOMENTUM)
    self.momenta = self.tx.init(self.variables["params"])
    self._predict = jax.jit(lambda *x: self._logits(*x, train=False)[0])
    self._move = jax.jit(self._updated, donate_argnums=(0, 1))

  def forward(self) -> Any:
    """Evaluates the network; returns what to wait for."""
    return self._predict(self.variables, self.batch[0])

  def step(self) -> Any:
    """Trains the network; returns what to wait for."""
    self.variables, self.momenta, loss = self._move(self.variables, self.momenta, self.batch)
    return self.variables, loss

  def losses(self) -> tuple[float, float]:
    """Computes the losses of evaluation and of training, the latter with batch statistics."""
    loss = jax.jit(self._loss, static_argnames="train")
    return tuple(
      float(loss(self.variables["params"], self.variables, self.batch, train=train)[0])
      for train in (False, True)
    )

  def count_array_bytes(self) -> int:
    """Returns the bytes of all arrays that a step holds at once."""
    compiled = self._move.lower(self.variables, self.momenta, self.batch).compile()
    memory = compiled.memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes

  def _updated(self, variables: Any, momenta: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
    params = variables["params"]
    graded = jax.value_and_grad(self._loss, has_aux=True)
    (loss, updates), grads = graded(params, variables, batch, train=True)
    moves, momenta = self.tx.update(grads, momenta, params)
    return {**variables, **updates, "params": optax.apply_updates(params, moves)}, momenta, loss

  def _loss(self, params: Any, variables: Any, batch: Any, *, train: bool) -> tuple[jax.Array, Any]:
    image, label = batch
    logits, updates = self._logits({**variables, "params": params}, image, train=train)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return losses.mean(), updates

  def _logits(self, variables: Any, image: Any, *, train: bool) -> tuple[jax.Array, Any]:
    outputs, updates = self.network.apply(
      variables, image, train=train, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
    )
    return outputs["segmentation"].astype(jnp.float32), updates


def _initial(leaf: jax.ShapeDtypeStruct) -> jax.Array:
  """Draws kernels that keep the scale, without compiling a deep network's initialization."""
  if len(leaf.shape) not in (2, 4):
    return jnp.ones(leaf.shape, leaf.dtype)
  scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
  return jnp.array(scale * np.random.default_rng(0).standard_normal(leaf.shape), leaf.dtype)


class PyTorch:
  """PyTorch's side of a case.

  Args:
    case: Predictor, batch and size.
    layout: Layout of weights and maps in memory.
    compiled: Whether the network goes through `torch.compile`, on GPUs with CUDA graphs.
  """

  def __init__(
    self, case: Case, layout: torch.memory_format = torch.contiguous_format, compiled: bool = False
  ):
    net = PREDICTORS[case.name](CLASSES)
    randomize(net)
    self.net = net.to(case.device, memory_format=layout)
    self.image = nchw(case.image()).to(case.device).contiguous(memory_format=layout)
    # The mode "reduce-overhead" is that of CUDA graphs.
    mode = "default" if case.device == "cpu" else "reduce-overhead"
    self.run = torch.compile(self.net, mode=mode) if compiled else self.net
    self.autocast = torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16")
    self.net.eval()
    with torch.no_grad():
      self.label = torch.from_numpy(labels(self._shape())).to(case.device)
    self.sgd = torch.optim.SGD(self.net.parameters(), LEARNING_RATE, MOMENTUM, fused=True)

  def _shape(self) -> tuple[int, ...]:
    n, _, h, w = self.net(self.image).shape
    return n, h, w

  def forward(self) -> None:
    """Evaluates the network."""
    self.net.eval()
    with torch.no_grad(), self.autocast:
      self.run(self.image)

  def step(self) -> None:
    """Trains the network."""
    self.net.train()
    self.sgd.zero_grad()
    with self.autocast:
      loss = F.cross_entropy(self.run(self.image), self.label)
    loss.backward()
    self.sgd.step()

  def losses(self) -> tuple[float, float]:
    """Computes the losses of evaluation and of training."""
    losses = []
    with torch.no_grad():
      for train in (False, True):
        self.net.train(train)
        losses.append(F.cross_entropy(self.net(self.image), self.label).item())
    return losses[0], losses[1]


LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def check(case: Case) -> None:
  """Asserts that both sides compute the same losses from the same weights, in float32."""
  case = dataclasses.replace(case, dtype="float32")
  pytorch = PyTorch(case)
  losses, expected = Ours(case, weights(pytorch.net)).losses(), pytorch.losses()
  # On GPUs both sides round the factors of products to TF32, and not in the same order.
  tolerance = 1e-3 if case.device == "cpu" else 2e-2
  comparable = 1 if any(isinstance(module, nn.Dropout) for module in pytorch.net.modules()) else 2
  np.testing.assert_allclose(losses[:comparable], expected[:comparable], rtol=tolerance)
  print(
    f"  losses of evaluation and training: ours {losses[0]:.4f} {losses[1]:.4f}, "
    f"pytorch {expected[0]:.4f} {expected[1]:.4f}"
    + ("" if comparable == 2 else " (dropout makes the latter differ)")
  )


def find_faster_layout(case: Case) -> str:
  """Finds the layout in which PyTorch's step is faster."""
  sides = {name: PyTorch(case, layout).step for name, layout in LAYOUTS.items()}
  times = time_in_turns(sides, 2, warm_ups=WARM_UPS, calls=count_calls(case.device), pause=PAUSE)
  return min(times, key=lambda name: times[name].min())


def time_case(case: Case, args: argparse.Namespace) -> None:
  """Checks a predictor and prints its times and ratios."""
  check(case)
  layout = find_faster_layout(case)
  eager = PyTorch(case, LAYOUTS[layout])
  sides = {"ours": Ours(case, weights(eager.net)), "eager": eager}
  if not args.no_compile:
    sides["compiled"] = PyTorch(case, LAYOUTS[layout], compiled=True)
  print(f"  PyTorch is faster with {layout} maps")
  for part in ("forward", "step"):
    runs = {name: getattr(side, part) for name, side in sides.items()}
    calls = count_calls(case.device)
    times = time_in_turns(runs, args.rounds, warm_ups=WARM_UPS, calls=calls, pause=PAUSE)
    medians = "  ".join(
      f"{name} {1e3 * np.median(seconds):8.1f} ms" for name, seconds in times.items()
    )
    ratios = {name: times["ours"] / times[name] for name in list(times)[1:]}
    for name, of_rounds in ratios.items():
      record_ratio(f"{case}, {part}: ours / {name}", of_rounds)
    text = "  ".join(f"ours/{name} {np.median(ratio):.2f}" for name, ratio in ratios.items())
    print(f"  {part:8}{medians}   {text}", flush=True)


def report_memory(case: Case, args: argparse.Namespace) -> None:
  """Prints the peak memory of both sides' steps."""
  memory = {
    name: run_in_new_process(measure_memory, case, name, args.threads)
    for name in ("ours", *LAYOUTS)
  }
  peaks = {name: peak / 2**20 for name, (peak, _) in memory.items()}
  eager = min(peaks[name] for name in LAYOUTS)
  record_ratio(f"{case}, memory of a step: ours / eager", peaks["ours"] / eager)
  listed = "  ".join(f"{name} {peak:.0f} MiB" for name, peak in peaks.items())
  print(
    f"  memory  {listed}   ours/eager {peaks['ours'] / eager:.2f}; "
    f"our arrays {memory['ours'][1] / 2**20:.0f} MiB",
    flush=True,
  )


def measure_memory(case: Case, name: str, threads: int) -> tuple[int, int]:
  """Measures the bytes at the peak of two steps beyond what imports take, and those of our arrays.

  A first step, which compiles, is not counted.
  """
  set_threads(threads)
  if case.device != "cpu":
    return _measure_gpu_memory(case, name)
  jax.block_until_ready(jnp.zeros(1) + 1)
  before = read_memory("VmRSS")
  side = Ours(case) if name == "ours" else PyTorch(case, LAYOUTS[name])
  wait_for(side.step())
  # What compilation has freed goes back to the system; then the peak is forgotten.
  ctypes.CDLL(None).malloc_trim(0)
  reset_peak_memory()
  wait_for(side.step())
  wait_for(side.step())
  peak = read_memory("VmHWM") - before
  return peak, side.count_array_bytes() if name == "ours" else 0


def _measure_gpu_memory(case: Case, name: str) -> tuple[int, int]:
  """Returns the bytes that both allocators had given out at the peak of two steps."""
  side = Ours(case) if name == "ours" else PyTorch(case, LAYOUTS[name])
  wait_for((side.step(), side.step()))
  if name == "ours":
    return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"], side.count_array_bytes()
  return torch.cuda.max_memory_allocated(), 0


def set_threads(threads: int) -> None:
  """Gives both sides this many threads."""
  limit_cores(threads)
  torch.set_num_threads(threads)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--only", type=_names, default=DEFAULT, help=", ".join(PREDICTORS))
  parser.add_argument("--size", type=parse_size, default=(225, 225), help="of the images: 225x225")
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=7, help=f"measured after {WARM_UPS} warm-ups")
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of either side")
  parser.add_argument("--no-compile", action="store_true", help="leave `torch.compile` out")
  parser.add_argument("--no-time", action="store_true", help="leave the times out")
  parser.add_argument("--no-memory", action="store_true", help="leave the memory out (Linux only)")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  add_device_flag(parser)
  return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
  names = tuple(text.split(","))
  if unknown := set(names) - set(PREDICTORS):
    raise argparse.ArgumentTypeError(
      f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PREDICTORS)}"
    )
  return names


def main() -> None:
  """Benchmarks the predictors of the flags."""
  args = parse_flags()
  set_threads(args.threads)
  device = use_device(args.device)
  print(
    f"JAX {jax.__version__} and PyTorch {torch.__version__}, {args.threads} threads each; "
    f"batch {args.batch}, {args.size}, {CLASSES} classes"
  )
  for name in args.only:
    print(name, flush=True)
    case = Case(name, args.batch, args.size, device, args.dtype)
    if not args.no_time:
      time_case(case, args)
    if not args.no_memory:
      report_memory(case, args)


if __name__ == "__main__":
  main()
