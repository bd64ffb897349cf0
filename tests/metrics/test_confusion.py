"""The confusion matrix."""

import jax
import numpy as np
import pytest

from asmjax.metrics import ConfusionMatrix, count_confusions
from tests.oracles import arrays as reference


def maps(seed=0, shape=(3, 7, 5), classes=4):
  rng = np.random.default_rng(seed)
  label = rng.integers(-1, classes + 1, shape).astype(np.int32)
  label[rng.random(shape) < 0.2] = 255
  return label, rng.integers(0, classes, shape).astype(np.int32)


def test_count_confusions_and_the_host_agree_with_the_oracle():
  label, predicted = maps()
  expected = reference.confusion(label, predicted, 4)
  counted = jax.jit(lambda a, b: count_confusions(b, a, num_classes=4))(label, predicted)
  np.testing.assert_array_equal(counted, expected)
  np.testing.assert_array_equal(
    ConfusionMatrix.from_batch(predicted, label, num_classes=4).counts, expected
  )


def test_confusion_matrix_merges_associatively_to_the_full_batch():
  label, predicted = maps(shape=(6, 7, 5))
  a, b, c = (
    ConfusionMatrix.from_batch(predicted[i : i + 2], label[i : i + 2], num_classes=4)
    for i in (0, 2, 4)
  )
  batch = ConfusionMatrix.from_batch(predicted, label, num_classes=4)
  for merged in (a.merge(b).merge(c), a.merge(b.merge(c)), ConfusionMatrix.empty(4).merge(batch)):
    np.testing.assert_array_equal(merged.counts, batch.counts)


def test_confusion_matrix_by_hand():
  matrix = ConfusionMatrix(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
  np.testing.assert_allclose(matrix.iou(), [3 / 6, 4 / 7, np.nan])
  assert matrix.mean_iou() == pytest.approx((3 / 6 + 4 / 7) / 2)
  assert matrix.pixel_accuracy() == pytest.approx(0.7)
  np.testing.assert_allclose(matrix.class_accuracy(), [3 / 4, 4 / 6, np.nan])
  assert matrix.mean_class_accuracy() == pytest.approx((3 / 4 + 4 / 6) / 2)
  assert matrix.frequency_weighted_iou() == pytest.approx(0.4 * 3 / 6 + 0.6 * 4 / 7)


def test_confusion_matrix_is_1_if_perfect_0_if_wrong_and_nan_without_labels():
  label, _ = maps()
  known = np.where((label >= 0) & (label < 4), label, 0)
  perfect = ConfusionMatrix.from_batch(known, label, num_classes=4)
  assert perfect.mean_iou() == perfect.pixel_accuracy() == perfect.frequency_weighted_iou() == 1
  assert ConfusionMatrix.from_batch((known + 1) % 4, label, num_classes=4).mean_iou() == 0
  nothing = ConfusionMatrix.from_batch(np.zeros((2, 2), int), np.full((2, 2), 255), num_classes=4)
  assert all(
    np.isnan(x)
    for x in (
      nothing.mean_iou(),
      nothing.pixel_accuracy(),
      nothing.mean_class_accuracy(),
      nothing.frequency_weighted_iou(),
    )
  )


def test_confusion_matrix_counts_a_class_that_is_predicted_but_never_true():
  matrix = ConfusionMatrix.from_batch([0, 0, 0, 1], [0, 0, 0, 0], num_classes=3)
  np.testing.assert_allclose(matrix.iou(), [0.75, 0, np.nan])
  assert matrix.mean_iou() == pytest.approx(0.375)


def test_confusion_matrix_follows_the_order_of_classes():
  label, predicted = maps()
  label = np.where((label < 0) | (label > 3), 255, label)
  order = np.array([2, 0, 3, 1, *range(4, 256)])
  matrix = ConfusionMatrix.from_batch(predicted, label, num_classes=4)
  renamed = ConfusionMatrix.from_batch(order[predicted], order[label], num_classes=4)
  np.testing.assert_allclose(renamed.iou()[order[:4]], matrix.iou())
  assert renamed.mean_iou() == pytest.approx(matrix.mean_iou())


@pytest.mark.parametrize("count", [count_confusions, ConfusionMatrix.from_batch])
@pytest.mark.parametrize("wrong", [3, -1, 255])
def test_confusions_refuse_predictions_that_are_no_class(count, wrong):
  truth = np.array([[0, 0, 1, 255]])
  with pytest.raises(ValueError, match=rf"predicted id {wrong}; expected ids in \[0, 3\)"):
    count(np.array([[wrong, 0, 1, 1]]), truth, num_classes=3)
  count(np.array([[0, 0, 1, wrong]]), truth, num_classes=3)  # Where nothing is labeled.


def test_confusion_matrix_refuses_another_number_of_classes():
  with pytest.raises(ValueError, match="this"):
    ConfusionMatrix.empty(3).merge(ConfusionMatrix.empty(1))


def test_confusion_matrix_refuses_numbers_that_are_no_ids():
  with pytest.raises(ValueError, match="predictions are float64; expected whole numbers"):
    ConfusionMatrix.from_batch([[0.0, 1.0]], [[0, 1]], num_classes=2)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8, np.uint16, np.uint64])
def test_confusions_do_not_depend_on_the_type_of_ids(dtype):
  truth = np.array([[0, 5, 12, 20, 255]]).astype(dtype)
  guess = np.array([[0, 5, 12, 20, 0]]).astype(dtype)
  expected = np.diag(np.isin(np.arange(21), (0, 5, 12, 20)).astype(int))
  for count in (count_confusions, jax.jit(count_confusions, static_argnames="num_classes")):
    if dtype != np.uint64:  # Which devices do not have.
      np.testing.assert_array_equal(count(guess, truth, num_classes=21), expected)
  matrix = ConfusionMatrix.from_batch(guess, truth, num_classes=21)
  np.testing.assert_array_equal(matrix.counts, expected)
