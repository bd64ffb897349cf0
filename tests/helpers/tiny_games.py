"""Tiny games and batches that the tests share."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from asmjax.game import Game, joint_objective
from asmjax.models.critics import PatchNet, StructureAutoencoder, TwoBranchNet
from asmjax.models.layers import Conv, Norm
from asmjax.models.predictors import UNet
from asmjax.tasks import Depth, Normals, Segmentation
from asmjax.terms import Adversarial, Affinity, Embedding, Pixel, Structure
from asmjax.terms.base import FEATURES, TermContext

SIZE = (8, 12)
TASK = Segmentation(("ground", "wheel", "chair"))
TASKS = {"segmentation": TASK, "depth": Depth(), "normals": Normals()}
RELEASED = {
  "normalize": "pixel",
  "margin": 0.8,
  "critic_weight": 0.5,
  "count_partial_cells": False,
  "reconstruction_weight": 0.0,
}


def structure(**settings) -> Structure:
  """The structure term with a tiny autoencoder of 3 layers."""
  return Structure(**{"critic": StructureAutoencoder(filters=(4, 6)), **settings})


def adversarial(norm="none", **settings) -> Adversarial:
  """The adversarial term with a tiny network, whose every second pixel has a logit."""
  return Adversarial(**{"critic": PatchNet((4, 6), norm=Norm(norm)), **settings})


class TinyBranches(TwoBranchNet):
  """Two branches with hardly any channels."""

  @nn.compact
  def __call__(self, structure, image, *, train):
    branch = lambda x, name: nn.relu(Conv(4, 3, 2, dtype=self.dtype, name=name)(x))
    joined = jnp.concatenate([branch(structure, "structure"), branch(image, "image")], -1)
    return Conv(1, dtype=self.dtype, name="logit")(joined)


def gan(pixel=1.0, **settings) -> dict:
  """Pixel loss and adversarial term."""
  return {"pixel": Pixel(weight=pixel), "adversarial": adversarial(**settings)}


def game(norm="batch", tasks=("segmentation",), levels=2, **terms) -> Game:
  """A tiny game; with the structure term unless others are given."""
  trained = {name: TASKS[name] for name in tasks}
  heads = {name: task.channels for name, task in trained.items()}
  predictor = UNet(heads, levels=levels, width=4, norm=Norm(norm))
  return Game(predictor, trained, terms or {"structure": structure()})


AAF = Affinity(
  weight=0.7, adaptive=True, critic_weight=0.3, sizes=(3, 5), neighbors="full", weight_by="channel"
)
AAF_RELEASED = Affinity(
  weight=0.7, adaptive=True, critic_weight=0.3, sizes=(3, 5), ignore="opposite"
)

METHODS = {
  "iid": {"pixel": Pixel()},
  "asm": {"structure": structure()},
  "asm_released": {"structure": structure(**RELEASED)},
  "asm_binarized": {"structure": structure(binarize=True, reconstruction_weight=0.0)},
  "asm_by_image": {"structure": structure(normalize="image", reconstruction_weight=0.0)},
  "asm_released_binarized": {"structure": structure(binarize=True, **RELEASED)},
  "asm_no_adv": {"structure": structure(critic_weight=0.0)},
  "asm_no_rec": {"structure": structure(reconstruction_weight=0.0)},
  "iid_asm": {
    "pixel": Pixel(weight=0.5),
    "structure": structure(weight=0.7, critic_weight=0.3, reconstruction_weight=0.0),
  },
  "iid_asm_balanced": {
    "pixel": Pixel(),
    "structure": structure(weight=20.0, balance=0.3, reconstruction_weight=0.0),
  },
  "asm_depth": {"structure": structure(reconstruction_weight=0.0)},
  "asm_normals": {"structure": structure(reconstruction_weight=0.0)},
  "iid_asm_all": {"pixel": Pixel(weight=0.5), "structure": structure()},
  "asm_released_all": {"structure": structure(**RELEASED | {"reconstruction_weight": 1.0})},
  "gan_basic": gan(weight=0.7),
  "gan_product": gan(inputs="product", critic_weight=0.4),
  "gan_scaling": gan(inputs="scaling"),
  "gan_branches": gan(inputs="branches", critic=TinyBranches()),
  "cgan": gan(inputs="concatenated", norm="batch", weight=0.02, critic_weight=0.01),
  "gan_joint_batch": gan(inputs="scaling", norm="batch", joint_batch=True),
  "gan_hard": gan(inputs="product", norm="batch", joint_batch=True, hard=True, critic_weight=0.4),
  "gan_saturating": gan(saturating=True, label_smoothing=0.1, critic_weight=0.3),
  "gan_penalty": gan(inputs="concatenated", r1_weight=3.0, critic_weight=0.4),
  "gan_depth": gan(pixel=0.5),
  "gan_all": gan(downsample=2),
  "affinity": {"pixel": Pixel(), "affinity": Affinity(weight=0.7)},
  "aaf": {"pixel": Pixel(), "affinity": AAF},
  "aaf_released": {"pixel": Pixel(), "affinity": AAF_RELEASED},
  "embedding": {"pixel": Pixel(), "embedding": Embedding(weight=0.7)},
  "asm_aaf": {"pixel": Pixel(), "structure": structure(), "affinity": AAF_RELEASED},
  "medley": gan(pixel=0.5, weight=0.3)
  | {
    "structure": structure(weight=0.7, critic_weight=0.3),
    "affinity": Affinity(weight=0.7),
    "embedding": Embedding(weight=0.2),
  },
}

# The tasks of methods that train another one than segmentation.
TRAINED = {
  "asm_depth": ("depth",),
  "asm_normals": ("normals",),
  "iid_asm_all": tuple(TASKS),
  "asm_released_all": tuple(TASKS),
  "gan_depth": ("depth",),
  "gan_all": tuple(TASKS),
}


def of_method(name: str, **options) -> Game:
  """The tiny game of a method; options as for `game`."""
  return game(tasks=TRAINED.get(name, ("segmentation",)), **options, **METHODS[name])


def with_term(kind: str) -> list[str]:
  """The methods that are a pixel loss and a term of that name."""
  return [method for method, terms in METHODS.items() if set(terms) - {"pixel"} == {kind}]


def with_compute_dtype(dtype, players: Game) -> Game:
  """The same game with another compute type."""
  terms = {name: term.with_compute_dtype(dtype) for name, term in players.terms.items()}
  predictor = players.predictor.clone(dtype=dtype)
  return dataclasses.replace(players, predictor=predictor, terms=terms)


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
    "image": image,
    "label": label,
    "depth": depth,
    "normals": normals,
    "weight": np.ones(n, np.float32),
  }


def variables(players: Game, seed=0) -> tuple[dict, dict]:
  """Parameters and statistics by player, which NumPy draws: an initialization compiles for long."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = path[-1].key
    if name in ("kernel", "bias"):
      scale = (2 / math.prod(leaf.shape[:-1])) ** 0.5 if name == "kernel" else 0.1
      return rng.normal(scale=scale, size=leaf.shape).astype(leaf.dtype)
    return np.full(leaf.shape, name in ("scale", "var"), leaf.dtype)

  shapes = jax.eval_shape(lambda: players.init(jax.random.key(0), SIZE))
  each = jax.tree.map_with_path(draw, shapes)
  return (
    {name: v["params"] for name, v in each.items()},
    {name: v.get("batch_stats", {}) for name, v in each.items()},
  )


def joint_gradients(players: Game, params, stats, examples, **options):
  """Gradients of the joint scalar, without any device axis."""

  def objective(params):
    output = players.compute_losses(params, stats, examples, rng=jax.random.key(0), **options)
    return joint_objective(output.losses)

  return jax.grad(objective)(params)


def compile_players_alone(players: Game, own_values, num_examples=4):
  """Compiles each player's own gradient beside the joint one, in double precision.

  Args:
    players: The game.
    own_values: Function of (players, params, stats, examples) that returns the value which each
      player descends, right in its own parameters alone; and others by further names.
    num_examples: Number of examples in the batch.

  Returns:
    `play(**params)` to "values", "own" and "joint" gradients, by player; and the parameters of the
    players that it is not given.
  """
  (params, stats), examples = double(variables(players)), double(batch(num_examples))
  # Weights of 0 would have the gradients of even ones alone.
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda p: p + rng.normal(scale=0.02, size=p.shape), params)

  def evaluate_own(params):
    values = own_values(players, params, stats, examples)
    return jnp.stack([values[player] for player in params]), values

  @jax.jit
  def everything(params):
    # Traced once, and not again for each player.
    _, pull_back, values = jax.vjp(evaluate_own, params, has_aux=True)
    rows = zip(params, np.eye(len(params)), strict=True)
    return {
      "values": values,
      "own": {player: pull_back(jnp.asarray(row))[0][player] for player, row in rows},
      "joint": joint_gradients(players, params, stats, examples),
    }

  return lambda **moved: everything({**params, **moved}), params


def assert_joint_gradients_are_own(play, params) -> None:
  """Joint gradients are the players' own, and a small step along each lowers the own value."""
  before = play()
  for player, own in before["own"].items():
    scale = float(optax.tree.norm(own))
    assert scale > 0
    jax.tree.map(
      lambda a, b, s=scale: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * s),
      before["joint"][player],
      own,
    )
    length = 1e-3 / scale
    step = jax.tree.map(lambda p, g, s=length: p - s * g, params[player], before["joint"][player])
    assert play(**{player: step})["values"][player] < before["values"][player]


def evaluate(term, tasks, outputs, truth, *, critic=None, progress=0.0, rng=0):
  """Output of a term for a predictor's outputs and the truth at their size."""
  context = TermContext(
    tasks=tasks,
    outputs=outputs,
    truth=truth,
    rng=jax.random.key(rng) if isinstance(rng, int) else rng,
    critic=critic or {},
    progress=progress,
  )
  return term(context)


def compile_term(players: Game, name: str):
  """Compiles one term on random outputs, without the predictor.

  Returns:
    `judge(critic, outputs, examples, progress)` to the means of the losses, and the gradients of
    their weighted sum by the critic's parameters and by the outputs; and its first two arguments.
  """
  term, rng = players.terms[name], np.random.default_rng(1)
  params, stats = variables(players)
  critic = {"params": params.get(name, {}), "batch_stats": stats.get(name, {})}
  channels = {name: task.channels for name, task in players.tasks.items()} | {FEATURES: 5}
  outputs = {
    name: jnp.array(rng.normal(size=(4, *SIZE, count)), jnp.float32)
    for name, count in channels.items()
  }

  @jax.jit
  def judge(critic, outputs, examples, progress=0.0):
    def value(params, outputs):
      variables = {**critic, "params": params}
      losses = evaluate(
        term, players.tasks, outputs, examples, critic=variables, progress=progress
      ).losses
      return joint_objective(losses), {key: loss.value.mean() for key, loss in losses.items()}

    gradients, means = jax.grad(value, (0, 1), has_aux=True)(critic["params"], outputs)
    return means, gradients

  return judge, critic, outputs


def assert_missing_pixels_are_ignored(players: Game, name: str) -> None:
  """What is predicted where a task's truth is missing changes no value and no gradient.

  And without any truth every value is 0, and so is every gradient.
  """
  judge, critic, outputs = compile_term(players, name)
  examples, rng = batch(4), np.random.default_rng(2)
  missing = {key: task.mask(examples)[..., 0] == 0 for key, task in players.tasks.items()}
  missing[FEATURES] = next(iter(missing.values()))
  elsewhere = {
    key: jnp.where(missing[key][..., None], rng.normal(size=each.shape), each)
    for key, each in outputs.items()
    if key in missing
  }
  expected = judge(critic, outputs, examples)
  jax.tree.map(np.testing.assert_array_equal, judge(critic, elsewhere, examples), expected)
  of_critic, of_outputs = expected[1]
  for leaf in jax.tree.leaves(of_critic):
    assert np.any(leaf != 0)
  moved = [key for key, each in of_outputs.items() if np.any(each != 0)]
  assert moved
  for key in moved:
    assert np.all(of_outputs[key][missing[key]] == 0)
  unlabeled = {"label": 255, "depth": 0, "normals": 0}
  blank = {key: np.full_like(x, unlabeled.get(key, x)) for key, x in examples.items()}
  means, gradients = judge(critic, outputs, blank)
  for key, each in means.items():
    assert each == 0 or key.startswith("max_weight_")
  for leaf in jax.tree.leaves(gradients):
    assert np.all(leaf == 0)


def double(tree):
  """Floating-point leaves as float64."""
  wide = lambda x: x.astype("float64") if np.issubdtype(x.dtype, np.floating) else x
  return jax.tree.map(wide, tree)
