"""The launcher on a run without training."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data import decode
from tests.helpers import inference_runs
from tests.helpers import small_configs as small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  inference_runs.run(folder, "iid")
  return folder


def predict(run, source, out, *flags):
  return small.launch(
    "predict.py", f"--workdir={run}", f"--input={source}", f"--out={out}", *flags, devices=1
  )


def test_predict_command_predicts_readable_files_and_fails_for_others(run, tmp_path):
  for name, size in (("a", (30, 40)), ("b", (16, 9))):
    Image.fromarray(inference_runs.image(*size)).save(tmp_path / f"{name}.png")
  (tmp_path / "c.png").write_bytes(b"no image")
  out = tmp_path / "out"
  code, output = predict(
    run,
    tmp_path,
    out,
    "--checkpoint=best",
    "--scales=1,1.5",
    "--flip",
    "--window=24",
    "--overlap=8",
    "--batch_size=2",
    "--overlay",
    "--probabilities",
  )
  assert code == 1 and f"skipped: {tmp_path / 'c.png'} cannot be decoded" in output
  assert "Traceback" not in output
  assert output.splitlines()[-1].startswith(f"{out}: 2 images in ")
  for name, size in (("a", (30, 40)), ("b", (16, 9))):
    with np.load(out / f"segmentation_probabilities/{name}.npz") as kept:
      probabilities = kept["probabilities"].astype(np.float32)
    assert probabilities.shape == (*size, 9)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=5e-3)
    label = decode.read_ids(out / f"segmentation/{name}.png")
    chosen = np.take_along_axis(probabilities, label[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, probabilities.max(-1), atol=1e-3)
    assert decode.read_colors(out / f"segmentation_overlay/{name}.png").shape == (*size, 3)


def test_predict_command_refuses_a_picture_for_a_folder(run, tmp_path):
  code, output = predict(run, tmp_path, tmp_path / "one.PNG")
  assert code == 1 and not (tmp_path / "one.PNG").exists()
  assert output == f"FATAL out is '{tmp_path}/one.PNG'; expected a folder for the predictions\n"


def test_predict_command_names_wrong_flags(run, tmp_path):
  code, output = predict(run, tmp_path, tmp_path, "--scales=1,large")
  assert code == 1
  assert output.startswith("FATAL --scales=1,large: could not convert string to float: 'large'")
