"""Xception against published counts and against its definition, layer by layer."""

import jax
import numpy as np
import pytest

from asmjax.models.backbones import xception
from asmjax.models.backbones.xception import Xception
from asmjax.models.layers import Norm
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

MODULES = ("entry1", "entry2", "entry3", "middle1", "exit1")


def tiny(**options):
  return Xception(1, 1 / 32, **options)


@pytest.mark.parametrize(
  "middle, parameters, products, values", [(16, 39_916_312, 14.0, 52.5), (8, 26_969_560, 9.3, 39.9)]
)
def test_xception_costs_what_the_released_networks_do(middle, parameters, products, values):
  """As in timm's model cards, which count two operations for every value that is normalized."""
  net = Xception(middle)
  features, variables = backbones.shapes(net, 299, 299)
  assert backbones.count(variables["params"]) + 2048 * 1000 + 1000 == parameters
  multiply_adds, num_values = backbones.costs(net, 299, 299)
  assert round(num_values / 1e6, 1) == values
  assert round((multiply_adds + 2 * num_values) / 1e9, 1) == products
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    2: (150, 150, 128),
    4: (75, 75, 256),
    8: (38, 38, 728),
    16: (19, 19, 1024),
    32: (10, 10, 2048),
  }


def test_xception_has_2048_channels_at_stride_16_and_256_at_stride_4():
  features, _ = backbones.shapes(Xception(output_stride=16), 513, 513)
  assert features[32].shape == (1, 33, 33, 2048) and features[4].shape == (1, 129, 129, 256)


def test_xception_is_its_definition():
  x = image = backbones.image(35, 18)
  net = tiny(norm=Norm("none"))
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])
  relu = lambda x: np.maximum(x, 0)

  def layer(x, values, stride=1, grouped=False):
    kernel = values["kernel"] * np.eye(x.shape[-1]) if grouped else values["kernel"]
    return reference.convolve(x, kernel, values["bias"], stride, 1)

  def separable(x, module, i, stride, after):
    x = after(layer(x, params[module][f"conv{i}_depthwise"], stride, grouped=True))
    return after(layer(x, params[module][f"conv{i}_pointwise"]))

  x, inner = relu(layer(relu(layer(x, params["conv1"], 2)), params["conv2"])), {}
  for module in MODULES:
    stride = 1 if module == "middle1" else 2
    inner[module] = separable(relu(x), module, 1, 1, np.asarray)
    inner[module] = separable(relu(inner[module]), module, 2, 1, np.asarray)
    y = separable(relu(inner[module]), module, 3, stride, np.asarray)
    x = y + (x if stride == 1 else layer(x, params[module]["shortcut"], 2))
  for i in (1, 2, 3):
    x = separable(x, "exit2", i, 1, relu)
  expected = [inner[f"entry{i}"] for i in (1, 2, 3)] + [inner["exit1"], x]
  features = jax.jit(lambda: net.apply(variables, image, train=False))()
  assert set(params) == {"conv1", "conv2", *MODULES, "exit2"}
  for a, b in zip(features.values(), expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.std(b))


@pytest.mark.parametrize("size", [(64, 67), (1, 5)])
def test_xception_rounds_sizes_up(size):
  backbones.assert_rounded_up(tiny, *size)


def test_xception_dilated_in_place_of_strides_has_the_same_features_more_densely():
  backbones.assert_denser(tiny, backbones.image(67, 90))


def test_xception_remat_changes_nothing(monkeypatch):
  monkeypatch.setattr(xception, "ENTRY", ())
  backbones.assert_recomputed(tiny, backbones.image(20, 33))


def test_xception_statistics_follow_training_unless_frozen():
  backbones.assert_statistics_follow_training(tiny, backbones.image(40, 33))
