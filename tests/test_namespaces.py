"""What `import asmjax` offers, and what it leaves alone."""

import importlib
import subprocess
import sys

import pytest

import asmjax
from tests.helpers.small_configs import ROOT

EXTRAS = ("grain", "tensorflow_datasets", "cv2", "matplotlib", "ml_collections", "tensorboardX")


@pytest.mark.parametrize("name", asmjax.__all__)
def test_namespace_is_imported_on_first_use(name):
  assert getattr(asmjax, name) is importlib.import_module(f"asmjax.{name}")


def test_namespace_that_is_unknown_is_an_attribute_error():
  with pytest.raises(AttributeError, match="module 'asmjax' has no attribute 'loses'"):
    _ = asmjax.loses


def test_core_needs_no_extra():
  code = (
    "import sys, asmjax.gradients, asmjax.losses, asmjax.metrics, asmjax.models.critics\n"
    "import asmjax.models.predictors\n"
    f"print([name for name in {EXTRAS} if name in sys.modules])"
  )
  process = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
  )
  assert process.stdout.strip() == "[]"
