"""Errors of depth."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from asmjax.metrics.depth import FACTORS, DepthErrors, sum_depth_errors
from tests.helpers.dense_maps import depth_maps
from tests.oracles import dense as reference

ERRORS = ("rel", "rel_by_prediction", "sq_rel", "rms", "log_rms", "log10")


def awkward():
  """Every kind of bad truth against every kind of bad prediction."""
  truth = [0, -1, np.nan, np.inf, -np.inf, 1e-4, 1e-3, 2, 9.999, 10, 10.001, 1e5]
  predicted = [0, -3, np.nan, np.inf, -np.inf, 1e-9, 1e-3, 1, 2, 10, 20, 3e38]
  return tuple(np.array(x, np.float32) for x in np.meshgrid(truth, predicted))


CASES = {
  "random": depth_maps(),
  "far off": depth_maps(1, spread=4.0),
  "one pixel": (np.full((1, 1), 2.0), np.full((1, 1), 3.0)),
  "all missing": (np.zeros((4, 4)), np.ones((4, 4))),
  "nothing predicted": (np.full((4, 4), 3.0), np.zeros((4, 4))),
  "perfect": (depth_maps()[0], depth_maps()[0]),
  "awkward": awkward(),
}


@functools.cache
def on_device(**options):
  """`sum_depth_errors`, compiled, of maps and perhaps groups."""
  return jax.jit(
    lambda truth, predicted, group=None: sum_depth_errors(predicted, truth, group=group, **options)
  )


def assert_scores(scores, expected, **tolerance):
  assert scores.keys() == expected.keys()
  for name in expected:
    np.testing.assert_allclose(scores[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("cap", [10.0, 1e6])
@pytest.mark.parametrize("case", CASES)
def test_depth_errors_equal_the_oracle_on_host_and_on_device(case, cap):
  truth, predicted = CASES[case]
  expected = reference.depth_scores(truth, predicted, cap)
  assert_scores(DepthErrors.from_batch(predicted, truth, cap=cap).compute(), expected, rtol=1e-12)
  summed = jax.device_get(on_device(cap=cap)(truth, predicted))
  assert_scores(DepthErrors(summed, cap).compute(), expected, rtol=3e-6, atol=1e-7)


def test_depth_errors_are_finite_once_there_is_a_truth():
  assert np.isfinite(list(DepthErrors.from_batch(*awkward()[::-1]).compute().values())).all()
  assert np.isnan(list(DepthErrors.from_batch([1.0], [0.0]).compute().values())).all()
  assert np.isnan(list(DepthErrors.empty().compute().values())).all()


def test_depth_errors_of_a_perfect_prediction_are_0_and_1():
  scores = DepthErrors.from_batch(depth_maps()[0], depth_maps()[0]).compute()
  assert all(scores[name] == 0 for name in ERRORS)
  assert all(scores[name] == 1 for name in FACTORS)


@pytest.mark.parametrize("scale", [0.5, 0.97, 1.05, 1.3, 2.1])
def test_depth_errors_of_a_constant_factor_have_their_closed_forms(scale):
  truth = np.linspace(1, 8, 57)
  scores = DepthErrors.from_batch(scale * truth, truth).compute()
  assert scores["rel"] == pytest.approx(abs(scale - 1))
  assert scores["rel_by_prediction"] == pytest.approx(abs(1 - 1 / scale))
  assert scores["sq_rel"] == pytest.approx((scale - 1) ** 2 * truth.mean())
  assert scores["rms"] == pytest.approx(abs(scale - 1) * np.sqrt((truth**2).mean()))
  assert scores["log_rms"] == pytest.approx(abs(math.log(scale)))
  assert scores["log10"] == pytest.approx(abs(math.log10(scale)))
  right = [max(scale, 1 / scale) < 1.25**k for k in (1 / 8, 1 / 4, 1 / 2, 1, 2, 3)]
  assert [scores[name] for name in FACTORS] == right


def test_depth_errors_that_are_ratios_are_invariant_to_the_unit():
  truth, predicted = depth_maps()
  meters = DepthErrors.from_batch(predicted, truth).compute()
  feet = DepthErrors.from_batch(4 * predicted, 4 * truth).compute()
  by_power = {"rms": 4, "sq_rel": 4}
  assert_scores(feet, {k: v * by_power.get(k, 1) for k, v in meters.items()}, rtol=1e-12)


def test_depth_errors_swap_rel_and_rel_by_prediction_with_truth_and_prediction():
  truth, predicted = depth_maps()
  predicted = np.where(truth > 0, predicted, 0)
  swapped, scores = (
    DepthErrors.from_batch(*x).compute() for x in ((truth, predicted), (predicted, truth))
  )
  for name in ("rms", "log_rms", "log10", *FACTORS):
    assert swapped[name] == pytest.approx(scores[name], rel=1e-12)
  assert swapped["rel"] == pytest.approx(scores["rel_by_prediction"], rel=1e-12) != scores["rel"]


def test_depth_errors_accept_more_with_a_wider_factor():
  scores = DepthErrors.from_batch(*depth_maps(spread=0.1)[::-1]).compute()
  parts = [scores[name] for name in FACTORS]
  assert list(FACTORS.values()) == sorted(FACTORS.values())
  assert parts == sorted(parts) and parts[0] < parts[-1]


def test_depth_errors_count_the_truth_up_to_the_cap_and_clip_predictions():
  scores = DepthErrors.from_batch([30.0, 1.0], [10.0, 10.5], cap=10.0)
  assert scores.sums["pixels"] == 1 and scores.compute()["rel"] == 0


def test_depth_errors_merge_associatively_to_the_full_batch():
  truth, predicted = depth_maps(shape=(6, 5, 4))
  a, b, c = (
    DepthErrors.from_batch(predicted[i : i + 2], truth[i : i + 2], cap=10.0) for i in (0, 2, 4)
  )
  batch = DepthErrors.from_batch(predicted, truth, cap=10.0).compute()
  for merged in (
    a.merge(b).merge(c),
    a.merge(b.merge(c)),
    DepthErrors.empty(cap=10.0).merge(c.merge(a)).merge(b),
  ):
    assert_scores(merged.compute(), batch, rtol=1e-13)


@pytest.mark.parametrize("cap", [8.1, 65.535, 80.1])
def test_depth_errors_count_a_truth_at_the_cap_in_any_precision(cap):
  """Of the float32 of these caps two are larger than the cap, one is smaller."""
  for dtype in (np.float32, np.float64):
    truth = np.full(3, cap, dtype)
    assert DepthErrors.from_batch(truth, truth, cap=cap).sums["pixels"] == 3
    assert jax.device_get(sum_depth_errors(truth, truth, cap=cap))["pixels"] == 3


def test_depth_errors_refuse_fractions_as_groups():
  with pytest.raises(ValueError, match="groups are float64; expected whole numbers"):
    DepthErrors.from_batch([1.0], [1.0], group=[0.5], num_groups=1)


def test_depth_errors_refuse_bad_shapes_caps_and_merges():
  errors = DepthErrors.from_batch([1.0], [1.0], cap=10.0)
  with pytest.raises(ValueError, match="10.*80"):
    errors.merge(DepthErrors.from_batch([1.0], [1.0], cap=80.0))
  with pytest.raises(ValueError, match=r"expected \(\*groups\) = \(\)"):
    errors.merge(DepthErrors.empty(cap=10.0, num_groups=2))
  with pytest.raises(ValueError, match=r"predictions.*2"):
    DepthErrors.from_batch([1.0, 2.0], [1.0])
  with pytest.raises(ValueError, match="group"):
    DepthErrors.from_batch([1.0], [1.0], group=[0, 1], num_groups=2)
  for cap in (0.0, math.inf, math.nan):
    with pytest.raises(ValueError, match="cap"):
      DepthErrors.from_batch([1.0], [1.0], cap=cap)


def test_depth_errors_leave_out_ids_outside_the_groups():
  truth, predicted, label = (np.array([x]) for x in ([1.0, 1, 1, 1], [1.0, 2, 3, 4], [-1, 0, 2, 9]))
  host = DepthErrors.from_batch(predicted, truth, group=label, num_groups=3)
  np.testing.assert_array_equal(host.sums["pixels"], [1, 0, 1])
  np.testing.assert_array_equal(host.sums["rel"], [1, 0, 2])
  device = on_device(num_groups=3)(truth, predicted, label)
  np.testing.assert_array_equal(device["rel"], [1, 0, 2])


def test_sum_depth_errors_is_accurate_for_large_images():
  truth, predicted = depth_maps(shape=(2, 240, 320))
  label = (truth * 7).astype(np.int32) % 5
  for group in (None, label):
    host = DepthErrors.from_batch(predicted, truth, group=group, num_groups=5).sums
    device = jax.device_get(on_device(num_groups=5)(truth, predicted, group))
    assert_scores(
      {k: v for k, v in device.items() if k not in FACTORS},
      {k: v for k, v in host.items() if k not in FACTORS},
      rtol=1e-6,
    )
    for name in FACTORS:  # a ratio at the very limit may fall on either side
      np.testing.assert_allclose(device[name], host[name], atol=3)


def test_sum_depth_errors_adds_up_over_devices_and_compiles_once():
  truth, predicted = depth_maps(shape=(8, 6, 5))
  traces = []

  def local(truth, predicted):
    traces.append(1)
    return jax.lax.psum(sum_depth_errors(predicted, truth, cap=10.0), "d")

  spec = PartitionSpec("d")
  mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  step = jax.jit(
    jax.shard_map(
      local, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec(), check_vma=False
    )
  )
  total = jax.tree.map(jnp.add, step(truth, predicted), step(predicted, truth))
  assert len(traces) == 1
  batch = DepthErrors.from_batch(predicted, truth, cap=10.0).merge(
    DepthErrors.from_batch(truth, predicted, cap=10.0)
  )
  assert_scores(DepthErrors(jax.device_get(total), 10.0).compute(), batch.compute(), rtol=1e-6)


def test_depth_errors_keep_counts_and_sums_in_64_bits():
  errors = DepthErrors(jax.device_get(on_device()(*depth_maps())))
  assert errors.sums["pixels"].dtype == errors.sums["delta_1.25"].dtype == np.int64
  assert errors.sums["rel"].dtype == np.float64
