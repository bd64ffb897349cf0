"""A checkpoint of an earlier version, whose names differ everywhere, resumes to the same numbers.

`stored/before_names.npz` is step 4 of 6 of a tiny run of structure matching and adaptive affinity
fields, by the paths of that version's state; `stored/before_names.json` has the metrics that it
logged for steps 5 and 6, and those of its evaluation.
"""

import json

import jax
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.train.loop import open_checkpoints, train
from tests.helpers import small_configs as small

STORED = small.ROOT / "tests" / "train" / "stored"

# Parts of the paths of a state, now and then. All other parts have kept their names.
PATHS = {"['non_edge']": "['nonedge']"}
# Metrics, now and then.
METRICS = {
  "max_weight": "largest",
  "non_edge": "nonedge",
  "gradient_norm_from/": "sent/",
  "gradient_norm/": "gradient/",
  "gradient_scale/": "balance/",
  "analyzer_conv": "climb_conv",
  "smallest_norm_conv": "smallest_conv",
}
# Metrics that were not logged then.
NEW = ("loss", "epoch", "learning_rate/")


def renamed(text, table):
  """A text in which the parts of a table are replaced."""
  for now, then in table.items():
    text = text.replace(now, then)
  return text


def test_train_resumes_a_stored_checkpoint_to_the_numbers_of_its_version(tmp_path):
  config = small.config(
    "asm_aaf",
    **{
      "train.steps": 6,
      "train.log_every": 1,
      "eval.every": 2,
      "checkpoint.every": 2,
      "checkpoint.keep": 9,
    },
  )
  run = build_experiment(config)
  arrays = np.load(STORED / "before_names.npz")
  paths, tree = jax.tree_util.tree_flatten_with_path(run.random_state())
  names = [renamed(jax.tree_util.keystr(path), PATHS) for path, _ in paths]
  assert sorted(names) == sorted(arrays.files)
  state = jax.tree_util.tree_unflatten(tree, [arrays[name] for name in names])
  with open_checkpoints(run, tmp_path) as checkpoints:
    checkpoints.save(state, step=4)
  results = train(run, tmp_path)
  before = json.loads((STORED / "before_names.json").read_text())
  # To rounding: XLA may compile a step otherwise whose results have another order.
  assert len(small.logged(tmp_path)) == len(before["log"]) == 2
  for now, then in zip(small.logged(tmp_path), before["log"], strict=True):
    now = {renamed(name, METRICS): value for name, value in now.items()}
    now = {name: value for name, value in now.items() if not name.startswith(NEW)}
    assert now.keys() == then.keys()
    assert now == pytest.approx(then, rel=1e-5, abs=1e-7, nan_ok=True)
  assert results["metrics"] == pytest.approx(before["metrics"], abs=1e-6, nan_ok=True)
