"""Means over classes, instances and images against oracles of one group at a time."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from asmjax.metrics.depth import DepthErrors, sum_depth_errors
from asmjax.metrics.grouped import ClassMeans, GroupMeans, image_groups, instance_groups
from asmjax.metrics.normals import BIN, NormalErrors, sum_normal_errors
from tests.helpers.dense_maps import depth_maps, normal_maps, segments
from tests.oracles import dense as reference


class Case(NamedTuple):
  """A metric of pixels, its sums on device, its oracle, maps, and tolerances."""

  errors: Any
  sum_on_device: Any
  oracle: Any
  maps: Any
  on_host: dict
  on_device: dict


CASES = {
  "depth": Case(
    DepthErrors,
    sum_depth_errors,
    reference.depth_scores,
    depth_maps,
    {"rtol": 1e-12},
    {"rtol": 3e-6},
  ),
  "normals": Case(
    NormalErrors,
    sum_normal_errors,
    reference.normal_scores,
    normal_maps,
    {"rtol": 1e-6, "atol": 1e-9},
    {"rtol": 1e-6, "atol": 1e-4},
  ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def assert_scores(scores, expected, rtol=0.0, atol=0.0):
  """Compares metrics by name; medians are read off a histogram."""
  assert scores.keys() == expected.keys()
  for name in expected:
    slack = BIN / 2 if name == "median" else 0
    np.testing.assert_allclose(
      scores[name], expected[name], err_msg=name, rtol=rtol, atol=atol + slack
    )


@every_case
def test_class_means_equal_the_oracle_class_by_class(case):
  (truth, predicted), (_, label) = case.maps(), segments()
  errors = case.errors.from_batch(predicted, truth, group=label, num_groups=6)
  by_class = errors.compute_by_group()
  for c in range(6):
    expected = case.oracle(truth[label == c], predicted[label == c])
    assert_scores({k: v[c] for k, v in by_class.items()}, expected, **case.on_host)
  for name, values in by_class.items():
    assert np.isnan(values[4:]).all()
    assert ClassMeans(errors).compute()[name] == pytest.approx(np.mean(values[:4]))
  labeled = label < 6
  assert_scores(errors.compute(), case.oracle(truth[labeled], predicted[labeled]), **case.on_host)
  sum_on_device = jax.jit(functools.partial(case.sum_on_device, num_groups=6))
  summed = jax.device_get(sum_on_device(predicted, truth, group=label))
  assert_scores(case.errors(summed).compute_by_group(), by_class, **case.on_device)
  merged = case.errors.empty(num_groups=6).merge(errors)
  assert_scores(merged.compute_by_group(), by_class)


@every_case
def test_group_means_equal_the_oracle_instance_by_instance(case):
  (truth, predicted), (instance, label) = case.maps(), segments()
  truth[0][instance[0] == 2000] = 0
  groups = instance_groups(instance, label, num_classes=6)
  means = GroupMeans.from_batch(predicted, truth, errors=case.errors, groups=groups)
  expected = reference.instance_scores(case.oracle, truth, predicted, instance, label, 6)
  assert_scores(means.compute_by_class(), expected, **case.on_host)
  assert means.members.sum() == len(groups.class_of) - 1
  for name, values in means.compute_by_class().items():
    assert 0 < np.isnan(values).sum() < 6
    assert means.compute()[name] == pytest.approx(np.nanmean(values))
  assert "each instance" in means.protocol


def test_group_means_of_instances_merge_over_images():
  (truth, predicted), (instance, label) = depth_maps(), segments()

  def means(part):
    groups = instance_groups(instance[part], label[part], num_classes=4)
    return GroupMeans.from_batch(predicted[part], truth[part], errors=DepthErrors, groups=groups)

  a, b, c, batch = (means(slice(*x)) for x in ((0, 1), (1, 2), (2, 3), (0, 3)))
  empty = means(slice(0, 0))
  for merged in (a.merge(b).merge(c), empty.merge(a).merge(b.merge(c))):
    np.testing.assert_array_equal(merged.members, batch.members)
    assert_scores(merged.compute_by_class(), batch.compute_by_class(), rtol=1e-12)
  assert np.isnan(empty.compute()["rel"])


def test_group_means_weigh_small_instances_as_much_as_large_ones():
  truth, instance = np.ones((1, 1, 10)), np.array([[[7] * 9 + [3]]])
  predicted = np.where(instance == 3, 2.0, 1.0)
  groups = instance_groups(instance, np.zeros_like(instance), num_classes=1)
  assert DepthErrors.from_batch(predicted, truth).compute()["rel"] == pytest.approx(0.1)
  means = GroupMeans.from_batch(predicted, truth, errors=DepthErrors, groups=groups)
  assert means.compute()["rel"] == pytest.approx(0.5)


def test_instance_groups_have_the_class_of_most_of_their_labeled_pixels():
  instance = np.array([[[5, 5, 5, 5, 5, 8, 8, 7, 0, -1]]])
  label = np.array([[[255, 255, 255, 2, 0, 1, 1, 255, 0, 0]]])
  groups = instance_groups(instance, label, num_classes=3)
  np.testing.assert_array_equal(groups.class_of, [0, 1])
  np.testing.assert_array_equal(groups.ids, [[[0, 0, 0, 0, 0, 1, 1, -1, -1, -1]]])


def test_instance_groups_are_within_one_image():
  for power in range(31):
    instance = np.array([[[2**power + 1, 1]], [[1, 0]]], np.int32)
    groups = instance_groups(instance, np.zeros_like(instance), num_classes=1)
    np.testing.assert_array_equal(groups.ids, [[[1, 0]], [[2, -1]]])


def test_group_means_of_images_equal_the_oracle():
  truth, predicted = depth_maps()
  truth = np.concatenate([truth, np.zeros_like(truth[:1])])
  predicted = np.concatenate([predicted, predicted[:1]])
  groups = image_groups(truth.shape)
  means = GroupMeans.from_batch(predicted, truth, errors=DepthErrors, groups=groups)
  by_image = [reference.depth_scores(*pair) for pair in zip(truth[:3], predicted[:3], strict=True)]
  assert_scores(
    means.compute(), {k: np.mean([x[k] for x in by_image]) for k in by_image[0]}, rtol=1e-12
  )
  assert means.members == 3


def test_group_means_refuse_bad_shapes_and_merges():
  truth, predicted = depth_maps()
  groups = image_groups(truth.shape)
  with pytest.raises(ValueError, match=r"group has shape \(3, 9, 7\)"):
    GroupMeans.from_batch(predicted[:2], truth[:2], errors=DepthErrors, groups=groups)
  with pytest.raises(ValueError, match=r"\(n, h, w\)"):
    instance_groups(np.ones((3, 3), int), np.ones((3, 3), int), num_classes=2)
  a, b = (
    GroupMeans.from_batch(predicted, truth, errors=DepthErrors, groups=groups, cap=c)
    for c in (10.0, 80.0)
  )
  with pytest.raises(ValueError, match="10.*80"):
    a.merge(b)
  one, three = (GroupMeans.empty(count, errors=DepthErrors) for count in (1, 3))
  with pytest.raises(ValueError, match="this"):
    one.merge(three)
  with pytest.raises(ValueError, match="instance are float64; expected whole numbers"):
    instance_groups(np.ones((1, 3, 3)), np.ones((1, 3, 3), int), num_classes=2)


def test_protocols_of_errors_and_of_their_means_differ():
  errors = DepthErrors.from_batch([[[1.0]]], [[[1.0]]], cap=10.0, group=[[[0]]], num_groups=1)
  assert "pooled" in errors.protocol and "(0, 10] m" in errors.protocol
  means = GroupMeans.from_batch(
    [[[1.0]]], [[[1.0]]], errors=DepthErrors, groups=image_groups((1, 1, 1))
  )
  assert "each image" in means.protocol and "pooled" not in means.protocol
  assert "0.005" in NormalErrors.empty().protocol
