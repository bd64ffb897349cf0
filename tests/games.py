"""Tiny games and batches that the tests share."""

import jax
import numpy as np

from asmjax.minimax import PREDICTOR, Game, joint_value
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.models.predictors import UNet
from asmjax.tasks import Depth, Normals, Segmentation
from asmjax.terms import Pixel, Structure

SIZE = (8, 12)
TASK = Segmentation(("ground", "wheel", "chair"))
TASKS = {"segmentation": TASK, "depth": Depth(), "normals": Normals()}
RELEASED = {
  "normalise": True, "margin": 0.8, "ascent": 0.5, "partly": False, "reconstruction": 0.0,
}


def structure(**settings) -> Structure:
  """The structure term with a tiny autoencoder of 3 layers."""
  return Structure(**{"critic": StructureAutoencoder(filters=(4, 6)), **settings})


def game(norm="batch", tasks=("segmentation",), **terms) -> Game:
  """A tiny game; with the structure term unless others are given."""
  trained = {name: TASKS[name] for name in tasks}
  heads = {name: task.channels for name, task in trained.items()}
  predictor = UNet(heads, levels=2, width=4, norm=norm)
  return Game(predictor, trained, terms or {"structure": structure()})


METHODS = {
  "iid": {"pixel": Pixel()},
  "asm": {"structure": structure()},
  "asm_released": {"structure": structure(**RELEASED)},
  "asm_binarised": {"structure": structure(binarise=True, reconstruction=0.0)},
  "asm_no_adv": {"structure": structure(ascent=0.0)},
  "asm_no_rec": {"structure": structure(reconstruction=0.0)},
  "iid_asm": {
    "pixel": Pixel(weight=0.5),
    "structure": structure(weight=0.7, ascent=0.3, reconstruction=0.0),
  },
  "asm_depth": {"structure": structure(reconstruction=0.0)},
  "asm_normals": {"structure": structure(reconstruction=0.0)},
  "iid_asm_all": {"pixel": Pixel(weight=0.5), "structure": structure()},
  "asm_released_all": {"structure": structure(**RELEASED | {"reconstruction": 1.0})},
}

# The tasks of methods that train another one than segmentation.
TRAINED = {
  "asm_depth": ("depth",), "asm_normals": ("normals",), "iid_asm_all": tuple(TASKS),
  "asm_released_all": tuple(TASKS),
}


def of_method(name: str) -> Game:
  """The tiny game of a method."""
  return game(tasks=TRAINED.get(name, ("segmentation",)), **METHODS[name])


def batch(n=8, seed=0, size=SIZE) -> dict[str, np.ndarray]:
  """Random images and truths, a third of each missing, unevenly over the examples."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, TASK.channels, (n, *size)).astype(np.int32)
  label[rng.random(label.shape) < np.linspace(0, 0.7, n)[:, None, None]] = 255
  image = rng.integers(0, 256, (n, *size, 3)).astype(np.uint8)
  depth = rng.uniform(0.5, 5, (n, *size)).astype(np.float32)
  depth[rng.random(depth.shape) < np.linspace(0.6, 0, n)[:, None, None]] = 0
  normals = rng.normal(size=(n, *size, 3)).astype(np.float32)
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  normals[rng.random(depth.shape) < 0.3] = 0
  return {
    "image": image, "label": label, "depth": depth, "normals": normals,
    "weight": np.ones(n, np.float32),
  }


def variables(players: Game, seed=0) -> tuple[dict, dict]:
  """Parameters and statistics by player."""
  each = jax.jit(lambda key: players.init(key, SIZE))(jax.random.key(seed))
  return (
    {name: v["params"] for name, v in each.items()},
    {name: v.get("batch_stats", {}) for name, v in each.items()},
  )


def joint_gradients(players: Game, params, stats, examples, **options):
  """Gradients of the joint scalar, without any device axis."""

  def objective(params):
    played = players.play(params, stats, examples, rng=jax.random.key(0), **options)
    return joint_value(played.summands)

  return jax.grad(objective)(params)


def double(tree):
  """Floating-point leaves as float64."""
  wide = lambda x: x.astype("float64") if np.issubdtype(x.dtype, np.floating) else x
  return jax.tree.map(wide, tree)


__all__ = [
  "METHODS", "PREDICTOR", "SIZE", "TASK", "TASKS", "batch", "double", "game", "joint_gradients",
  "of_method", "structure", "variables",
]
