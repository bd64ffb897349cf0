"""The batch contract and masked means."""

import jax.numpy as jnp
import numpy as np
import pytest

from asmjax import batch as batches
from asmjax.ops.masked_mean import MaskedMean
from tests.helpers import tiny_games as games


def test_check_accepts_every_key_of_the_contract():
  n, (h, w) = 2, games.SIZE
  batches.check(
    {
      **games.batch(n),
      "depth": np.zeros((n, h, w), np.float32),
      "normals": np.zeros((n, h, w, 3), np.float32),
      "instance": np.zeros((n, h, w), np.int32),
    },
    required=["label", "instance"],
  )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"label": np.zeros((2, 8, 12), np.int64)}, r"'label' is int64\(2, 8, 12\); expected int32"),
    ({"label": np.zeros((2, 8, 11), np.int32)}, r"'label' .*expected int32\(2, 8, 12\)"),
    ({"image": np.zeros((2, 8, 12, 4), np.uint8)}, "'image' .*expected uint8"),
    ({"weight": np.zeros((3,), np.float32)}, r"'weight' is float32\(3,\); expected float32\(2,\)"),
    ({"labels": np.zeros((2, 8, 12), np.int32)}, "unknown batch key 'labels'; known"),
  ],
)
def test_check_names_a_bad_array_and_what_is_expected(change, message):
  with pytest.raises(ValueError, match=message):
    batches.check(games.batch(2) | change)


def test_check_names_a_missing_key():
  with pytest.raises(ValueError, match=r"lacks \['instance'\]"):
    batches.check(games.batch(2), required=["label", "instance"])


def test_downsample_takes_the_nearest_labels_and_averages_the_image():
  examples = games.batch(2)
  small = batches.downsample(examples, (4, 6))
  batches.check(small)
  np.testing.assert_array_equal(small["label"], examples["label"][:, 1::2, 1::2])
  np.testing.assert_array_equal(small["weight"], examples["weight"])
  image = examples["image"].astype(float)
  # Inside, the pixels count 1/8, 3/8, 3/8, 1/8.
  taps = np.array([1, 3, 3, 1]) / 8
  expected = np.einsum("nhwc,h,w->nc", image[:, 1:5, 3:7], taps, taps)
  np.testing.assert_allclose(small["image"][:, 1, 2], expected, atol=0.51)


def test_downsample_with_aligned_corners_takes_every_second_pixel():
  examples = games.batch(2)
  small = batches.downsample(examples, (4, 6), align_corners=True)
  np.testing.assert_array_equal(small["label"], examples["label"][:, ::2, ::2])


def test_masked_mean_adds_up_over_any_split_and_is_zero_if_empty():
  rng = np.random.default_rng(0)
  values, valid = rng.normal(size=(6, 5)).astype(np.float32), rng.random((6, 5)) < 0.4
  complete = MaskedMean.from_values(values, valid)
  parts = MaskedMean.from_values(values[:1], valid[:1]) + MaskedMean.from_values(
    values[1:], valid[1:]
  )
  np.testing.assert_allclose(complete.mean(), values[valid].mean(), rtol=1e-5)
  np.testing.assert_allclose(parts.mean(), complete.mean(), rtol=1e-5)
  assert MaskedMean.from_values(values, np.zeros_like(values)).mean() == 0
  assert MaskedMean.from_values(jnp.array([jnp.nan, 2.0]), jnp.array([0.0, 1.0])).mean() == 2
