"""Pictures that cannot be read, predicted or written, among others."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data import decode, image_files
from asmjax.inference.predict import PredictionJob
from asmjax.inference.programs import MemoryLimits
from asmjax.inference.views import Inference
from tests.helpers import inference_runs


def save(path, size=(12, 20)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(inference_runs.image(*size)).save(path)
  return path


def test_prediction_job_finishes_around_any_single_picture(tmp_path):
  """Empty, damaged, too large for memory, too thin, and with names that cannot be written."""
  photos, out = tmp_path / "photos", tmp_path / "out"
  whole = [save(photos / f"{name}.png") for name in "amz"]
  thin = save(photos / "thin.png", (1, 5000))
  large = save(photos / "large.png", (300, 1300))
  long = save(photos / f"{'n' * 250}.png")
  blocked = save(photos / "blocked.png")
  (out / "depth" / "blocked.png").mkdir(parents=True)
  empty, cut = photos / "empty.jpg", photos / "cut.png"
  empty.write_bytes(b"")
  cut.write_bytes(whole[0].read_bytes()[:60])
  job = PredictionJob(
    inference_runs.trained(inference_runs.Strided), photos, out, Inference(memory=0.03)
  )
  summary = job.run()
  assert summary.num_images == 4 and len(summary.faults) == 5
  for path, words in (
    (large, "300x1300 pixels"),
    (long, "cannot be written"),
    (blocked, "cannot be written"),
    (empty, "cannot be decoded"),
    (cut, "cannot be decoded"),
  ):
    (fault,) = [fault for fault in summary.faults if f"{path} " in fault]
    assert words in fault
  for path in (*whole, thin):
    assert (out / "segmentation" / path.name).is_file()
  assert not list(out.rglob("*.part"))


def test_prediction_job_needs_memory_for_few_rows_of_a_large_picture(tmp_path):
  """All its soft predictions would take more than the quarter of memory that there is for them."""
  trained, size = inference_runs.trained(inference_runs.Local), (800, 500)
  save(tmp_path / "photos" / "a.png", size)
  for name, options in (("few", {"memory": 0.03}), ("all", {})):
    job = PredictionJob(trained, tmp_path / "photos", tmp_path / name, Inference(**options))
    summary = job.run()
    assert (summary.num_images, summary.faults, len(summary.cut)) == (1, (), name == "few")
  assert 4 * np.prod(size) * sum(task.channels for task in trained.game.tasks.values()) > (
    MemoryLimits.measure(0.03).arrays
  )
  for task in trained.game.tasks:
    few, whole = (np.array(Image.open(tmp_path / n / task / "a.png")) for n in ("few", "all"))
    assert few.shape[:2] == size
    # Windows overlap by more than the network sees. At the borders it sees padding.
    inner = (slice(inference_runs.REACH, -inference_runs.REACH),) * 2
    differences = np.abs(few[inner].astype(int) - whole[inner])
    assert differences.max() <= (2 if task == "segmentation" else 1)
    assert np.mean(differences > 0) < 1e-3


def test_read_photo_refuses_more_pixels_than_the_user_trusts(tmp_path, monkeypatch):
  path = save(tmp_path / "a.png", (100, 100))
  limit = "expected at most 0.0 million.*set ASMJAX_MAX_MEGAPIXELS if you trust"
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
  with pytest.raises(ValueError, match=f"a.png has 100 x 100 pixels; {limit}"):
    decode.read_photo(path)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
  with pytest.raises(ValueError, match=f"a.png has too many pixels .*{limit}"):
    decode.read_photo(path)
  monkeypatch.setenv(image_files.MAX_MEGAPIXELS, "0.01")
  np.testing.assert_array_equal(decode.read_photo(path), inference_runs.image(100, 100))
  assert Image.MAX_IMAGE_PIXELS == 4_000
  monkeypatch.setenv(image_files.MAX_MEGAPIXELS, "many")
  with pytest.raises(ValueError, match="ASMJAX_MAX_MEGAPIXELS is 'many'; expected a number"):
    decode.read_photo(path)
