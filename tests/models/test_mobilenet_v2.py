"""MobileNetV2 against published counts and against its definition, layer by layer."""

import jax
import numpy as np
import pytest

from asmjax.models.backbones import mobilenet_v2
from asmjax.models.backbones.mobilenet_v2 import MobileNetV2, round_channels
from asmjax.models.layers import Norm
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

# One stride each, a repeated block and one without expansion.
FEW = ((1, 8, 1, 1), (2, 8, 1, 2), (2, 8, 2, 2), (2, 16, 1, 2), (2, 16, 1, 2))


def tiny(**options):
  return MobileNetV2(width=0.1, top=False, **options)


def test_it_has_torchvisions_number_of_parameters():
  features, variables = backbones.shapes(MobileNetV2(), 224, 224)
  count = backbones.count(variables["params"])
  assert count == 2_223_872 and count + 1280 * 1000 + 1000 == 3_504_872
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    2: (112, 112, 16),
    4: (56, 56, 24),
    8: (28, 28, 32),
    16: (14, 14, 96),
    32: (7, 7, 1280),
  }


@pytest.mark.parametrize(
  "width, multiply_adds, parameters",
  [(1.4, 582, 6.06), (1.0, 300, 3.47), (0.5, 97, 1.95), (0.35, 59, 1.66)],
)
def test_cost_at_224_pixels_is_that_of_the_released_networks(width, multiply_adds, parameters):
  """As tabulated with TF-slim's weights: whole millions, and kernels alone with the classifier."""
  net = MobileNetV2(width=width)
  features, variables = backbones.shapes(net, 224, 224)
  kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
  classifier = features[32].shape[-1] * 1000
  assert (backbones.costs(net, 224, 224)[0] + classifier) // 10**6 == multiply_adds
  assert (backbones.count(kernels) + classifier) / 1e6 == pytest.approx(parameters, abs=0.006)


def test_the_deeplab_variant_ends_in_320_channels_at_an_eighth_of_the_size():
  features, variables = backbones.shapes(MobileNetV2(output_stride=8, top=False), 513, 513)
  assert features[32].shape == (1, 65, 65, 320)
  assert backbones.count(variables["params"]) == 2_223_872 - 320 * 1280 - 2 * 1280


@pytest.mark.parametrize(
  "channels, expected",
  [(32, 32), (1.6, 8), (12, 16), (11.2, 16), (8.4, 8), (33.6, 32), (44.8, 48), (18, 24)],
)
def test_channels_are_multiples_of_8_and_hardly_fewer(channels, expected):
  assert round_channels(channels) == expected


def test_the_network_is_its_definition():
  x = backbones.image(35, 18)
  net = tiny(norm=Norm("none"))
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])

  def layer(x, name, stride=1, grouped=False, limit=6.0):
    kernel, bias = (params[name][key] for key in ("kernel", "bias"))
    dense = kernel * np.eye(x.shape[-1]) if grouped else kernel
    y = reference.convolve(x, dense, bias, stride, 1)
    return np.clip(y, 0, limit) if limit else y

  y, i = layer(x, "conv1", 2), 0
  for expansion, _, count, stride in mobilenet_v2.V2_BLOCKS:
    for j in range(count):
      i += 1
      inner = layer(y, f"block{i}_expand") if expansion > 1 else y
      inner = layer(inner, f"block{i}_depthwise", stride if j == 0 else 1, grouped=True)
      inner = layer(inner, f"block{i}_project", limit=None)
      same = inner.shape == y.shape and (j > 0 or stride == 1)
      y = y + inner if same else inner
  assert f"block{i + 1}_depthwise" not in params and i == 17
  found = jax.jit(lambda: net.apply(variables, x, train=False))()[32]
  np.testing.assert_allclose(found, y, rtol=1e-3, atol=1e-3 * np.std(y))


@pytest.mark.parametrize("size", [(64, 96), (67, 33), (1, 5)])
def test_features_are_rounded_up(size):
  backbones.assert_rounded_up(MobileNetV2, *size)


def test_dilation_in_place_of_strides_finds_the_same_features_more_densely(monkeypatch):
  monkeypatch.setattr(mobilenet_v2, "V2_BLOCKS", FEW)
  backbones.assert_denser(tiny, backbones.image(67, 90))


def test_computing_features_again_changes_nothing(monkeypatch):
  monkeypatch.setattr(mobilenet_v2, "V2_BLOCKS", FEW[:3])
  backbones.assert_recomputed(tiny, backbones.image(20, 33))


def test_statistics_follow_training_unless_frozen(monkeypatch):
  monkeypatch.setattr(mobilenet_v2, "V2_BLOCKS", FEW)
  backbones.assert_statistics_follow_training(tiny, backbones.image(20, 33))


def test_other_output_strides_are_refused():
  with pytest.raises(ValueError, match="output_stride=4; known: 8, 16, 32"):
    MobileNetV2(output_stride=4)
