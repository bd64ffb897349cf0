"""Weights that change over the training."""

import dataclasses

import jax
import numpy as np
import pytest

from asmjax import terms
from asmjax.terms.geometry import GeometryLoss
from asmjax.terms.weight import Ramp, evaluate_weight, parse_weight
from tests.helpers import tiny_games as games


def test_ramp_follows_its_formula_and_rests_outside():
  decay = Ramp(3.0, 0.3)
  for progress in (0.0, 0.25, 0.5, 1.0):
    np.testing.assert_allclose(decay(progress), 3 * 10**-progress, rtol=1e-6)
  late = Ramp(0.0, 4.0, "linear", 0.1, 0.3)
  weights = [float(late(progress)) for progress in (0.0, 0.1, 0.15, 0.2, 0.3, 0.9)]
  np.testing.assert_allclose(weights, [0, 0, 1, 2, 4, 4], atol=1e-6)
  halved = Ramp(1.0, 0.01, begin=0.5)
  np.testing.assert_allclose([halved(p) for p in (0.2, 0.75, 1.0)], [1, 0.1, 0.01], rtol=1e-5)


def test_evaluate_weight_takes_numbers_and_ramps():
  assert evaluate_weight(0.7, 0.3) == 0.7 and evaluate_weight(Ramp(2.0, 1.0, "linear"), 0.5) == 1.5


TERMS = {
  "structure": games.structure(reconstruction_weight=0.0),
  "bounded": games.structure(**games.RELEASED),
  "affinity": games.AAF,
  "adversarial": games.adversarial(),
  "embedding": terms.Embedding(),
  "dice": terms.Dice(),
  "scale_invariant_log": terms.ScaleInvariantLog(),
  "gradient_matching": terms.GradientMatching(scales=1),
  "ssim": terms.SSIM(window=3),
  "smoothness": terms.Smoothness(),
}
ADAPTIVE = ("structure", "bounded", "affinity")


@pytest.mark.parametrize(
  "kind, weight",
  [*((kind, "weight") for kind in TERMS), *((kind, "critic_weight") for kind in ADAPTIVE)],
)
def test_terms_send_gradients_by_their_weights_at_the_progress(kind, weight):
  """None at first, and at the end twice those at half of the training."""
  is_geometry = isinstance(TERMS[kind], GeometryLoss)
  tasks = ("depth", "normals") if is_geometry else ("segmentation",)
  term = dataclasses.replace(TERMS[kind], **{weight: Ramp(0.0, 2.0, "linear")})
  players = games.game("none", tasks, levels=1, pixel=terms.Pixel(), **{kind: term})
  judge, critic, outputs = games.compile_term(players, kind)
  moved = {"critic_weight": 0, "weight": 1}[weight]  # The critic, or the outputs.
  start, half, end = (
    judge(critic, outputs, games.batch(4), at)[1][moved] for at in (0.0, 0.5, 1.0)
  )
  assert any(np.any(leaf) for leaf in jax.tree.leaves(end))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(start))
  twice = lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-4, atol=1e-9)
  jax.tree.map(twice, end, half)


@pytest.mark.parametrize(
  "settings, message",
  [
    ((1.0, 0.0), "positive"),
    ((-1.0, 1.0), "positive"),
    ((1.0, 2.0, "cosine"), "known: exponential"),
    ((0.0, 1.0, "linear", 0.5, 0.5), "begin < end"),
    ((0.0, 1.0, "linear", -0.1, 0.5), "0 <= begin"),
    ((0.0, 1.0, "linear", 0.5, 1.5), "end <= 1"),
  ],
)
def test_ramp_refuses_impossible_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    Ramp(*settings)


def test_parse_weight_reads_numbers_and_ramps():
  assert parse_weight("1e-2") == 0.01
  assert Ramp(**parse_weight(" exponential( 1, 0.1 ) ")) == Ramp(1.0, 0.1)
  assert Ramp(**parse_weight("linear(0,1,0.1,0.3)")) == Ramp(0.0, 1.0, "linear", 0.1, 0.3)


@pytest.mark.parametrize(
  "text",
  [
    "",
    "one",
    "linear",
    "linear()",
    "linear(1)",
    "linear(1, 2, 3)",
    "cosine(0, 1)",
    "linear(0, one)",
    "exponential(0, 1)",
    "linear(0, 1",
  ],
)
def test_parse_weight_refuses_anything_else(text):
  with pytest.raises(ValueError, match="weight"):
    parse_weight(text)
