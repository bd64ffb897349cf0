"""Weights that change over the training."""

import numpy as np
import pytest

from asmjax.terms.weight import Ramp, evaluate_weight, parse_weight


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
