"""The cache of compiled programs: where it is, who decides, and how large it gets."""

import os
import subprocess
import sys

import pytest

from asmjax.cli.compilation_cache import _prune
from tests.helpers.small_configs import ROOT

# Compiles one program as a command would, and says whether JAX took it from the cache.
COMPILE = """
import logging, sys
from asmjax.cli.compilation_cache import enable_compilation_cache
enable_compilation_cache()
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: x * 3 + 1)(jax.numpy.ones(7))
print("/jax/compilation_cache/cache_hits" in hits)
"""


def compile_one(**environment):
  inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
  process = subprocess.run(
    [sys.executable, "-c", COMPILE],
    env=inherited | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  return process.stdout.strip() == "True"


def test_enable_compilation_cache_keeps_programs_for_the_next_process(tmp_path):
  user = {"XDG_CACHE_HOME": str(tmp_path / "user")}
  assert [compile_one(**user) for _ in range(2)] == [False, True]
  assert list((tmp_path / "user" / "asmjax" / "xla").iterdir())


def test_enable_compilation_cache_leaves_the_choice_to_jax(tmp_path):
  user, other = {"XDG_CACHE_HOME": str(tmp_path / "user")}, tmp_path / "other"
  assert not compile_one(**user, JAX_COMPILATION_CACHE_DIR=str(other))
  assert list(other.iterdir()) and not (tmp_path / "user").exists()


def test_enable_compilation_cache_does_without_a_folder(tmp_path):
  (tmp_path / "file").write_text("")
  assert not compile_one(XDG_CACHE_HOME=str(tmp_path / "file"))


@pytest.mark.parametrize("max_bytes, names", [(30, "dcb"), (29, "dc"), (5, ""), (99, "dcba")])
def test_prune_deletes_the_oldest(tmp_path, max_bytes, names):
  for age, name in enumerate("dcba"):
    (tmp_path / name).write_bytes(bytes(10))
    os.utime(tmp_path / name, (1000 - age, 1000 - age))
  _prune(tmp_path, max_bytes)
  assert {path.name for path in tmp_path.iterdir()} == set(names)
