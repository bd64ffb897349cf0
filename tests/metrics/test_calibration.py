"""Calibration error."""

import itertools
import math

import jax
import numpy as np
import pytest

from asmjax.metrics.calibration import Calibration, count_calibration
from tests.oracles import labels as reference


def example(seed=0, shape=(3, 6, 7), classes=3):
  rng = np.random.default_rng(seed)
  probabilities = rng.dirichlet(np.ones(classes), shape).astype(np.float32)
  label = rng.integers(-1, classes + 1, shape).astype(np.int32)
  label[rng.random(shape) < 0.2] = 255
  return probabilities, label


def counted(probabilities, label, num_bins=15):
  count = jax.jit(lambda p, t: count_calibration(p, t, num_bins=num_bins))
  return Calibration(*(np.asarray(x) for x in count(probabilities, label)))


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("count", [counted, Calibration.from_batch])
def test_calibration_agrees_with_the_oracle_on_device_and_host(count, bins):
  score = count(*example(), num_bins=bins)
  expected, largest = reference.calibration(*example(), bins)
  assert score.expected_error() == pytest.approx(expected, rel=1e-5)
  assert score.maximum_error() == pytest.approx(largest, rel=1e-5)


def test_count_calibration_has_the_bins_of_the_host():
  device, host = counted(*example()), Calibration.from_batch(*example())
  np.testing.assert_allclose(device.confidence, host.confidence, rtol=1e-5)
  np.testing.assert_array_equal(device.hits, host.hits)
  np.testing.assert_array_equal(device.counts, host.counts)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_calibration_of_a_bin_without_a_number_has_none(order):
  probabilities = np.array([[np.nan, 0.1], [0.2, 0.8]])[order]
  state = Calibration.from_batch(probabilities, np.array([0, 1])[order])
  assert np.isnan([state.expected_error(), state.maximum_error()]).all()


def test_calibration_merges_to_the_full_batch():
  probabilities, label = example()
  batch = Calibration.from_batch(probabilities, label)
  merged = Calibration.empty()
  for p, t in zip(probabilities, label, strict=True):
    merged = merged.merge(Calibration.from_batch(p, t))
  np.testing.assert_allclose(merged.confidence, batch.confidence)
  np.testing.assert_array_equal(merged.counts, batch.counts)
  assert merged.compute() == pytest.approx(batch.compute())


def test_calibration_of_calibrated_predictions_has_no_error():
  rng = np.random.default_rng(0)
  p = rng.uniform(0.5, 1, 200_000)
  label = (rng.random(p.shape) > p).astype(int)
  score = Calibration.from_batch(np.stack([p, 1 - p], -1), label)
  assert score.expected_error() < 0.005
  assert score.accuracy() == pytest.approx(score.mean_confidence(), abs=0.005)


@pytest.mark.parametrize("right, error", [(True, 0), (False, 1)])
def test_calibration_of_certain_predictions_has_error_0_or_1(right, error):
  label = np.random.default_rng(0).integers(0, 3, (1, 4, 5))
  guess = np.eye(3)[label if right else (label + 1) % 3]
  for score in (counted(guess, label), Calibration.from_batch(guess, label)):
    assert score.expected_error() == score.maximum_error() == error
    assert score.mean_confidence() == 1 and score.accuracy() == 1 - error


def test_calibration_by_hand():
  p = np.array([0.6, 0.7, 0.9, 0.9, 0.95])
  score = Calibration.from_batch(np.stack([p, 1 - p], -1), [0, 1, 0, 1, 0], num_bins=5)
  np.testing.assert_array_equal(score.counts, [0, 0, 1, 1, 3])
  np.testing.assert_allclose(score.gaps()[2:], [-0.4, 0.7, 2.75 / 3 - 2 / 3])
  assert score.expected_error() == pytest.approx((0.4 + 0.7 + 0.75) / 5)
  assert score.maximum_error() == pytest.approx(0.7)
  assert score.mean_confidence() == pytest.approx(0.81)


def test_calibration_bins_are_closed_above_and_the_first_contains_zero():
  p = np.array([[0, 0.25, 0.5, 0.75, 1, 0.26]])[..., None]
  label = np.zeros((1, 1, 6), int)
  for score in (
    counted(p[None], label, num_bins=4),
    Calibration.from_batch(p[None], label, num_bins=4),
  ):
    np.testing.assert_array_equal(score.counts, [2, 2, 1, 1])


def neighbors(bins, dtype):
  """The bounds of the bins, rounded, with the numbers before and after each, and their bins."""
  bounds = (np.arange(1, bins) / bins).astype(dtype)
  p = np.stack([np.nextafter(bounds, dtype(0)), bounds, np.nextafter(bounds, dtype(1))])
  # Each bound closes its bin.
  return p, np.arange(bins - 1) + np.array([[0], [0], [1]])


@pytest.mark.parametrize("bins", [3, 7, 10, 15, 20])
@pytest.mark.parametrize(
  "count, dtype",
  [
    (counted, np.float32),
    (Calibration.from_batch, np.float32),
    (Calibration.from_batch, np.float64),
  ],
)
def test_calibration_bins_contain_confidences_next_to_their_bounds(count, dtype, bins):
  p, expected = neighbors(bins, dtype)
  score = count(p[None, ..., None], np.zeros((1, *p.shape), np.int32), num_bins=bins)
  np.testing.assert_array_equal(score.counts, np.bincount(expected.ravel(), minlength=bins))
  sums = [math.fsum(p[expected == m].astype(np.float64)) for m in range(bins)]
  np.testing.assert_allclose(score.confidence, sums, rtol=1e-6)


def test_calibration_bounds_in_double_precision_would_differ_from_the_device():
  p, expected = neighbors(15, np.float32)
  apart = np.searchsorted(np.arange(1, 15) / 15, p.astype(np.float64)) != expected
  assert apart[1].any() and not apart[[0, 2]].any()
  assert expected[1][2] == 2 and apart[1][2], "0.2 is in the third bin"


def test_calibration_bins_are_those_of_the_published_code():
  probabilities, label = example(seed=1, shape=(2, 40, 50))
  probabilities[0, :4, :3, 0] = neighbors(15, np.float32)[0].ravel()[:12].reshape(4, 3)
  known = (label >= 0) & (label < 3)
  confidence, right = probabilities[known].max(-1), probabilities[known].argmax(-1) == label[known]
  bounds = np.float32(np.arange(16) / 15)
  error = 0.0
  for low, high in itertools.pairwise(bounds):  # Guo et al. 2017, `_ECELoss`, in exact sums.
    inside = (confidence > low) & (confidence <= high)
    error += abs(math.fsum(confidence[inside].astype(float)) - np.count_nonzero(right[inside]))
  expected = error / np.count_nonzero(known)
  assert counted(probabilities, label).expected_error() == pytest.approx(expected, rel=1e-6)
  assert Calibration.from_batch(probabilities, label).expected_error() == pytest.approx(
    expected, rel=1e-12
  )


def test_count_calibration_has_accurate_sums():
  rng = np.random.default_rng(0)
  p = (0.5 + rng.random((2, 512, 512)) / 2).astype(np.float32)
  score = counted(np.stack([p, 1 - p], -1), np.zeros(p.shape, np.int32), num_bins=1)
  exact = math.fsum(p.ravel().tolist())
  assert score.confidence[0] == pytest.approx(exact, rel=1e-6)
  assert score.counts[0] == score.hits[0] == p.size


def test_count_calibration_ignores_unlabeled_pixels():
  probabilities, label = example()
  wild = np.where(((label < 0) | (label > 2))[..., None], [1, 0, 0], probabilities)
  assert counted(wild, label).compute() == counted(probabilities, label).compute()


def test_calibration_errors_are_bounded_by_the_maximum_and_by_one_bin():
  score, single = (Calibration.from_batch(*example(), num_bins=bins) for bins in (15, 1))
  assert single.expected_error() == pytest.approx(abs(score.accuracy() - score.mean_confidence()))
  assert single.expected_error() <= score.expected_error() <= score.maximum_error()


def test_count_calibration_of_a_million_pixels_keeps_the_confidence():
  p = np.full((2, 1024, 1024), 0.53, np.float32)
  score = counted(np.stack([p, 1 - p], -1), np.zeros(p.shape, np.int32))
  assert score.mean_confidence() == pytest.approx(0.53, rel=1e-5)


def test_calibration_of_no_pixels_is_nan_and_refuses_a_different_number_of_bins():
  assert all(
    np.isnan(x) for x in (*Calibration.empty().compute().values(), Calibration.empty().accuracy())
  )
  with pytest.raises(ValueError, match="15 bins of confidence do not merge with 10"):
    Calibration.empty().merge(Calibration.empty(10))
  assert "10 equal bins" in Calibration.empty(10).protocol
