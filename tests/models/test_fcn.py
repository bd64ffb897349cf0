"""FCN: doubling begins as interpolation, scores of several strides add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import VGG, ResNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import FCN
from asmjax.ops import resize_bilinear
from tests.helpers import tiny_backbones as backbones

STRIDES = (32, 16, 8)


def thinned(output_stride=32):
  return backbones.Thinned(output_stride=output_stride, finest=8)


def test_fcn_32s_has_the_parameters_of_vgg_16_with_its_own_classifier():
  """Published with 138,357,544 parameters for 1000 classes, and as FCN with 134 million."""
  _, variables = backbones.shapes(FCN({"segmentation": 21}, stride=32), 32, 32)
  count = backbones.count(variables["params"])
  assert count == 138_357_544 - 4097 * 1000 + 4097 * 21 and round(count / 1e6) == 134


@pytest.fixture(scope="module")
def scored():
  """Features of 32x36 pixels at stride 8, initial parameters, and the maps of all three nets.

  Under 0 the map of FCN-8s with scores at stride 32 alone.
  """
  x = backbones.image(32, 36)
  nets = {stride: FCN({"a": 2}, thinned(), stride=stride) for stride in STRIDES}
  params = jax.jit(lambda: nets[8].init(jax.random.key(0), x, train=False))()["params"]
  blind = params | {
    name: jax.tree.map(jnp.zeros_like, params[name]) for name in ("head_a_16", "head_a_8")
  }

  @jax.jit
  def run():
    maps = {s: net.apply({"params": params}, x, train=False)["a"] for s, net in nets.items()}
    return maps | {0: nets[8].apply({"params": blind}, x, train=False)["a"]}

  return x, params, run()


def inner(x, border):
  return x[:, border:-border, border:-border]


def test_fcn_doubles_bilinearly_at_first(scored):
  _, _, maps = scored
  assert maps[32].shape == (1, 8, 9, 2)
  expected = resize_bilinear(resize_bilinear(maps[32], (16, 18)), (32, 36))
  assert maps[0].shape == (1, 32, 36, 2) and np.std(maps[32]) > 0.1
  np.testing.assert_allclose(inner(maps[0], 3), inner(expected, 3), rtol=1e-5, atol=1e-5)


def test_fcn_adds_its_scores_to_the_doubled_map_of_the_coarser_network(scored):
  x, params, maps = jax.tree.map(np.asarray, scored)
  for coarse, fine, every in ((32, 16, 2), (16, 8, 1)):
    score = params[f"head_a_{fine}"]
    own = x[:, ::every, ::every] @ score["kernel"][0, 0] + score["bias"]
    expected = resize_bilinear(maps[coarse], own.shape[1:3]) + own
    assert maps[fine].shape == expected.shape
    np.testing.assert_allclose(inner(maps[fine], 1), inner(expected, 1), rtol=1e-5, atol=1e-5)


def test_fcn_on_a_dilated_backbone_adds_up_scores_without_doubling():
  x, net = backbones.image(9, 7), FCN({"a": 2}, thinned(8))
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])
  assert set(params) == {"head_a", "head_a_16", "head_a_8"}
  expected = sum(np.asarray(x) @ p["kernel"][0, 0] + p["bias"] for p in params.values())
  maps = jax.jit(lambda: net.apply(variables, x, train=False))()
  np.testing.assert_allclose(maps["a"], expected, rtol=1e-4, atol=1e-5)


def test_fcn_32s_has_the_same_scores_on_a_denser_backbone():
  x = backbones.image(67, 50)
  coarse, dense = (
    FCN({"a": 2}, ResNet((1, 1, 1, 1), 4, output_stride=stride, norm=Norm("none")), stride=32)
    for stride in (32, 16)
  )
  variables = backbones.initial(coarse, x)
  dense_scores, expected = jax.jit(
    lambda: [net.apply(variables, x, train=False)["a"] for net in (dense, coarse)]
  )()
  assert expected.shape == (1, 3, 2, 2) and np.std(expected) > 0.01
  np.testing.assert_allclose(dense_scores[:, ::2, ::2], expected, rtol=1e-4, atol=1e-4)


def test_fcn_refuses_unknown_strides():
  with pytest.raises(ValueError, match="=4; known: 8, 16, 32"):
    FCN({"a": 2}, VGG(), stride=4)
