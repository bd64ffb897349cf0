"""The step that benchmarks read, and what they draw to run it."""

import jax

from asmjax.config.load import load_config
from benchmarks.abstract_step import lower_step


def test_draw_inputs_are_those_of_the_program():
  overrides = {"predictor.levels": "1", "predictor.width": "4", "data.size": "(32,32)"}
  step = lower_step(load_config("scenes:iid,segmentation+depth+normals", overrides))
  describe = lambda array: (array.shape, array.dtype)
  expected, _ = jax.tree.map(describe, step.lowered.args_info)
  assert jax.tree.map(describe, step.draw_inputs()) == tuple(expected)
  assert {"image", "label", "depth", "normals", "weight"} == step.draw_inputs()[1].keys()
