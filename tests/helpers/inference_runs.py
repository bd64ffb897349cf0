"""Tiny trained predictors."""

import functools
import json
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from asmjax.config.build import build_experiment
from asmjax.data.descriptor import Descriptor
from asmjax.data.transforms import Augment
from asmjax.game import PREDICTOR, Game
from asmjax.inference.trained import TrainedPredictor
from asmjax.models.layers import Conv
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games

USUAL = (16, 24)
# The color of padding, which no transform's mean is.
FILL = (10, 120, 230)
DESCRIPTOR = Descriptor(
  "tiny",
  games.TASK.classes,
  ((0, 0, 0), (200, 40, 40), (40, 40, 200)),
  ("train", "val"),
  frozenset({"label", "depth", "normals"}),
)
# How far `Local` sees from a pixel.
REACH = 2


class Local(nn.Module):
  """Sees `REACH` pixels around each one, at full resolution."""

  heads: Mapping[str, int]

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.tanh(Conv(6, name="first")(x))
    return {name: Conv(count, name=f"head_{name}")(x) for name, count in self.heads.items()}


class Strided(nn.Module):
  """Its maps have half of the image's size, and depend on no other pixel."""

  heads: Mapping[str, int]

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.tanh(Conv(6, 2, 2, name="first")(x))
    return {name: Conv(count, 1, name=f"head_{name}")(x) for name, count in self.heads.items()}


class Constant(nn.Module):
  """Says the same everywhere."""

  heads: Mapping[str, int]

  @nn.compact
  def __call__(self, x, *, train):
    values = {n: self.param(n, nn.initializers.normal(), (c,)) for n, c in self.heads.items()}
    return {n: jnp.broadcast_to(each, (*x.shape[:3], len(each))) for n, each in values.items()}


@functools.cache
def trained(
  network=Local, tasks=tuple(games.TASKS), resize="none", scale_depth=True
) -> TrainedPredictor:
  """A predictor with random weights."""
  chosen = {name: games.TASKS[name] for name in tasks}
  predictor = network({name: task.channels for name, task in chosen.items()})
  init = jax.jit(lambda key: predictor.init(key, jnp.zeros((1, *USUAL, 3)), train=False))
  return TrainedPredictor(
    Game(predictor, chosen, {}),
    init(jax.random.key(0)),
    DESCRIPTOR,
    Augment(USUAL, resize, fill=FILL),
    scale_depth,
  )


def image(*size, seed=0) -> np.ndarray:
  """Noise."""
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def run(folder, variant, **changes):
  """A run with random weights and two checkpoints: the first is its best, the second its last.

  Returns:
    Its experiment, and the state of each checkpoint.
  """
  config = small.config(variant, **changes)
  experiment = build_experiment(config)
  start, states = experiment.random_state(), []
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  with open_checkpoints(experiment, folder) as checkpoints:
    for step, score in ((1, 0.7), (2, 0.4)):
      times = lambda factor, tree: jax.tree.map(lambda x: (factor * x).astype(x.dtype), tree)
      player = start.players[PREDICTOR]
      moved = player.replace(
        params=times(step, player.params),
        batch_stats=times(step + 1, player.batch_stats),
        opt_state=times(step + 2, player.opt_state),
      )
      states.append(start.replace(players={**start.players, PREDICTOR: moved}))
      checkpoints.save(states[-1], {experiment.checkpointing.metric: score}, step=step)
  return experiment, states
