"""Eight simulated devices, shapes checked at run time, no silent rank promotion."""

import gc
import os

from tests.helpers.xla_flags import xla_flags

os.environ["XLA_FLAGS"] = xla_flags(devices=8)
os.environ["JAX_PLATFORMS"] = "cpu"

from jaxtyping import install_import_hook

# Not `ops` and `models.layers`, whose functions are called thousands of times: the checks of their
# shapes took a seventh of the time that tests of networks need.
install_import_hook(
  [
    f"asmjax.{part}"
    for part in (
      "batch",
      "game",
      "inference",
      "losses",
      "metrics",
      "models.adapters",
      "models.critics",
      "models.predictors",
      "tasks",
      "terms",
    )
  ],
  "beartype.beartype",
)

import jax
import pytest

from tests.helpers.compilation_cache import cache_programs

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish():
  """Has the collector of garbage leave alone what is imported, and look at the rest rarely."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
  """One more than cores: tests that wait for disks and processes of their own leave one idle."""
  return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


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
  with cache_programs(tmp_path_factory.mktemp("compiled")):
    yield


@pytest.fixture
def float64():
  """Double precision for one test."""
  with jax.enable_x64(True):
    yield
