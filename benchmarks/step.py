"""Times one training step of adversarial structure matching against two usual ways to write it.

A step is everything from a batch to both players' new parameters: forward, backward and Adam for
predictor and critic. The networks, losses and optimizers are those of `configs/horse.py`.

  ours     the library's step: one scalar, one `value_and_grad`, compiled as a whole, state donated.
  separate two gradient calls in JAX, with the library's modules and losses: one of the predictor's
           loss, one of the critic's, each with a forward pass of its own; two jitted gradient
           functions and two jitted updates, called one after the other.
  pytorch  the released scheme in PyTorch (three analyzer passes, two backward passes), channels
           last, on the CPU; see `torch_step.py`.

First it is asserted that all sides compute the same thing. Then the sides take turns, so that
other work on the machine falls on all of them: the ratios are what counts. Still, PyTorch's
threads wait for each other at every layer and suffer most from cores that they must share; compare
with it on an idle machine, or give every side one core, as in the second line.

  python benchmarks/step.py --batch=4 --preset=both
  taskset -c 0 python benchmarks/step.py --threads=1
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asmjax import batch as batches
from asmjax.config.build import build_predictor
from asmjax.config.schema import construct
from asmjax.game import PREDICTOR, Game
from asmjax.losses.matching import layer_distances, matching_hinge, pool_mask
from asmjax.tasks import Segmentation
from asmjax.terms import Structure
from asmjax.terms.weight import evaluate_weight
from asmjax.train.optim import Optimizer
from asmjax.train.parallel import pmap_step, shard_batch
from asmjax.train.state import TrainState, init_state
from asmjax.train.step import make_step
from configs import horse

try:
  from benchmarks import torch_step
except ModuleNotFoundError as error:
  if error.name != "torch":
    raise
  torch_step = None

CRITIC = "structure"
PRESETS = {"paper": "asm", "released": "asm_released"}
WARM_UPS = 3
# Worker threads of one side may spin for a while before they sleep.
PAUSE = 0.02


@dataclasses.dataclass(frozen=True)
class Setting:
  """What all sides train: networks, losses, optimizers and one batch."""

  game: Game
  optimizers: Mapping[str, Optimizer]
  steps: int
  batch: Mapping[str, np.ndarray]

  @property
  def task(self) -> Segmentation:
    """The only task."""
    return self.game.tasks["segmentation"]

  @property
  def term(self) -> Structure:
    """The only term."""
    return self.game.terms[CRITIC]

  def make_transformations(self) -> dict[str, optax.GradientTransformationExtraArgs]:
    """The optax transformation of each player."""
    return {name: each.make_transformation(self.steps) for name, each in self.optimizers.items()}

  @functools.cached_property
  def start(self) -> TrainState:
    """The state that all sides start from, on the host."""
    return jax.device_get(
      init_state(
        self.game, self.make_transformations(), seed=0, image_size=self.batch["image"].shape[1:3]
      )
    )

  def init_state(self) -> TrainState:
    """A copy of `start` on the device, to be donated."""
    return jax.tree.map(jnp.array, self.start)


def make_setting(preset: str, args: argparse.Namespace) -> Setting:
  """The horse config of a preset, with the flags' sizes and a random batch."""
  config = horse.get_config(PRESETS[preset])
  task = Segmentation(("ground", "horse"))
  section = config.predictor.to_dict() | {"width": args.width, "stride": args.stride}
  predictor = build_predictor(section, {"segmentation": task.channels})
  term = construct(Structure, config.terms[CRITIC], CRITIC)
  names = {PREDICTOR: "predictor", CRITIC: "critic"}
  return Setting(
    game=Game(predictor, {"segmentation": task}, {CRITIC: term}),
    optimizers={
      player: construct(Optimizer, config.optimizer[name], name) for player, name in names.items()
    },
    steps=config.train.steps,
    batch=random_batch(args.batch, args.size, task.channels),
  )


def random_batch(n: int, size: tuple[int, int], classes: int) -> dict[str, np.ndarray]:
  """Random images and labels, one pixel in a hundred unlabeled."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, classes, (n, *size)).astype(np.int32)
  label[rng.random(label.shape) < 0.01] = batches.UNLABELED
  return {
    "image": rng.integers(0, 256, (n, *size, 3)).astype(np.uint8),
    "label": label,
    "weight": np.ones(n, np.float32),
  }


def ours(setting: Setting) -> Callable[[], None]:
  """The library's joint step, as the loop runs it."""
  devices = jax.local_devices()[:1]
  step = pmap_step(_joint(setting), devices=devices, donate=True)
  state = setting.init_state()

  def run() -> None:
    nonlocal state
    state, metrics = step(state, shard_batch(setting.batch, devices=devices))
    jax.block_until_ready((state, metrics))

  return run


def ours_flops(setting: Setting) -> float:
  """Floating-point operations of the compiled joint step."""
  devices = jax.local_devices()[:1]
  step = pmap_step(_joint(setting), devices=devices)
  return _flops(step, setting.init_state(), shard_batch(setting.batch, devices=devices))


def joint_gradients(setting: Setting) -> dict[str, Any]:
  """The gradients that the joint step hands to the optimizers, by player."""
  recorder = optax.GradientTransformationExtraArgs(
    lambda params: params,
    lambda grads, state, params, **_: (jax.tree.map(jnp.zeros_like, grads), grads),
  )
  state = setting.init_state()
  players = {name: each.replace(opt_state=each.params) for name, each in state.players.items()}
  devices = jax.local_devices()[:1]
  step = pmap_step(_joint(setting, {PREDICTOR: recorder, CRITIC: recorder}), devices=devices)
  state, _ = step(state.replace(players=players), shard_batch(setting.batch, devices=devices))
  return {name: player.opt_state for name, player in state.players.items()}


def _joint(setting: Setting, transformations: Mapping[str, Any] | None = None):
  return make_step(
    setting.game,
    transformations or setting.make_transformations(),
    active_players=(PREDICTOR, CRITIC),
    steps=setting.steps,
  )


def predictor_loss(
  setting: Setting, params: Any, batch_stats: Any, critic: Any, batch: Mapping[str, Any], step: Any
) -> tuple[jax.Array, Any]:
  """V for the predictor, and its new running statistics."""
  logits, updated = _predict(setting, params, batch_stats, batch)
  shown, features, masks, _, _ = _analyze(setting, critic, logits, batch)
  return evaluate_weight(setting.term.weight, step / setting.steps) * _value(
    setting, shown, features, masks
  ), (updated)


def critic_loss(
  setting: Setting,
  params: Any,
  predictor: Any,
  batch_stats: Any,
  batch: Mapping[str, Any],
  step: Any,
) -> jax.Array:
  """-critic_weight * V (or the hinge, with a margin) + lambda * reconstruction."""
  term = setting.term
  logits, _ = _predict(setting, predictor, batch_stats, batch)
  shown, features, masks, rebuilt, truth = _analyze(setting, params, logits, batch, climbs=True)
  if term.margin:
    climbed = sum(
      matching_hinge(
        shown[layer],
        features[layer],
        margin=term.margin,
        mask=masks[layer],
        normalize=term.normalize,
      ).mean()
      for layer in term.layers
    )
  else:
    climbed = -_value(setting, shown, features, masks)
  reconstruction = setting.task.reconstruction_loss(rebuilt, truth).mean()
  return (
    evaluate_weight(term.critic_weight, step / setting.steps) * climbed
    + term.reconstruction_weight * reconstruction
  )


def _predict(setting: Setting, params: Any, batch_stats: Any, batch: Mapping[str, Any]):
  outputs, updated = setting.game.predictor.apply(
    {"params": params, "batch_stats": batch_stats},
    setting.game.input_transform(batch["image"]),
    train=True,
    mutable=["batch_stats"],
  )
  return outputs["segmentation"], updated["batch_stats"]


def _analyze(
  setting: Setting, critic: Any, logits: Any, batch: Mapping[str, Any], climbs: bool = False
):
  """Features of prediction and truth, where they are valid, the reconstruction and the truth.

  Where the critic `climbs`, the prediction is binarized if its term says so.
  """
  task, term = setting.task, setting.term
  truth = batches.downsample(batch, logits.shape[1:3], align_corners=setting.game.align_corners)
  labeled = task.mask(truth)
  features, rebuilt = term.critic.apply({"params": critic}, task.true_structure(truth) * labeled)
  structure = task.hard_structure if climbs and term.binarize else task.structure
  shown, _ = term.critic.apply({"params": critic}, structure(logits) * labeled)
  masks = {
    layer: pool_mask(
      labeled, features[layer].shape[1:3], count_partial_cells=term.count_partial_cells
    )
    for layer in term.layers
  }
  return shown, features, masks, rebuilt, truth


def _value(setting: Setting, shown: Any, features: Any, masks: Any) -> jax.Array:
  distances = layer_distances(
    shown, features, setting.term.layers, masks=masks, normalize=setting.term.normalize
  )
  return sum(distance.mean() for distance in distances.values())


@dataclasses.dataclass(frozen=True)
class Separate:
  """The jitted functions of the separate scheme, and their calls for one step."""

  setting: Setting

  @functools.cached_property
  def predictor_grad(self) -> Callable:
    """(params, batch_stats, critic's params, batch, step) -> ((loss, batch_stats), gradient)."""
    loss = functools.partial(predictor_loss, self.setting)
    return jax.jit(jax.value_and_grad(loss, has_aux=True))

  @functools.cached_property
  def critic_grad(self) -> Callable:
    """(params, predictor's params, batch_stats, batch, step) -> (loss, gradient)."""
    return jax.jit(jax.value_and_grad(functools.partial(critic_loss, self.setting)))

  @functools.cached_property
  def updates(self) -> dict[str, Callable]:
    """(params, opt_state, gradient, step) -> (params, opt_state), by player."""

    def update(tx, params, opt_state, grads, step):
      updates, opt_state = tx.update(grads, opt_state, params, step=step)
      return optax.apply_updates(params, updates), opt_state

    return {
      name: jax.jit(functools.partial(update, tx), donate_argnums=(0, 1))
      for name, tx in self.setting.make_transformations().items()
    }

  def differentiate(self, state: TrainState) -> tuple[dict[str, Any], Any]:
    """Gradients by player, and the predictor's new running statistics."""
    predictor, critic = state.players[PREDICTOR], state.players[CRITIC]
    (_, stats), for_predictor = self.predictor_grad(
      predictor.params, predictor.batch_stats, critic.params, self.setting.batch, state.step
    )
    _, for_critic = self.critic_grad(
      critic.params, predictor.params, predictor.batch_stats, self.setting.batch, state.step
    )
    return {PREDICTOR: for_predictor, CRITIC: for_critic}, stats

  def __call__(self, state: TrainState) -> TrainState:
    """One step; takes the memory of `state`."""
    grads, stats = self.differentiate(state)
    players = {}
    for name, player in state.players.items():
      params, opt_state = self.updates[name](
        player.params, player.opt_state, grads[name], state.step
      )
      players[name] = player.replace(params=params, opt_state=opt_state)
    players[PREDICTOR] = players[PREDICTOR].replace(batch_stats=stats)
    return state.replace(step=state.step + 1, players=players)

  def flops(self) -> float:
    """Floating-point operations of the four compiled functions together."""
    state = self.setting.init_state()
    predictor, critic = state.players[PREDICTOR], state.players[CRITIC]
    batch, step = self.setting.batch, state.step
    return (
      _flops(
        self.predictor_grad, predictor.params, predictor.batch_stats, critic.params, batch, step
      )
      + _flops(
        self.critic_grad, critic.params, predictor.params, predictor.batch_stats, batch, step
      )
      + sum(
        _flops(self.updates[name], player.params, player.opt_state, player.params, step)
        for name, player in state.players.items()
      )
    )


def separate(setting: Setting) -> Callable[[], None]:
  """Two gradient calls and two updates."""
  step, state = Separate(setting), setting.init_state()

  def run() -> None:
    nonlocal state
    state = step(state)
    jax.block_until_ready(state)

  return run


def pytorch(setting: Setting) -> "torch_step.ReleasedStep":
  """The released scheme, with the weights that the JAX sides start from."""
  game, state, classes = setting.game, setting.init_state(), setting.task.channels
  module = game.predictor
  widths = tuple(min(module.width * 2**i, module.max_width) for i in range(module.levels))
  predictor = torch_step.UNet(widths, module.stride, classes)
  critic = torch_step.StructureAutoencoder(setting.term.critic.filters, classes)
  torch_step.load(predictor, state.players[PREDICTOR].params)
  torch_step.load(critic, state.players[CRITIC].params)
  return torch_step.ReleasedStep(
    setting.term, predictor, critic, setting.optimizers, setting.steps, setting.batch
  )


def check_separate(setting: Setting) -> None:
  """Asserts that the separate gradients are those of the joint step."""
  with jax.default_matmul_precision("float32"):
    grads, _ = Separate(setting).differentiate(setting.init_state())
    _assert_close(joint_gradients(setting), grads, 1e-4, "gradients, ours and separate")


def check_pytorch(setting: Setting) -> None:
  """Asserts that PyTorch has the same logits, features, V and gradients as the joint step."""
  side, state = pytorch(setting), setting.init_state()
  params = {name: player.params for name, player in state.players.items()}
  logits, _ = _predict(
    setting, params[PREDICTOR], state.players[PREDICTOR].batch_stats, setting.batch
  )
  shown, features, masks, _, _ = _analyze(setting, params[CRITIC], logits, setting.batch)
  expected = {
    "logits": logits,
    "features": {layer: shown[layer] for layer in setting.term.layers},
    "value": _value(setting, shown, features, masks),
  }
  found = side.differentiate()
  found = {
    "logits": torch_step.nhwc(found["logits"]),
    "features": {k: torch_step.nhwc(found["features"][k]) for k in setting.term.layers},
    "value": found["value"].item(),
  }
  _assert_close(expected, found, 1e-3, "forward passes, ours and pytorch")
  grads = {name: torch_step.gradients(net, params[name]) for name, net in side.nets.items()}
  # Now and then an activation rounds to the other side of a ReLU's kink, which moves gradients.
  _assert_close(joint_gradients(setting), grads, 2e-2, "gradients, ours and pytorch")


def _assert_close(expected: Any, found: Any, tolerance: float, what: str) -> None:
  """Holds the norm of every leaf's difference against the norm of the leaf."""

  def error(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-30))

  worst = max(jax.tree.leaves(jax.tree.map(error, expected, found)))
  assert worst < tolerance, f"{what} differ by {worst:.1e} of the norm"
  print(f"  {what}: agree to {worst:.0e}")


def _flops(function: Any, *args: Any) -> float:
  costs = function.lower(*args).compile().cost_analysis()
  return (costs[0] if isinstance(costs, list) else costs)["flops"]


def measure(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
  """Seconds a step by side and round; the sides take turns."""
  times: dict[str, list[float]] = {name: [] for name in sides}
  for i in range(WARM_UPS + rounds):
    for name, run in sides.items():
      time.sleep(PAUSE)
      start = time.perf_counter()
      run()
      if i >= WARM_UPS:
        times[name].append(time.perf_counter() - start)
  return {name: np.asarray(each) for name, each in times.items()}


def report(times: Mapping[str, np.ndarray]) -> None:
  """Prints median times, and the medians and spreads of the ratios of each round."""
  for name, seconds in times.items():
    ratio = times["ours"] / seconds
    low, middle, high = np.percentile(ratio, (10, 50, 90))
    against = (
      ""
      if name == "ours"
      else (f"   ours / {name} = {middle:.2f}  ({low:.2f} to {high:.2f}, 10th to 90th percentile)")
    )
    print(f"  {name:9}{1e3 * np.median(seconds):8.1f} ms a step{against}")


def benchmark(preset: str, args: argparse.Namespace, *, with_torch: bool) -> None:
  """Checks, times and reports one preset."""
  size = "x".join(map(str, args.size))
  print(f"{preset}: batch {args.batch}, {size}, width {args.width}, stride {args.stride}")
  setting = make_setting(preset, args)
  check_separate(setting)
  sides = {"ours": ours(setting), "separate": separate(setting)}
  if with_torch:
    check_pytorch(setting)
    sides["pytorch"] = pytorch(setting)
  report(measure(sides, args.rounds))
  joint, apart = ours_flops(setting), Separate(setting).flops()
  print(
    f"  compiled: ours {joint / 1e9:.2f} GFLOP, separate {apart / 1e9:.2f} GFLOP, "
    f"ours / separate = {joint / apart:.2f}"
  )


def why_not_torch(args: argparse.Namespace) -> str:
  """The reason to leave PyTorch out; empty if there is none."""
  if args.no_torch:
    return "--no-torch"
  if torch_step is None:
    return "PyTorch is not installed"
  if jax.default_backend() != "cpu":
    return f"it is timed on the CPU and JAX runs on the {jax.default_backend()}"
  return ""


def parse() -> argparse.Namespace:
  """The flags."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rounds", type=int, default=15, help="measured after 3 warm-ups")
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--size", type=_size, default=(144, 192), help="of the images: 144x192")
  parser.add_argument("--preset", choices=(*PRESETS, "both"), default="both")
  parser.add_argument("--width", type=int, default=32, help="of the U-Net's first level")
  parser.add_argument("--stride", type=int, default=2, help="of the U-Net's output")
  parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
  parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
  return parser.parse_args()


def _size(text: str) -> tuple[int, ...]:
  return tuple(int(side) for side in text.split("x"))


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse()
  reason = why_not_torch(args)
  print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
  if reason:
    print(f"pytorch is left out: {reason}")
  else:
    torch_step.torch.set_num_threads(args.threads)
    print(f"PyTorch {torch_step.torch.__version__} with {args.threads} threads")
  for preset in PRESETS if args.preset == "both" else (args.preset,):
    benchmark(preset, args, with_torch=not reason)


if __name__ == "__main__":
  main()
