"""VGG against published counts, its definition and the front end of dilated networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import vgg
from asmjax.models.backbones.vgg import VGG, VGG16
from asmjax.models.layers import Norm
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference


def tiny(**options):
  return VGG(width=4, **options)


def defined(net, x, output_stride):
  """Pooled maps and those of fc7, with the parameters of a variable tree."""
  params, maps, dilation = jax.tree.map(np.asarray, net["params"]), [], 1

  def layer(x, name, dilation):
    y = reference.convolve(x, *(params[name][key] for key in ("kernel", "bias")), 1, dilation)
    return np.maximum(y, 0)

  for i, count in enumerate(VGG16, 1):
    for j in range(1, count + 1):
      x = layer(x, f"conv{i}_{j}", dilation)
    if 2**i > output_stride:
      dilation *= 2
    else:
      pads = ((0, 0), *((0, side % 2) for side in x.shape[1:3]), (0, 0))
      x = np.pad(x, pads, constant_values=-np.inf)
      x = np.maximum(x[:, ::2], x[:, 1::2])
      x = np.maximum(x[:, :, ::2], x[:, :, 1::2])
    maps.append(x)
  return [*maps[:-1], layer(layer(x, "fc6", dilation), "fc7", 1)]


def test_vgg_has_the_published_number_of_parameters_and_multiply_adds():
  features, variables = backbones.shapes(VGG(), 224, 224)
  _, complete = backbones.shapes(VGG(fc_features=4096), 32, 32)
  _, normalized = backbones.shapes(VGG(norm=Norm()), 32, 32)
  assert backbones.count(variables["params"]) == 14_714_688
  assert backbones.count(complete["params"]) + 4096 * 1000 + 1000 == 138_357_544
  fc_products = (
    sum(complete["params"][name]["kernel"].size for name in ("fc6", "fc7")) + 4096 * 1000
  )
  # In torchvision's network with normalization each of the 4224 channels keeps its bias.
  top_parameters = fc_products + 2 * 4096 + 1000
  assert backbones.count(normalized["params"]) + 4224 + top_parameters == 138_365_992
  products, _ = backbones.costs(VGG(), 224, 224)
  assert round((products + fc_products) / 1e9, 2) == 15.47
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    2: (112, 112, 64),
    4: (56, 56, 128),
    8: (28, 28, 256),
    16: (14, 14, 512),
    32: (7, 7, 512),
  }


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_vgg_is_its_definition_with_pools_left_out_and_dilation(output_stride):
  x = backbones.image(35, 19)
  net = tiny(fc_features=16, output_stride=output_stride)
  variables = backbones.initial(net, x)
  features = jax.jit(lambda: net.apply(variables, x, train=False))()
  expected = defined(variables, x, output_stride)
  for a, b in zip(features.values(), expected, strict=True):
    assert np.std(b) > 0.01
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.std(b))


@pytest.mark.parametrize("size", [(64, 67), (1, 5)])
def test_vgg_rounds_sizes_up(size):
  backbones.assert_rounded_up(tiny, *size)


def test_vgg_dilated_in_place_of_strides_has_the_same_features_but_for_pools(monkeypatch):
  monkeypatch.setattr(vgg.nn, "max_pool", lambda x, *_: x[:, ::2, ::2])
  backbones.assert_denser(lambda **options: tiny(fc_features=6, **options), backbones.image(67, 90))


@pytest.mark.parametrize("norm", [Norm("none"), Norm()])
def test_vgg_remat_changes_nothing(norm, monkeypatch):
  monkeypatch.setattr(vgg, "VGG16", (2, 1))
  backbones.assert_recomputed(
    lambda **options: tiny(fc_features=6, norm=norm, **options), backbones.image(8, 9)
  )


def test_vgg_statistics_follow_training_unless_frozen():
  backbones.assert_statistics_follow_training(tiny, backbones.image(40, 33))


def test_vgg_drops_half_of_the_fully_connected_values_in_training_alone():
  x, net = backbones.image(20, 33), tiny(fc_features=1000)
  variables = backbones.initial(net, x)
  run = jax.jit(
    lambda key, train: net.apply(variables, x, train=train, rngs={"dropout": key})[32],
    static_argnums=1,
  )
  undropped, undropped_again, dropped, dropped_anew = (
    run(jax.random.key(seed), train) for train in (False, True) for seed in (0, 1)
  )
  assert jnp.array_equal(undropped, undropped_again) and jnp.any(dropped != dropped_anew)
  zeros = lambda x: float(jnp.mean(x == 0))
  assert zeros(dropped) - zeros(undropped) == pytest.approx((1 - zeros(undropped)) / 2, abs=0.05)
