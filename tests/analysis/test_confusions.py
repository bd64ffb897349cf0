"""Confusion matrices of runs."""

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from asmjax.analysis.confusions import (
  count_confusions,
  draw_matrix,
  normalize_columns,
  normalize_rows,
  save_matrices,
)
from asmjax.metrics.confusion import ConfusionMatrix
from tests.helpers.finished_runs import save_untrained, write_run

MATRIX = ConfusionMatrix(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))


def test_normalize_rows_is_recall_and_normalize_columns_precision():
  np.testing.assert_allclose(
    normalize_rows(MATRIX), [[0.75, 0.25, 0], [0.25, 0.75, 0], [np.nan] * 3]
  )
  np.testing.assert_allclose(np.diag(normalize_rows(MATRIX)), MATRIX.class_accuracy())
  transposed = ConfusionMatrix(MATRIX.counts.T)
  np.testing.assert_allclose(normalize_columns(MATRIX), normalize_rows(transposed).T)
  np.testing.assert_allclose(normalize_columns(MATRIX)[:, 0], [6 / 7, 1 / 7, 0])


def test_draw_matrix_writes_numbers_where_cells_are_large_enough():
  shares = np.full((12, 12), 8.0)
  shares[2, 1], shares[3] = 75.04, np.nan
  axes = Figure().subplots()
  draw_matrix(axes, shares, [f"class{index}" for index in range(12)])
  cells = {text.get_position(): text for text in axes.texts}
  # x is the predicted class, y the true one; a class without truth has no numbers.
  assert cells[1, 2].get_text() == "75.0" and cells[2, 1].get_text() == "8.0"
  assert cells[1, 2].get_color() != cells[2, 1].get_color()
  assert {y for _, y in cells} == set(range(12)) - {3}
  assert axes.get_yticklabels()[2].get_text() == "class2"
  axes = Figure().subplots()
  draw_matrix(axes, np.full((13, 13), 8.0), ["class"] * 13)
  assert not axes.texts


def test_save_matrices_draws_side_by_side_with_missing_classes_in_gray(tmp_path):
  def count_gray(**matrices):
    save_matrices(matrices, ("ground", "sky", "boat"), tmp_path / "confusions.png")
    with Image.open(tmp_path / "confusions.png") as picture:
      return np.sum(np.all(np.array(picture.convert("RGB")) == 204, -1))

  complete = ConfusionMatrix(MATRIX.counts + np.eye(3, dtype=np.int64))
  # The boat is in no truth and never predicted: a row above, a column below.
  assert count_gray(a=MATRIX) > 1000
  assert count_gray(a=MATRIX, b=MATRIX) == pytest.approx(2 * count_gray(a=MATRIX), rel=0.01)
  assert count_gray(a=complete, b=complete) < 100


def test_count_confusions_counts_the_predictions_of_the_checkpoint(tmp_path):
  settings = {"tasks.segmentation.extra_metrics": ("bf",), "data.options.length": 5}
  run, state = save_untrained(tmp_path, "iid", **settings, **{"eval.batch_size": 8})
  matrix, classes = count_confusions(tmp_path)
  predict = jax.jit(run.game.predict)
  examples = [run.validation[index] for index in range(5)]
  images = np.stack([example["image"] for example in examples])
  predictions = np.argmax(predict(jax.device_get(state.variables()), images)["segmentation"], -1)
  expected = ConfusionMatrix.empty(len(classes))
  for example, prediction in zip(examples, predictions, strict=True):
    expected = expected.merge(
      ConfusionMatrix.from_batch(prediction, example["label"], num_classes=len(classes))
    )
  np.testing.assert_array_equal(matrix.counts, expected.counts)
  assert matrix.counts.sum() == 5 * 16 * 16 and classes == tuple(run.descriptor.classes)


def test_count_confusions_refuses_a_run_without_a_checkpoint_or_segmentation(tmp_path):
  write_run(tmp_path / "iid", (0.5, 0.8, 0.03, 0.9, 0.1))
  with pytest.raises(FileNotFoundError, match="no last checkpoint in .*checkpoints; train first"):
    count_confusions(tmp_path / "iid")
  save_untrained(tmp_path, "iid,depth", **{"data.options.length": 5})
  with pytest.raises(ValueError, match=r"has tasks \['depth'\]; expected 'segmentation'"):
    count_confusions(tmp_path)
