"""Metrics against those of other libraries.

NumPy oracles hold them in the tests of each metric, and need no other library. See
`tests/losses/test_parity.py` for losses; `python -m tests.helpers.parity` prints both as tables.
"""

import numpy as np
import pytest

from asmjax import metrics
from tests.helpers.parity import Case, compute, compute_reference, find, measure_error, to_tensor

CLASSES, IGNORED = 5, 255


def label_maps():
  """Predicted and true ids; class 4 is in neither, and some pixels are ignored."""
  rng = np.random.default_rng(0)
  predicted, label = rng.integers(0, CLASSES - 1, (2, 3, 12, 16))
  label = np.where(rng.random(label.shape) < 0.3, predicted, label)
  label[rng.random(label.shape) < 0.1] = IGNORED
  return predicted, label


def probabilities():
  predicted, label = label_maps()
  rng = np.random.default_rng(1)
  logits = 2 * np.eye(CLASSES)[predicted] + rng.normal(size=(*predicted.shape, CLASSES))
  p = np.exp(logits)
  return (p / p.sum(-1, keepdims=True)).astype(np.float32), label


def depth_maps():
  """Depths in meters, and true ones, 0 where they are unknown."""
  rng = np.random.default_rng(0)
  predicted, depth = rng.uniform(0.5, 9, (2, 3, 12, 16))
  return predicted, depth * (rng.random(depth.shape) > 0.2)


def normal_maps():
  return tuple(np.random.default_rng(0).normal(size=(2, 3, 12, 16, 3)))


def regions():
  """Masks that do not touch the border, where MONAI has an edge and ours none."""
  rows, columns = np.indices((1, 24, 30))[1:]
  true = (rows - 11) ** 2 + (columns - 14) ** 2 < 64
  predicted = (rows - 12) ** 2 / 2 + (columns - 16) ** 2 < 60
  return predicted.astype(int), true.astype(int)


def confusion(predicted, label):
  return metrics.ConfusionMatrix.from_batch(predicted, label, num_classes=CLASSES)


def calibration(p, label):
  return metrics.Calibration.from_batch(p, label)


def depth_errors(name):
  return lambda predicted, depth: metrics.DepthErrors.from_batch(predicted, depth).compute()[name]


def surface_dice(predicted, true):
  """Both precision and recall of boundaries, as the part of all their pixels that match."""
  options = {"num_classes": 2, "tolerance": metrics.Tolerance(2, "pixels")}
  score = metrics.BFScore.from_batch(predicted, true, **options).compute_by_class()
  pixels = metrics.ContourBenchmark.from_batch(predicted, true, **options)
  matched = score["precision"] * pixels.predicted + score["recall"] * pixels.true
  return (matched / (pixels.predicted + pixels.true))[1]


def sklearn_labels(name, **options):
  def score(predicted, label):
    known = label != IGNORED
    return find(f"sklearn.metrics.{name}")(label[known], predicted[known], **options)

  return score


def sklearn_depth(name):
  def score(predicted, depth):
    known = depth > 0
    return find(f"sklearn.metrics.{name}")(depth[known], predicted[known])

  return score


def torchmetrics_labels(name, **options):
  def score(predicted, label):
    function = find(f"torchmetrics.functional.classification.{name}")
    predicted = np.moveaxis(predicted, -1, 1) if predicted.ndim > 3 else predicted
    tensors = (to_tensor(predicted), to_tensor(label))
    return function(*tensors, num_classes=CLASSES, ignore_index=IGNORED, **options).numpy()

  return score


def torchmetrics_log_rms(predicted, depth):
  # It adds 1 to both.
  function = find("torchmetrics.functional.regression.mean_squared_log_error")
  known = depth > 0
  return np.sqrt(function(to_tensor(predicted[known] - 1), to_tensor(depth[known] - 1)).numpy())


def torchmetrics_angle(predicted, true):
  function = find("torchmetrics.functional.image.spectral_angle_mapper")
  maps = (to_tensor(np.moveaxis(x, -1, 1)) for x in (predicted, true))
  return np.degrees(function(*maps).numpy())


def monai_surface_dice(predicted, true):
  function = find("monai.metrics.compute_surface_dice")
  maps = (np.stack([x == c for c in range(2)], 1).astype(np.float64) for x in (predicted, true))
  return function(*map(to_tensor, maps), class_thresholds=[2.0]).numpy()[0, 0]


def case(reference, make, ours, theirs, differences=""):
  return Case(reference, make, ours, theirs, differences, differentiable=False)


CASES = {
  "ConfusionMatrix.counts": case(
    "torchmetrics.functional.classification.multiclass_confusion_matrix",
    label_maps,
    lambda *maps: confusion(*maps).counts,
    torchmetrics_labels("multiclass_confusion_matrix"),
  ),
  "ConfusionMatrix.mean_iou": case(
    "sklearn.metrics.jaccard_score",
    label_maps,
    lambda *maps: confusion(*maps).mean_iou(),
    sklearn_labels("jaccard_score", average="macro"),
  ),
  "ConfusionMatrix.iou": case(
    "torchmetrics.functional.classification.multiclass_jaccard_index",
    label_maps,
    lambda *maps: np.nan_to_num(confusion(*maps).iou()),
    torchmetrics_labels("multiclass_jaccard_index", average=None),
    "a class in neither map has 0; Torchmetrics' `mean_iou` is another: a mean over images",
  ),
  "ConfusionMatrix.mean_class_accuracy": case(
    "sklearn.metrics.balanced_accuracy_score",
    label_maps,
    lambda *maps: confusion(*maps).mean_class_accuracy(),
    sklearn_labels("balanced_accuracy_score"),
  ),
  "ConfusionMatrix.pixel_accuracy": case(
    "sklearn.metrics.accuracy_score",
    label_maps,
    lambda *maps: confusion(*maps).pixel_accuracy(),
    sklearn_labels("accuracy_score"),
  ),
  "ConfusionMatrix.frequency_weighted_iou": case(
    "sklearn.metrics.jaccard_score",
    label_maps,
    lambda *maps: confusion(*maps).frequency_weighted_iou(),
    sklearn_labels("jaccard_score", average="weighted"),
  ),
  "Calibration.expected_error": case(
    "torchmetrics.functional.classification.multiclass_calibration_error",
    probabilities,
    lambda *maps: calibration(*maps).expected_error(),
    torchmetrics_labels("multiclass_calibration_error", n_bins=15),
    "bins closed below; MONAI's `CalibrationErrorMetric` is another: of the probability of each "
    "class, not of the largest",
  ),
  "Calibration.maximum_error": case(
    "torchmetrics.functional.classification.multiclass_calibration_error",
    probabilities,
    lambda *maps: calibration(*maps).maximum_error(),
    torchmetrics_labels("multiclass_calibration_error", n_bins=15, norm="max"),
    "bins closed below",
  ),
  "DepthErrors, rel": case(
    "sklearn.metrics.mean_absolute_percentage_error",
    depth_maps,
    depth_errors("rel"),
    sklearn_depth("mean_absolute_percentage_error"),
  ),
  "DepthErrors, rms": case(
    "sklearn.metrics.root_mean_squared_error",
    depth_maps,
    depth_errors("rms"),
    sklearn_depth("root_mean_squared_error"),
  ),
  "DepthErrors, log_rms": case(
    "torchmetrics.functional.regression.mean_squared_log_error",
    depth_maps,
    depth_errors("log_rms"),
    torchmetrics_log_rms,
    "of numbers that are 1 larger, and no root",
  ),
  "NormalErrors, mean": case(
    "torchmetrics.functional.image.spectral_angle_mapper",
    normal_maps,
    lambda *maps: metrics.NormalErrors.from_batch(*maps).compute()["mean"],
    torchmetrics_angle,
    "radians; an arc cosine, inexact for small angles",
  ),
  "BFScore, precision and recall": case(
    "monai.metrics.compute_surface_dice",
    regions,
    surface_dice,
    monai_surface_dice,
    "their mean by numbers of pixels, not F; the image border is an edge",
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_those_of_other_libraries(name):
  expected, _ = compute_reference(CASES[name])
  found, _ = compute(CASES[name])
  assert measure_error(found, expected) < 1e-5
