"""Training from Python."""

import numpy as np
import pytest

import asmjax
from asmjax.run import Run

SMALL = {
  "data.options.length": 8,
  "train.steps": 2,
  "train.batch_size": 8,
  "train.log_every": 1,
  "eval.batch_size": 8,
  "predictor.levels": 2,
  "predictor.width": 4,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return asmjax.train("scenes:iid", tmp_path_factory.mktemp("run") / "iid", **SMALL)


def test_train_returns_the_scores_of_the_run(run):
  assert run.metrics == run.results["metrics"]
  assert run.results["step"] == 2 and 0 <= run.metrics["segmentation/mean_iou"] <= 1
  assert "segmentation/mean_iou" in repr(run)


def test_train_resumes_to_the_same_scores(run):
  assert asmjax.train("scenes:iid", run.workdir, **SMALL).results == run.results


def test_train_refuses_another_config_in_the_same_folder(run):
  with pytest.raises(ValueError, match="optimizer.predictor.learning_rate: 0.002 -> 0.1"):
    asmjax.train("scenes:iid", run.workdir, **SMALL, **{"optimizer.predictor.learning_rate": 0.1})


def test_run_predicts_images_at_their_own_size(run):
  image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
  prediction = run.predict(image)["segmentation"]
  assert prediction.shape == (40, 52) and prediction.max() < 9
  again = Run(run.workdir, which="last").predict(image)["segmentation"]
  np.testing.assert_array_equal(prediction, again)  # The last step is the best of one evaluation.


def test_run_reports_on_itself(run):
  page = run.report(count=1).read_text()
  assert "mean IoU" in page and run.workdir.name in page


def test_run_names_the_folder_without_results(tmp_path):
  with pytest.raises(FileNotFoundError, match="results.json does not exist; expected the folder"):
    _ = Run(tmp_path).metrics
