"""Eight simulated devices, shapes checked at run time, no silent rank promotion."""

import os

from tests.helpers.xla_flags import xla_flags

os.environ["XLA_FLAGS"] = xla_flags(devices=8)
os.environ["JAX_PLATFORMS"] = "cpu"

from jaxtyping import install_import_hook

install_import_hook(
  [
    f"asmjax.{part}"
    for part in (
      "batch",
      "game",
      "inference",
      "losses",
      "metrics",
      "models",
      "ops",
      "pretrained",
      "tasks",
      "terms",
    )
  ],
  "beartype.beartype",
)

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
  parser.addoption(
    "--injections",
    type=int,
    default=None,
    help="number of faults that each test of tests/faults injects; a few by default",
  )


@pytest.fixture
def injections(request):
  """Function of a small default number that returns how many faults to inject."""
  chosen = request.config.getoption("injections")
  return lambda default: default if chosen is None else chosen


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
  """Runs of one module do not compile again what one of them has."""
  settings = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture
def float64():
  """Double precision for one test."""
  with jax.enable_x64(True):
    yield
