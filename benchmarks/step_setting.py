"""What all sides of `step.py` train: networks, losses, optimizers and a batch."""

import argparse
import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asmjax import batch as batches
from asmjax.config.build import build_predictor
from asmjax.config.schema import construct
from asmjax.game import PREDICTOR, Game
from asmjax.tasks import Segmentation
from asmjax.terms import Structure
from asmjax.train.optim import Optimizer
from asmjax.train.state import TrainState, init_state
from configs import horse

CRITIC = "structure"
_NETWORK = ("levels", "width", "stride")  # Flags of the U-Net.
PRESETS = {"paper": "asm", "released": "asm_released"}


@dataclasses.dataclass(frozen=True)
class Setting:
  """Subject of all sides: networks, losses, optimizers and one batch."""

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
    """Builds the optax transformation of each player."""
    return {
      name: optimizer.make_transformation(self.steps) for name, optimizer in self.optimizers.items()
    }

  @functools.cached_property
  def start(self) -> TrainState:
    """State that all sides start from, on the host."""
    return jax.device_get(
      init_state(
        self.game, self.make_transformations(), seed=0, image_size=self.batch["image"].shape[1:3]
      )
    )

  def init_state(self) -> TrainState:
    """Copies `start` to the device, to be donated."""
    return jax.tree.map(jnp.array, self.start)


def make_setting(
  preset: str, args: argparse.Namespace, classes: tuple[str, ...] = ("ground", "horse")
) -> Setting:
  """Builds the horse config of a preset, with the flags' sizes, a random batch, and any classes."""
  config = horse.get_config(PRESETS[preset])
  task = Segmentation(classes)
  section = config.predictor.to_dict() | {key: getattr(args, key) for key in _NETWORK}
  predictor = build_predictor(section, {"segmentation": task.channels})
  term = construct(Structure, config.terms[CRITIC], CRITIC)
  names = {PREDICTOR: "predictor", CRITIC: "critic"}
  return Setting(
    game=Game(predictor, {"segmentation": task}, {CRITIC: term}),
    optimizers={
      player: construct(Optimizer, config.optimizer[name], name) for player, name in names.items()
    },
    steps=config.train.steps,
    batch=draw_batch(args.batch, args.size, task.channels),
  )


def draw_batch(n: int, size: tuple[int, int], classes: int) -> dict[str, np.ndarray]:
  """Draws random images and labels, one pixel in a hundred unlabeled."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, classes, (n, *size)).astype(np.int32)
  label[rng.random(label.shape) < 0.01] = batches.UNLABELED
  return {
    "image": rng.integers(0, 256, (n, *size, 3)).astype(np.uint8),
    "label": label,
    "weight": np.ones(n, np.float32),
  }
