"""Confusion matrices of runs."""

import json

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from asmjax.analysis.confusions import (
  by_column,
  by_row,
  count_confusions,
  draw_matrix,
  save_matrices,
)
from asmjax.config.build import build_experiment
from asmjax.metrics.confusion import ConfusionMatrix
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small

MATRIX = ConfusionMatrix(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))


def test_rows_are_recall_and_columns_precision():
  np.testing.assert_allclose(by_row(MATRIX), [[0.75, 0.25, 0], [0.25, 0.75, 0], [np.nan] * 3])
  np.testing.assert_allclose(np.diag(by_row(MATRIX)), MATRIX.class_accuracy())
  turned = ConfusionMatrix(MATRIX.counts.T)
  np.testing.assert_allclose(by_column(MATRIX), by_row(turned).T)
  np.testing.assert_allclose(by_column(MATRIX)[:, 0], [6 / 7, 1 / 7, 0])


def test_cells_have_numbers_where_there_is_room_for_them():
  shares = np.full((12, 12), 8.0)
  shares[2, 1], shares[3] = 75.04, np.nan
  axes = Figure().subplots()
  draw_matrix(axes, shares, [f"class{index}" for index in range(12)])
  written = {text.get_position(): text for text in axes.texts}
  # x is the predicted class, y the true one; a class without truth has no numbers.
  assert written[1, 2].get_text() == "75.0" and written[2, 1].get_text() == "8.0"
  assert written[1, 2].get_color() != written[2, 1].get_color()
  assert {y for _, y in written} == set(range(12)) - {3}
  assert [each.get_text() for each in axes.get_yticklabels()][2] == "class2"
  axes = Figure().subplots()
  draw_matrix(axes, np.full((13, 13), 8.0), ["class"] * 13)
  assert not axes.texts


def test_drawings_stand_side_by_side_and_gray_out_missing_classes(tmp_path):
  def gray(**matrices):
    save_matrices(matrices, ("ground", "thing", "boat"), tmp_path / "confusions.png")
    with Image.open(tmp_path / "confusions.png") as picture:
      return np.sum(np.all(np.array(picture.convert("RGB")) == 204, -1))

  whole = ConfusionMatrix(MATRIX.counts + np.eye(3, dtype=np.int64))
  # The boat is in no truth and never predicted: a row above, a column below.
  assert gray(a=MATRIX) > 1000
  assert gray(a=MATRIX, b=MATRIX) == pytest.approx(2 * gray(a=MATRIX), rel=0.01)
  assert gray(a=whole, b=whole) < 100


def test_a_run_is_confused_as_its_checkpoint_predicts(tmp_path):
  made = small.config(
    "iid",
    **{"data.options.length": 5, "eval.batch_size": 8, "tasks.segmentation.extra_metrics": ("bf",)},
  )
  (tmp_path / "config.json").write_text(json.dumps(made.to_dict()))
  with pytest.raises(FileNotFoundError, match="no last checkpoint in .*checkpoints; train first"):
    count_confusions(tmp_path)
  run = build_experiment(made)
  state = run.init_state()
  with open_checkpoints(run, tmp_path) as checkpoints:
    checkpoints.save(state)
  matrix, classes = count_confusions(tmp_path)
  predict = jax.jit(run.game.predict)
  examples = [run.validation[index] for index in range(5)]
  images = np.stack([example["image"] for example in examples])
  guesses = np.argmax(predict(jax.device_get(state.variables()), images)["segmentation"], -1)
  expected = ConfusionMatrix.empty(len(classes))
  for example, guess in zip(examples, guesses, strict=True):
    expected = expected.merge(
      ConfusionMatrix.from_batch(guess, example["label"], num_classes=len(classes))
    )
  np.testing.assert_array_equal(matrix.counts, expected.counts)
  assert matrix.counts.sum() == 5 * 16 * 16 and classes == tuple(run.descriptor.classes)


def test_a_run_that_does_not_segment_is_refused(tmp_path):
  made = small.config("iid,depth", **{"data.options.length": 5})
  (tmp_path / "config.json").write_text(json.dumps(made.to_dict()))
  with pytest.raises(ValueError, match=r"has tasks \['depth'\]; expected 'segmentation'"):
    count_confusions(tmp_path)
