"""What `import asmjax` offers, and what it leaves alone."""

import importlib
import subprocess
import sys

import pytest

import asmjax
from tests.helpers.small_configs import ROOT

EXTRAS = ("grain", "tensorflow_datasets", "cv2", "matplotlib", "ml_collections", "tensorboardX")


@pytest.mark.parametrize("name", sorted({*asmjax.__all__} - {"Run"}))
def test_namespace_is_imported_on_first_use(name):
  assert getattr(asmjax, name) is importlib.import_module(f"asmjax.{name}")


def test_asmjax_lists_what_is_public_alone():
  assert dir(asmjax) == sorted([*asmjax.__all__, "__version__"])
  assert asmjax.Run is importlib.import_module("asmjax.run").Run
  with pytest.raises(FileNotFoundError, match="expected the folder of a finished run"):
    _ = asmjax.Run("nothing").results


@pytest.mark.parametrize(
  "code, user", [("asmjax.train('scenes:iid', 'unused')", "train"), ("asmjax.data", "asmjax.data")]
)
def test_core_names_the_extra_that_has_a_missing_module(code, user):
  without = "import sys; sys.modules['cv2'] = None\nimport asmjax\n"
  process = subprocess.run(
    [sys.executable, "-c", without + code], capture_output=True, text=True, cwd=ROOT
  )
  last = process.stderr.splitlines()[-1]
  assert last.endswith(f"MissingExtraError: {user} needs cv2: pip install 'asmjax[train]'")


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
