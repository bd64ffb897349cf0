"""Long runs: memory, open files and threads stay what they were.

The short form takes 12 steps of lookahead, whose predictor's steps are those of any training;
`--injections=N` takes 30 N of either kind, so 100 for 3,000 steps.
"""

import gc
import os
import pathlib
import threading

import numpy as np
import orbax.checkpoint as ocp
import pytest

from asmjax.config.build import build_experiment, build_schedule
from asmjax.train.logger import Logger
from asmjax.train.loop import train
from tests.helpers import small_configs as small

_MIB = 2**20
# Growth that is none: allocators round, and caches of a fixed size fill.
_GROWTH = 24 * _MIB
# Of a checkpoint: `Spec.to_json` of tensorstore 0.1.86, which Orbax calls for every array, keeps
# 273 bytes a call.
_CHECKPOINT = _MIB // 16

RUNS = {
  "training": ("asm", {"eval.every": 8, "checkpoint.every": 3}),
  "lookahead": ("load_asm", {**small.AHEAD, "checkpoint.every": 3}),
}


class ResourceMeter(Logger):
  """Notes at each log the bytes in memory and the numbers of open files and threads."""

  def __init__(self):
    self.readings = []

  def log_metrics(self, step, means, scores):
    """Notes what there is now."""
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    self.readings.append((pages * os.sysconf("SC_PAGE_SIZE"), files, threads))


@pytest.fixture
def only_new_garbage():
  """The collector leaves alone what is there: to look through it at every log takes seconds."""
  gc.collect()
  gc.freeze()
  yield
  gc.unfreeze()
  gc.collect()
  gc.freeze()  # As tests/conftest.py does.


@pytest.fixture
def written_at_once(monkeypatch):
  """Steps wait for their checkpoint, whose files and threads would else be in some readings."""
  save = ocp.AsyncCheckpointer.save

  def save_and_wait(self, *args, **kwargs):
    save(self, *args, **kwargs)
    self.wait_until_finished()

  monkeypatch.setattr(ocp.AsyncCheckpointer, "save", save_and_wait)


@pytest.mark.usefixtures("written_at_once", "only_new_garbage")
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="Linux says what is used")
@pytest.mark.parametrize("kind", RUNS)
def test_train_keeps_memory_files_and_threads_flat(kind, tmp_path, injections):
  if kind == "training" and not injections(0):
    pytest.skip("in the long form alone, --injections=N")
  variant, changes = RUNS[kind]
  steps = 30 * injections(0) or 12
  # Steps of a critic are not among them, and cycles end a run that has nothing to gain.
  config = small.config(variant, **changes, **{"train.steps": steps, "train.log_every": 1})
  if kind == "lookahead":
    config.lookahead.rules.update(patience=20, cycles=steps)
  experiment, meter = build_experiment(config), ResourceMeter()
  train(experiment, tmp_path, build_schedule(config, experiment), [meter])
  half = len(meter.readings) // 2
  assert half > steps // 8
  middle, late = (
    np.array(part) for part in (meter.readings[half // 2 : half], meter.readings[half:])
  )
  memory, files, threads = (late.max(0) - middle.max(0)).tolist()
  print(f"{kind}, {steps} steps: {memory / _MIB:+.1f} MiB, {files:+d} files, {threads:+d} threads")
  assert memory < _GROWTH + steps // 3 * _CHECKPOINT and files <= 1 and threads <= 1
  steps_kept = [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()]
  assert len(steps_kept) <= 4
