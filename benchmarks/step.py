"""Times one training step of adversarial structure matching against two usual ways to write it.

A step is everything from a batch to both players' new parameters: forward, backward and Adam for
predictor and critic. The networks, losses and optimizers are those of `configs/horse.py`.

  ours      the library's step: one scalar, one `value_and_grad`, compiled as a whole, state
            donated.
  unguarded the same, but it is not looked at whether anything is finite.
  separate  two gradient calls in JAX, with the library's modules and losses: one of the predictor's
            loss, one of the critic's, each with a forward pass of its own; two jitted gradient
            functions and two jitted updates, called one after the other.
  pytorch   the released scheme in PyTorch (three analyzer passes, two backward passes), channels
            last; see `torch_step.py`.
  compiled  with --compile: the same with both networks through `torch.compile`, which needs a C++
            compiler and minutes.

First it is asserted that ours, separate and pytorch compute the same thing. Then the sides take
turns, so that other work on the machine falls on all of them: the ratios are what counts. Still,
PyTorch's threads wait for each other at every layer and suffer most from cores that they must
share; compare with it on an idle machine, or give every side one core, as in the second line.

  python benchmarks/step.py --batch=4 --preset=both
  taskset -c 0 python benchmarks/step.py --threads=1
  python benchmarks/step.py --device=gpu --batch=16 --size=288x384 --width=64
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asmjax.game import PREDICTOR
from asmjax.train.nonfinite import guard_step
from asmjax.train.parallel import pmap_step, shard_batch
from asmjax.train.step import make_step
from benchmarks.harness import (
  add_device_flag,
  count_calls,
  make_parser,
  parse_size,
  record_ratio,
  time_in_turns,
  use_device,
)
from benchmarks.separate_step import SeparateStep, analyze, compute_value, count_flops, predict
from benchmarks.step_setting import CRITIC, PRESETS, Setting, make_setting

try:
  from benchmarks import torch_step
except ModuleNotFoundError as error:
  if error.name != "torch":
    raise
  torch_step = None

WARM_UPS = 3
# Worker threads of one side may spin for a while before they sleep.
PAUSE = 0.02


class JointStep:
  """The library's joint step, as the loop runs it, or without its guard."""

  def __init__(self, setting: Setting, *, guards: bool = True):
    step, self._state = _make_joint_step(setting), setting.init_state()
    if guards:
      step, self._state = guard_step(step, limit=1), (self._state, jnp.int32(0))
    devices = jax.local_devices()[:1]
    self._step = pmap_step(step, devices=devices, donate=True)
    self._shard_batch = lambda: shard_batch(setting.batch, devices=devices)

  def __call__(self) -> Any:
    """Takes a step; returns what to wait for."""
    self._state, metrics = self._step(self._state, self._shard_batch())
    return self._state, metrics

  def flops(self) -> float:
    """Counts the floating-point operations of the compiled step."""
    return count_flops(self._step, self._state, self._shard_batch())


def compute_joint_gradients(setting: Setting, backend: str | None = None) -> dict[str, Any]:
  """Returns the gradients that the joint step hands to the optimizers, by player.

  Args:
    setting: Networks, losses and a batch.
    backend: Backend to compute on; JAX's own by default.
  """
  recorder = optax.GradientTransformationExtraArgs(
    lambda params: params,
    lambda grads, state, params, **_: (jax.tree.map(jnp.zeros_like, grads), grads),
  )
  state = setting.init_state()
  players = {
    name: player.replace(opt_state=player.params) for name, player in state.players.items()
  }
  devices = jax.local_devices(backend=backend)[:1]
  function = _make_joint_step(setting, {PREDICTOR: recorder, CRITIC: recorder})
  step = pmap_step(function, devices=devices)
  state, _ = step(state.replace(players=players), shard_batch(setting.batch, devices=devices))
  return {name: player.opt_state for name, player in state.players.items()}


def _make_joint_step(setting: Setting, transformations: Mapping[str, Any] | None = None):
  return make_step(
    setting.game,
    transformations or setting.make_transformations(),
    active_players=(PREDICTOR, CRITIC),
    steps=setting.steps,
  )


def make_separate(step: SeparateStep) -> Callable[[], Any]:
  """Makes the step of two gradient calls and two updates, from their functions."""
  state = step.setting.init_state()

  def run() -> Any:
    nonlocal state
    state = step(state)
    return state

  return run


def make_pytorch(
  setting: Setting, device: str, *, compiled: bool = False
) -> "torch_step.ReleasedStep":
  """Makes the released scheme, with the weights that the JAX sides start from."""
  params = {name: player.params for name, player in setting.start.players.items()}
  return torch_step.ReleasedStep(setting, params, device, compiled=compiled)


def check_separate(step: SeparateStep) -> None:
  """Asserts that the separate gradients are those of the joint step."""
  # CPUs have one precision, and would compile the same program again.
  exact = jax.default_backend() == "cpu"
  with jax.default_matmul_precision(None if exact else "float32"):
    grads, _ = step.differentiate(step.setting.init_state())
    joint = compute_joint_gradients(step.setting)
    _assert_close(joint, grads, 1e-4, "gradients, ours and separate")


def check_pytorch(setting: Setting) -> None:
  """Asserts that PyTorch has the same logits, features, V and gradients as the joint step.

  Both on the CPU, whose float32 is not rounded further.
  """
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    _check_pytorch(setting)


def _check_pytorch(setting: Setting) -> None:
  state, side = setting.init_state(), make_pytorch(setting, "cpu")
  stats = state.players[PREDICTOR].batch_stats
  logits, _ = predict(setting, state.params[PREDICTOR], stats, setting.batch)
  analysis = analyze(setting, state.params[CRITIC], logits, setting.batch)
  expected = {
    "logits": logits,
    "features": {layer: analysis.predicted[layer] for layer in setting.term.layers},
    "value": compute_value(setting, analysis),
  }
  _assert_close(expected, side.differentiate(), 1e-3, "forward passes, ours and pytorch")
  # Now and then an activation rounds to the other side of a ReLU's kink, which moves gradients.
  gradients = compute_joint_gradients(setting, "cpu")
  _assert_close(gradients, side.gradients(), 2e-2, "gradients, ours and pytorch")


def _assert_close(expected: Any, actual: Any, tolerance: float, name: str) -> None:
  """Holds the norm of every leaf's difference against the norm of the leaf."""

  def error(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-30))

  worst = max(jax.tree.leaves(jax.tree.map(error, expected, actual)))
  assert worst < tolerance, f"{name} differ by {worst:.1e} of the norm"
  print(f"  {name}: agree to {worst:.0e}")


def report(title: str, times: Mapping[str, np.ndarray]) -> None:
  """Prints and records medians, and the medians and spreads of the ratios of each round."""
  for name, seconds in times.items():
    ratio = times["ours"] / seconds
    if name != "ours":
      record_ratio(f"{title}: ours / {name}", ratio)
    low, middle, high = np.percentile(ratio, (10, 50, 90))
    against = f"   ours / {name} = {middle:.2f}  ({low:.2f} to {high:.2f}, 10th to 90th percentile)"
    suffix = "" if name == "ours" else against
    print(f"  {name:10}{1e3 * np.median(seconds):8.1f} ms a step{suffix}")


def benchmark(preset: str, args: argparse.Namespace, device: str, *, with_torch: bool) -> None:
  """Checks, times and reports one preset."""
  size, network = "x".join(map(str, args.size)), f"{args.levels} levels of width {args.width}"
  print(f"{preset}: batch {args.batch}, {size}, {network}, stride {args.stride}")
  setting = make_setting(preset, args)
  joint, separate = JointStep(setting), SeparateStep(setting)
  check_separate(separate)
  sides = {
    "ours": joint,
    "unguarded": JointStep(setting, guards=False),
    "separate": make_separate(separate),
  }
  if with_torch:
    check_pytorch(setting)
    sides["pytorch"] = make_pytorch(setting, device)
    if args.compile:
      sides["compiled"] = make_pytorch(setting, device, compiled=True)
  calls = count_calls(device)
  times = time_in_turns(sides, args.rounds, warm_ups=WARM_UPS, calls=calls, pause=PAUSE)
  report(f"step of structure matching ({preset}), batch {args.batch} of {size}", times)
  ours, others = joint.flops(), separate.flops()
  print(
    f"  programs: ours {ours / 1e9:.2f} GFLOP, separate {others / 1e9:.2f} GFLOP, "
    f"ours / separate = {ours / others:.2f}"
  )


def explain_missing_torch(args: argparse.Namespace) -> str:
  """Returns the reason to leave PyTorch out; empty if there is none."""
  if args.no_torch:
    return "--no-torch"
  return "PyTorch is not installed" if torch_step is None else ""


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--rounds", type=int, default=15, help="measured after 3 warm-ups")
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--size", type=parse_size, default=(144, 192), help="of the images: 144x192")
  parser.add_argument("--preset", choices=(*PRESETS, "both"), default="both")
  parser.add_argument("--width", type=int, default=32, help="of the U-Net's first level")
  parser.add_argument("--levels", type=int, default=4, help="of the U-Net")
  parser.add_argument("--stride", type=int, default=2, help="of the U-Net's output")
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
  parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
  parser.add_argument("--compile", action="store_true", help="time `torch.compile` as well")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  reason, device = explain_missing_torch(args), use_device(args.device)
  print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
  if reason:
    print(f"pytorch is left out: {reason}")
  else:
    torch_step.torch.set_num_threads(args.threads)
    print(f"PyTorch {torch_step.torch.__version__} with {args.threads} threads")
  for preset in PRESETS if args.preset == "both" else (args.preset,):
    benchmark(preset, args, device, with_torch=not reason)


if __name__ == "__main__":
  main()
