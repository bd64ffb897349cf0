"""Contrast of what the predictor's heads see."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR, Game
from asmjax.gradients import Probe
from asmjax.losses.embedding import contrastive_loss
from asmjax.models.input_transform import IMAGENET
from asmjax.terms import Embedding
from asmjax.terms.base import FEATURES
from tests.helpers import tiny_games as games


def own_values(players, params, stats, examples):
  """Pixel loss of the head's map and contrast of the features below it."""
  term, name = players.terms["embedding"], "head_segmentation"
  _, state = players.predictor.apply(
    {"params": params[PREDICTOR], "batch_stats": stats[PREDICTOR]},
    IMAGENET(examples["image"]),
    train=True,
    mutable=["batch_stats", "intermediates"],
  )
  (features,) = state["intermediates"][FEATURES]
  head = params[PREDICTOR][name]
  output = features @ head["kernel"][0, 0] + head["bias"].reshape(1, 1, 1, -1)
  contrast = contrastive_loss(
    features,
    examples["label"],
    classes=3,
    size=term.size,
    neighbors=term.neighbors,
    margin=term.margin,
  )
  iid = games.TASK.pixel_loss(output, examples).mean()
  return {PREDICTOR: iid + term.weight * sum(each.mean() for each in contrast)}


def test_embedding_is_descended_by_the_predictor(float64):
  players = games.of_method("embedding", levels=1, norm="none")
  assert players.critics == ()
  play, params = games.compile_players_alone(players, own_values)
  games.assert_joint_gradients_are_own(play, params)
  alone = games.game("none", levels=1, pixel=games.METHODS["iid"]["pixel"])
  _, stats = games.double(games.variables(players))
  gradients = jax.jit(lambda params: games.joint_gradients(alone, params, stats, games.batch(4)))
  of_pixel = gradients(params)[PREDICTOR]
  of_both = play()["joint"][PREDICTOR]
  # The heads are above the features: only what is below them learns from the contrast.
  difference = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), of_both, of_pixel)
  assert max(jax.tree.leaves(difference.pop("head_segmentation"))) < 1e-12
  assert min(jax.tree.leaves(difference)) > 1e-6


def test_embedding_ignores_missing_pixels():
  games.assert_missing_pixels_are_ignored(games.of_method("embedding", levels=1), "embedding")


class Silent(nn.Module):
  """A predictor that says nothing of its features."""

  @nn.compact
  def __call__(self, x, *, train):
    return {"segmentation": nn.Dense(3)(x)}


def test_embedding_refuses_outputs_without_features():
  players = Game(Silent(), {"segmentation": games.TASK}, {"embedding": Embedding()})
  params, stats = games.variables(players)
  with pytest.raises(
    ValueError, match="needs the features of the predictor's heads, sown as 'features'"
  ):
    jax.eval_shape(
      lambda: players.compute_losses(params, stats, games.batch(2), rng=jax.random.key(0)).losses[
        "x"
      ]
    )


def test_embedding_refuses_games_without_segmentation():
  with pytest.raises(ValueError, match="needs the task segmentation; trained: depth"):
    games.game(tasks=("depth",), embedding=Embedding())


def test_embedding_takes_the_heads_inputs_in_single_precision():
  players = games.with_compute_dtype(jnp.bfloat16, games.of_method("embedding", levels=1))
  params, stats = games.variables(players)
  probes = {name: Probe(0.0, 0.0) for name in players.terms}
  read = jax.jit(
    jax.grad(
      lambda probes: sum(
        part.value.total
        for part in players.compute_losses(
          params, stats, games.batch(2), rng=jax.random.key(0), probes=probes
        ).losses.values()
      )
    )
  )(probes)["embedding"].unscaled
  assert np.isfinite(read) and read > 0 and read.dtype == jnp.float32
