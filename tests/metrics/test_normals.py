"""Angles between normals."""

import functools

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from asmjax.metrics.normals import ANGLES, BIN, NormalErrors, sum_normal_errors
from tests.helpers.dense_maps import normal_maps
from tests.oracles import dense as reference

BAD = ([0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [0, -np.inf, np.nan])


def awkward():
  """Every kind of bad or extreme vector against every other."""
  vectors = [
    *BAD,
    [0, 0, 1],
    [0, 0, -1],
    [1e-30, 0, 0],
    [3e38, 3e38, 0],
    [0.6, 0, 0.8],
    [0, 1e-4, 1],
  ]
  first, second = np.meshgrid(range(len(vectors)), range(len(vectors)))
  vectors = np.array(vectors, np.float32)
  return vectors[first], vectors[second]


CASES = {
  "random": normal_maps(),
  "hardly related": normal_maps(1, spread=5.0),
  "one pixel": (np.array([[0, 0, 1.0]]), np.array([[0, 1.0, 1.0]])),
  "two far apart": (np.array([[0, 0, 1.0]] * 2), np.array([[0, 0.1, 1], [1, 0, -1.0]])),
  "all missing": (np.zeros((4, 4, 3)), np.ones((4, 4, 3))),
  "nothing predicted": (np.ones((4, 4, 3)), np.zeros((4, 4, 3))),
  "perfect": (normal_maps()[0], normal_maps()[0]),
  "opposite": (normal_maps()[0], -normal_maps()[0]),
  "awkward": awkward(),
}


def assert_scores(scores, expected, atol):
  assert scores.keys() == expected.keys()
  for name in expected:
    slack = BIN / 2 + atol if name == "median" else atol
    np.testing.assert_allclose(scores[name], expected[name], err_msg=name, atol=slack, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_normal_errors_equal_the_oracle_on_host_and_on_device(case):
  truth, predicted = CASES[case]
  expected = reference.normal_scores(truth, predicted)
  assert_scores(NormalErrors.from_batch(predicted, truth).compute(), expected, atol=1e-9)
  summed = jax.jit(sum_normal_errors)(predicted, truth)
  assert_scores(NormalErrors(jax.device_get(summed)).compute(), expected, atol=1e-4)


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.5, 2.8, 45, 90, 135, 179.9])
def test_normal_errors_of_one_angle_are_that_angle(angle):
  rng = np.random.default_rng(0)
  axis = rng.normal(size=(50, 3))
  truth = np.cross(axis, rng.normal(size=(50, 3)))
  axis *= np.radians(angle) / np.linalg.norm(axis, axis=1, keepdims=True)
  scores = NormalErrors.from_batch(Rotation.from_rotvec(axis).apply(truth), truth).compute()
  assert scores["mean"] == pytest.approx(angle, rel=1e-6)
  assert scores["median"] == pytest.approx(angle, abs=BIN / 2 * 1.001)
  assert [scores[name] for name in ANGLES] == [angle < limit for limit in ANGLES.values()]


def test_normal_errors_of_a_perfect_prediction_are_0_and_1():
  scores = NormalErrors.from_batch(2 * normal_maps()[0], normal_maps()[0]).compute()
  assert scores["mean"] == scores["median"] == 0
  assert all(scores[name] == 1 for name in ANGLES)


def test_normal_errors_count_no_prediction_as_a_right_angle_and_leave_out_no_truth():
  up = [0.0, 0, 1]
  for bad in BAD:
    scores = NormalErrors.from_batch([bad, up], [up, up]).compute()
    assert scores["mean"] == 45 and scores["within_30"] == 0.5
    assert NormalErrors.from_batch([up, up], [bad, up]).sums["pixels"] == 1
  assert np.isnan(list(NormalErrors.from_batch([up], [bad]).compute().values())).all()
  assert np.isnan(list(NormalErrors.empty().compute().values())).all()


def test_normal_errors_are_invariant_to_turns_and_flips_of_both_maps():
  truth, predicted = normal_maps()
  expected = NormalErrors.from_batch(predicted, truth).compute()
  turn = Rotation.random(random_state=0).as_matrix()
  for matrix in (turn, np.diag([-1, 1, 1]), turn @ np.diag([1, -1, 1])):
    assert_scores(
      NormalErrors.from_batch(predicted @ matrix, truth @ matrix).compute(), expected, atol=1e-9
    )
  flipped = NormalErrors.from_batch(predicted[:, :, ::-1], truth[:, :, ::-1]).compute()
  assert_scores(flipped, expected, atol=1e-9)
  one_only = NormalErrors.from_batch(predicted, truth @ turn).compute()
  assert abs(one_only["mean"] - expected["mean"]) > 10


def test_normal_errors_are_symmetric_and_add_up_to_180_with_the_opposite():
  truth, predicted = normal_maps()
  predicted[~truth.any(-1)] = 0
  mean = lambda a, b: NormalErrors.from_batch(b, a).compute()["mean"]
  assert mean(truth, predicted) == pytest.approx(mean(predicted, truth))
  assert mean(truth, predicted) + mean(truth, -predicted) == pytest.approx(180)


def test_normal_errors_accept_more_with_a_wider_angle():
  scores = NormalErrors.from_batch(*normal_maps(spread=0.15)[::-1]).compute()
  parts = [scores[name] for name in ANGLES]
  assert list(ANGLES.values()) == sorted(ANGLES.values())
  assert parts == sorted(parts) and parts[0] < parts[-1]


@pytest.mark.parametrize("pixels", [1, 2, 3, 10, 11])
def test_normal_errors_have_a_median_within_half_a_bin(pixels):
  rng = np.random.default_rng(pixels)
  for angles in rng.uniform(0, 180, (20, pixels)):
    radians = np.radians(angles)
    predicted = np.stack([np.sin(radians), 0 * radians, np.cos(radians)], -1)
    median = NormalErrors.from_batch(predicted, np.tile([0.0, 0, 1], (pixels, 1))).compute()[
      "median"
    ]
    assert abs(median - np.median(angles)) <= BIN / 2 + 1e-9


def test_normal_errors_merge_associatively_to_the_full_batch():
  truth, predicted = normal_maps(shape=(6, 5, 4))
  a, b, c = (NormalErrors.from_batch(predicted[i : i + 2], truth[i : i + 2]) for i in (0, 2, 4))
  batch = NormalErrors.from_batch(predicted, truth)
  for merged in (a.merge(b).merge(c), a.merge(b.merge(c)), NormalErrors.empty().merge(batch)):
    np.testing.assert_array_equal(merged.sums["histogram"], batch.sums["histogram"])
    assert_scores(merged.compute(), batch.compute(), atol=1e-11)


def test_normal_errors_of_group_ids_of_few_bits_do_not_overflow():
  truth, predicted = normal_maps(shape=(1, 4, 5))
  label = np.full((1, 4, 5), 200, np.uint8)
  expected = NormalErrors.from_batch(predicted, truth).compute_by_group()
  summed = sum_normal_errors(predicted, truth, group=label, num_groups=201)
  for errors in (
    NormalErrors.from_batch(predicted, truth, group=label, num_groups=201),
    NormalErrors(jax.device_get(summed)),
  ):
    assert_scores({k: v[200] for k, v in errors.compute_by_group().items()}, expected, atol=1e-4)


def test_normal_errors_have_the_same_pixels_in_histogram_and_counts():
  truth, predicted = normal_maps(shape=(2, 60, 80))
  label = np.arange(truth[..., 0].size, dtype=np.int32).reshape(truth.shape[:-1]) % 5 - 1
  host = NormalErrors.from_batch(predicted, truth, group=label, num_groups=3).sums
  summed = jax.jit(functools.partial(sum_normal_errors, num_groups=3))(
    predicted, truth, group=label
  )
  device = jax.device_get(summed)
  np.testing.assert_array_equal(host["histogram"].sum(-1), host["pixels"])
  np.testing.assert_array_equal(device["histogram"].sum(-1), host["pixels"])
  np.testing.assert_allclose(device["mean"], host["mean"], rtol=1e-6)
  # Rounded angles that differ lie in neighboring bins.
  shifted = np.abs(np.cumsum(device["histogram"] - host["histogram"], axis=-1))
  assert shifted.max() <= 1


def test_normal_errors_refuse_bad_shapes():
  with pytest.raises(ValueError, match=r"targets has shape \(2, 3\)"):
    NormalErrors.from_batch(np.ones((1, 3)), np.ones((2, 3)))
  with pytest.raises(ValueError, match=r"expected \(\*shape, 3\)"):
    NormalErrors.from_batch(np.ones((2, 4)), np.ones((2, 4)))
  with pytest.raises(ValueError, match="group"):
    NormalErrors.from_batch(
      np.ones((2, 3)), np.ones((2, 3)), group=np.zeros((2, 3), int), num_groups=1
    )
