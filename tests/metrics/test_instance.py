"""Instance-wise IoU."""

import numpy as np
import pytest

from asmjax.metrics import ConfusionMatrix
from asmjax.metrics.instance import InstanceIoU
from asmjax.tasks import Segmentation
from tests.oracles import labels as reference

CLASSES = 4


def images(number=5, shape=(9, 8), seed=0):
  rng = np.random.default_rng(seed)
  for _ in range(number):
    label = rng.integers(-1, CLASSES + 1, shape)
    label[rng.random(shape) < 0.2] = 255
    yield label, rng.integers(0, CLASSES, shape), rng.integers(0, 7, shape)


def score(label, predicted, instance, **kwargs):
  return InstanceIoU.from_batch(predicted, label, instance=instance, num_classes=CLASSES, **kwargs)


def merged(images, **kwargs):
  total = InstanceIoU.empty(CLASSES, **kwargs)
  for maps in images:
    total = total.merge(score(*maps, **kwargs))
  return total


def test_instance_iou_agrees_with_the_oracle():
  state = merged(images())
  expected = np.array(reference.instance_iou(list(images()), CLASSES), np.float64)
  np.testing.assert_allclose(state.iou(), expected)
  assert state.compute()["instance_mean_iou"] == pytest.approx(np.nanmean(expected))
  assert state.instances.sum() == 5 * 6


def test_instance_iou_weighs_images_by_their_number_of_instances():
  one = InstanceIoU.from_batch(
    [[0, 1, 1, 1]], [[0, 0, 0, 0]], instance=[[1, 1, 1, 1]], num_classes=2
  )
  three = InstanceIoU.from_batch(
    [[0, 0, 0, 1]], [[0, 0, 0, 0]], instance=[[1, 2, 3, 3]], num_classes=2
  )
  both = one.merge(three)
  np.testing.assert_allclose(both.iou(), [(1 * 1 / 4 + 3 * 3 / 4) / 4, np.nan])
  assert both.compute()["instance_mean_iou"] == pytest.approx(0.625)


def test_instance_iou_of_one_instance_a_class_is_the_iou_of_pixels():
  label, predicted, _ = next(images())
  pixels = ConfusionMatrix.from_batch(predicted, label, num_classes=CLASSES)
  np.testing.assert_allclose(score(label, predicted, label + 2).iou(), pixels.iou())


def test_instance_iou_merges_associatively_and_with_the_empty_state():
  a, b, c = (score(*maps) for maps in images(3))
  for total in (a.merge(b).merge(c), InstanceIoU.empty(CLASSES).merge(a).merge(b.merge(c))):
    np.testing.assert_allclose(total.weighted, merged(images(3)).weighted)
    np.testing.assert_array_equal(total.instances, merged(images(3)).instances)


def test_instance_iou_gives_an_instance_the_class_of_most_of_its_labeled_pixels():
  label = np.array([[255, 255, 255, 2, 1, 1], [255, 255, 0, 0, 1, 1]])
  instance = np.array([[1, 1, 1, 2, 2, 2], [3, 3, 4, 0, 5, 5]])
  score = InstanceIoU.from_batch(np.zeros_like(label), label, instance=instance, num_classes=3)
  np.testing.assert_array_equal(score.instances, [1, 2, 0])


def test_instance_iou_is_invariant_to_the_numbers_of_instances():
  label, predicted, instance = next(images())
  order = np.array([0, 90, 17, 3, 1000, 2, 5])
  state, renamed = (
    InstanceIoU.from_batch(predicted, label, instance=ids, num_classes=CLASSES)
    for ids in (instance, order[instance])
  )
  np.testing.assert_array_equal(renamed.weighted, state.weighted)


def test_instance_iou_ignores_predictions_in_an_image_without_the_class():
  with_class = InstanceIoU.from_batch([[0, 1]], [[0, 1]], instance=[[1, 2]], num_classes=2)
  without_class = InstanceIoU.from_batch([[0, 1]], [[0, 0]], instance=[[1, 1]], num_classes=2)
  np.testing.assert_allclose(with_class.merge(without_class).iou(), [0.75, 1])


@pytest.mark.parametrize(
  "count_without_ids, expected",
  [("left_out", [0, 2, 0, 0]), ("once", [1, 2, 1, 0]), ("components", [2, 2, 1, 0])],
)
def test_instance_iou_counts_a_class_without_ids_as_the_option_says(count_without_ids, expected):
  label = np.array([[0, 1, 0, 0], [0, 1, 2, 0], [0, 1, 1, 2]])
  instance = np.array([[0, 7, 0, 0], [0, 7, 0, 0], [0, 8, 8, 0]])
  score = InstanceIoU.from_batch(
    label, label, instance=instance, num_classes=4, count_without_ids=count_without_ids
  )
  np.testing.assert_array_equal(score.instances, expected)
  assert score.compute()["instance_mean_iou"] == 1


def test_instance_iou_counts_the_components_of_flooding():
  rng = np.random.default_rng(0)
  label = (rng.random((20, 20)) < 0.3).astype(int)
  score = InstanceIoU.from_batch(
    label, label, instance=0 * label, num_classes=2, count_without_ids="components"
  )
  expected = [reference.components(label == c) for c in (0, 1)]
  assert expected[1] > 5
  np.testing.assert_array_equal(score.instances, expected)


def test_instance_iou_without_an_instance_is_nan():
  label = np.zeros((2, 2), int)
  assert np.isnan(score(label, label, label).compute()["instance_mean_iou"])


def test_instance_iou_refuses_another_number_of_classes():
  with pytest.raises(ValueError, match="this"):
    InstanceIoU.empty(3).merge(InstanceIoU.empty(1))


def test_instance_iou_refuses_bad_shapes_and_options():
  label = np.zeros((2, 2), int)
  with pytest.raises(ValueError, match=r"instance has shape \(2,\); expected \(h, w\)"):
    InstanceIoU.from_batch(label, label, instance=label[0], num_classes=2)
  with pytest.raises(ValueError, match=r"predictions has shape \(2,\)"):
    InstanceIoU.from_batch(label[0], label[0], instance=label[0], num_classes=2)
  with pytest.raises(ValueError, match="unknown count_without_ids 'twice'; known: .*'once'"):
    InstanceIoU.empty(2, count_without_ids="twice")
  with pytest.raises(ValueError, match="'left_out' does not merge with 'once'"):
    InstanceIoU.empty(2).merge(InstanceIoU.empty(2, count_without_ids="once"))


def test_instance_iou_says_in_its_protocol_how_classes_without_ids_count():
  names = ("left_out", "once", "components")
  assert len({InstanceIoU.empty(2, count_without_ids=name).protocol for name in names}) == 3


@pytest.mark.parametrize("count_without_ids, expected", [("left_out", [1]), ("once", [1, 1])])
def test_segmentation_counts_classes_without_ids_as_the_option_says(count_without_ids, expected):
  task = Segmentation(
    ("sky", "car"), extra_metrics=("instance",), count_without_ids=count_without_ids
  )
  label = np.array([[[0, 1]]])
  states = task.extra_metric_states(label, {"label": label, "instance": label})
  score = states["instance"].merge(states["instance"])
  assert score.instances[score.instances > 0].tolist() == [2 * count for count in expected]
  with pytest.raises(ValueError, match="unknown count_without_ids 'twice'"):
    Segmentation(("sky", "car"), count_without_ids="twice")
