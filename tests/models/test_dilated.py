"""Dilated8: the context module of Yu and Koltun's Table 1, and how it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.predictors import FCN, Dilated
from tests.helpers import tiny_backbones as backbones


def on_pixels(scores, **options):
  """The head alone: scores and context of the image's pixels."""
  backbone = backbones.Thinned(output_stride=8, finest=8)
  return Dilated({"a": scores}, backbone, **options)


def test_dilated_is_fcn_32s_and_a_module_of_64_kernels_of_1x1():
  """64 C^2 weights for C scores (Sec. 3)."""
  (_, dilated), (_, fcn) = (
    backbones.shapes(net, 32, 32)
    for net in (Dilated({"segmentation": 21}), FCN({"segmentation": 21}, stride=32))
  )
  module = backbones.count(dilated["params"]) - backbones.count(fcn["params"])
  assert module == 64 * 21**2 + 8 * 21


def test_dilated_has_the_channels_of_table_1_in_the_large_module():
  _, variables = backbones.shapes(on_pixels(5, large=True), 8, 8)
  shapes = [variables["params"][f"head_a_context{i}"]["kernel"].shape for i in range(1, 9)]
  widths = [5 * factor for factor in (1, 2, 2, 4, 8, 16, 32, 32, 1)]
  assert shapes == [
    (k, k, *pair)
    for k, pair in zip([3] * 7 + [1], zip(widths, widths[1:], strict=False), strict=True)
  ]


def initialized(net, x):
  """Parameters, what the module gives, and the scores that it sees."""
  outputs, variables = jax.jit(lambda: net.init_with_output(jax.random.key(0), x, train=False))()
  score = jax.tree.map(np.asarray, variables["params"]["head_a"])
  return np.asarray(outputs["a"]), np.asarray(x) @ score["kernel"][0, 0] + score["bias"]


def test_dilated_passes_positive_scores_unchanged_at_first():
  maps, scores = initialized(on_pixels(4), backbones.image(9, 8))
  assert 0.2 < np.mean(scores > 0) < 0.8
  np.testing.assert_allclose(maps, np.maximum(scores, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("noise, tolerance", [(0.0, 1e-6), (1e-4, 0.02)])
def test_dilated_passes_positive_scores_but_for_noise_in_the_large_module(noise, tolerance):
  maps, scores = initialized(on_pixels(3, large=True, noise=noise), backbones.image(9, 8))
  error = np.abs(maps - np.maximum(scores, 0)).max() / scores.max()
  assert error <= tolerance and (error > 1e-4) == (noise > 0)


def test_dilated_has_the_receptive_field_of_table_1():
  x = jnp.ones((1, 75, 73, 3))
  net = on_pixels(2)
  _, variables = backbones.shapes(net, 75, 73)
  # Positive weights pass all that is seen on.
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32), variables
  )
  center = lambda x: jnp.sum(net.apply(variables, x, train=False)["a"][:, 37, 36])
  field = np.any(np.asarray(jax.jit(jax.grad(center))(x)), (0, -1))
  expected = np.zeros((75, 73), bool)
  expected[37 - 33 : 37 + 34, 36 - 33 : 36 + 34] = True
  np.testing.assert_array_equal(field, expected)
