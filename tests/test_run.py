"""Training from Python."""

import signal

import jax
import numpy as np
import pytest
from PIL import Image

import asmjax
from asmjax.config.load import format_values, load_config, override_config
from asmjax.run import Run, prepare_run
from asmjax.train.logger import Logger
from asmjax.utils.lock import lock_folder
from asmjax.utils.stopping import Stopped
from tests.helpers import small_configs as small

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


def test_train_of_a_finished_run_says_so_and_keeps_its_scores(run, capsys):
  assert asmjax.train("scenes:iid", run.workdir, **SMALL).results == run.results
  assert capsys.readouterr().out == "finished before, at step 2; nothing to train\n"


def test_train_refuses_another_config_in_the_same_folder(run):
  with pytest.raises(ValueError, match="optimizer.predictor.learning_rate: 0.002 -> 0.1"):
    asmjax.train("scenes:iid", run.workdir, **SMALL, **{"optimizer.predictor.learning_rate": 0.1})


def test_run_predicts_images_at_their_own_size(run):
  image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
  prediction = run.predict(image)["segmentation"]
  assert prediction.shape == (40, 52) and prediction.max() < 9
  again = Run(run.workdir, which="last").predict(image)["segmentation"]
  np.testing.assert_array_equal(prediction, again)  # The last step is the best of one evaluation.


def test_run_predicts_files_and_refuses_what_is_no_image(run, tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
  Image.fromarray(image).save(tmp_path / "a.png")
  by_array, by_path = (run.predict(each)["segmentation"] for each in (image, tmp_path / "a.png"))
  np.testing.assert_array_equal(by_array, by_path)
  for wrong in (image / np.float32(255), image[..., 0], image[None], image[..., :1]):
    with pytest.raises(ValueError, match=r"expected \(h, w, 3\) uint8"):
      run.predict(wrong)


def test_train_refuses_what_is_no_logger(tmp_path):
  with pytest.raises(TypeError, match="is no logger; expected a subclass of asmjax.train.logger"):
    asmjax.train("scenes:iid", tmp_path, loggers=[object()])


def test_run_reports_on_itself(run):
  page = run.report(count=1).read_text()
  assert "mean IoU" in page and run.workdir.name in page


class Signal(Logger):
  """Sends this process a signal when a step is logged."""

  def __init__(self, step, number):
    self._step, self._number = step, number

  def log_metrics(self, step, means, scores):
    if step == self._step:
      signal.raise_signal(self._number)


LONGER = SMALL | {"train.steps": 5, "predictor.levels": 1}


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
  return asmjax.train("scenes:iid", tmp_path_factory.mktemp("longer"), **LONGER)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_train_leaves_on_a_signal_and_goes_on_to_the_very_same_end(longer, tmp_path, number):
  handler = signal.getsignal(number)
  text = rf"{number.name}: left after step 3, which is saved; the same command goes on"
  with pytest.raises(Stopped, match=text) as stopped:
    asmjax.train("scenes:iid", tmp_path, loggers=[Signal(2, number)], **LONGER)
  assert stopped.value.by_keyboard == (number == signal.SIGINT)
  assert signal.getsignal(number) is handler
  assert (tmp_path / "checkpoints" / "3").is_dir() and not (tmp_path / "results.json").exists()
  again = asmjax.train("scenes:iid", tmp_path, **LONGER)
  assert again.results == longer.results
  last = [small.last_state(run.workdir) for run in (again, longer)]
  jax.tree.map(np.testing.assert_array_equal, *last)


def test_train_finishes_a_run_whose_last_step_is_done(longer, tmp_path):
  run = asmjax.train("scenes:iid", tmp_path, loggers=[Signal(4, signal.SIGTERM)], **LONGER)
  assert run.results == longer.results


def test_prepare_run_refuses_a_folder_in_which_another_training_is_at_work(tmp_path):
  config = override_config(load_config("scenes:iid"), format_values(SMALL))
  with lock_folder(tmp_path, "a test"):
    with pytest.raises(ValueError, match=f"another training is at work in {tmp_path}; expected"):
      prepare_run(config, tmp_path)
    assert not (tmp_path / "config.json").exists()
  prepare_run(config, tmp_path)
  prepare_run(config, tmp_path)  # The first was never begun.


def test_run_names_the_folder_without_results(tmp_path):
  with pytest.raises(FileNotFoundError, match="results.json does not exist; expected the folder"):
    _ = Run(tmp_path).metrics
