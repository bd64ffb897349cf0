"""The launcher on a run without training, and the example that loads what it writes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from asmjax.inference.trained import TrainedPredictor
from tests.helpers import inference_runs
from tests.helpers import small_configs as small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  inference_runs.run(folder, "iid")
  return folder


def export(run, out, *flags):
  return small.launch(
    "export.py", f"--workdir={run}", f"--out={out}", "--platforms=cpu", *flags, devices=1
  )


def test_export_command_writes_a_function_that_runs_without_the_library(run, tmp_path):
  code, output = export(run, tmp_path / "net.stablehlo", "--checkpoint=best")
  assert code == 0, output
  assert "input   image uint8 (n, h, w, 3)\noutput  segmentation int32 (n, h, w)\n" in output
  image = inference_runs.image(16, 16)
  Image.fromarray(image).save(tmp_path / "photo.png")
  environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
  subprocess.run(
    [
      sys.executable,
      small.ROOT / "examples" / "load_exported.py",
      "net.stablehlo",
      "photo.png",
      "labeled.png",
    ],
    cwd=tmp_path,
    env=environment,
    check=True,
  )
  trained = TrainedPredictor.open(run, "best")
  logits = trained.game.predict(trained.variables, image[None])["segmentation"]
  (label,) = trained.game.tasks["segmentation"].predict(logits, (16, 16))
  assert len(np.unique(label)) > 1
  with Image.open(tmp_path / "labeled.png") as labeled:
    np.testing.assert_array_equal(np.asarray(labeled), label)
    np.testing.assert_array_equal(
      np.asarray(labeled.convert("RGB")), np.array(trained.descriptor.palette)[label]
    )


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--size=large", "FATAL --size=large; expected any or HxW, as 144x192"),
    ("--batch=0", "FATAL --batch=0; expected any, or a number above 0"),
  ],
)
def test_export_command_names_wrong_flags(run, tmp_path, flag, message):
  code, output = export(run, tmp_path / "net.stablehlo", flag)
  assert code == 1 and output.startswith(message) and "Traceback" not in output
  assert not list(tmp_path.iterdir())
