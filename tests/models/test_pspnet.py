"""PSPNet against its definition in NumPy; auxiliary maps exist in training alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import ResNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import PSPNet
from asmjax.ops import resize_bilinear, use_cpu_kernels
from asmjax.terms.base import AUXILIARY
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

NONE = Norm("none")
HEADS = {"a": 2, "b": 1}


def tiny(**options):
  return PSPNet(HEADS, ResNet((1, 1, 1, 1), 2, output_stride=8), features=4, **options)


def test_pspnet_has_the_parameters_of_resnet_and_of_the_pyramid():
  """Of ResNet-101 torchvision's number without its classifier."""
  _, variables = backbones.shapes(PSPNet({"segmentation": 21}), 65, 65)
  resnet = 44_549_160 - 2048 * 1000 - 1000
  pools, fuse = 4 * (2048 * 512 + 2 * 512), 3 * 3 * 4096 * 512 + 2 * 512
  assert backbones.count(variables["params"]) == resnet + pools + fuse + 512 * 21 + 21


@pytest.mark.parametrize("size", [(22, 14), (3, 9)])
def test_pspnet_is_its_definition(size):
  x = backbones.image(*size)
  net = PSPNet(HEADS, backbones.Thinned(output_stride=8), bins=(1, 2, 4), features=3, norm=NONE)
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])
  conv = lambda name, x: reference.convolve(x, *(params[name][k] for k in ("kernel", "bias")), 1, 1)
  y = np.asarray(x)[:, ::2, ::2]
  h, w = y.shape[1:3]
  maps = [y]
  for bins in net.bins:
    means = np.zeros((1, bins, bins, 3))
    for i, j in np.ndindex(bins, bins):
      means[:, i, j] = y[
        :, i * h // bins : -(-(i + 1) * h // bins), j * w // bins : -(-(j + 1) * w // bins)
      ].mean((1, 2))
    pooled = np.maximum(conv(f"pool{bins}", means), 0)
    maps.append(resize_bilinear(pooled, (h, w), align_corners=True))
  y = np.maximum(conv("fuse", np.concatenate(maps, -1)), 0)
  outputs = jax.jit(lambda: net.apply(variables, x, train=False))()
  for task in HEADS:
    expected = conv(f"head_{task}", y)
    np.testing.assert_allclose(outputs[task], expected, rtol=1e-4, atol=1e-4)


def test_pspnet_auxiliary_maps_come_from_the_stage_before_the_last():
  x = backbones.image(19, 14)
  net = PSPNet(
    HEADS,
    backbones.Thinned(output_stride=32),
    bins=(1,),
    features=3,
    norm=NONE,
    auxiliary=3,
    dropout=0.0,
  )
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])
  conv = lambda name, x: reference.convolve(x, *(params[name][k] for k in ("kernel", "bias")), 1, 1)
  outputs, sown = net.apply(variables, x, train=True, mutable=["intermediates"])
  maps = sown["intermediates"][AUXILIARY][0]
  aside = np.maximum(conv("aside", np.asarray(x)[:, ::4, ::4]), 0)
  for task in HEADS:
    size = outputs[task].shape[1:3]
    assert size == (3, 2) and aside.shape[1:3] == (5, 4)
    expected = resize_bilinear(conv(f"head_{task}_auxiliary", aside), size, align_corners=True)
    np.testing.assert_allclose(maps[task], expected, rtol=1e-4, atol=1e-5)


def traced(net, variables, x, train):
  """Number of convolutions and matrix products, and what is sown."""

  def run(variables, x):
    return net.apply(
      variables,
      x,
      train=train,
      mutable=["intermediates", "batch_stats"],
      rngs={"dropout": jax.random.key(0)},
    )[1]["intermediates"]

  with use_cpu_kernels(False):
    jaxpr, sown = jax.make_jaxpr(run, return_shape=True)(variables, x)
  names = [equation.primitive.name for equation in jaxpr.eqns]
  return sum(name in ("conv_general_dilated", "dot_general") for name in names), sown


def test_pspnet_auxiliary_heads_cost_nothing_in_evaluation():
  x = jnp.zeros((1, 33, 41, 3))
  without, aided = tiny(), tiny(auxiliary=4)
  _, variables = backbones.shapes(aided, 33, 41)
  extra = set(variables["params"]) - set(backbones.shapes(without, 33, 41)[1]["params"])
  assert extra == {"aside", "aside_norm", "head_a_auxiliary", "head_b_auxiliary"}
  counts = {}
  for train in (False, True):
    for name, net in (("without", without), ("aided", aided)):
      counts[name, train], sown = traced(net, variables, x, train)
      assert (AUXILIARY in sown) == (train and net is aided)
  assert counts["without", True] == counts["without", False] == counts["aided", False]
  assert counts["aided", True] == counts["without", True] + 3


def test_pspnet_drops_entire_channels():
  x = backbones.image(20, 24)
  net = PSPNet(HEADS, backbones.Thinned(output_stride=8), features=64, norm=NONE, dropout=0.5)
  variables = backbones.initial(net, x)
  features = jax.jit(
    lambda train, key: net.apply(
      variables, x, train=train, mutable=["intermediates"], rngs={"dropout": key}
    )[1]["intermediates"]["features"][0],
    static_argnums=0,
  )
  undropped, first, second = (
    features(False, jax.random.key(0)),
    *(features(True, jax.random.key(i)) for i in (0, 1)),
  )
  kept = [np.any(dropped, (0, 1, 2)) for dropped in (first, second)]
  alive = np.any(undropped, (0, 1, 2))
  assert np.any(kept[0] != kept[1]) and 10 < kept[0].sum() < alive.sum() - 10
  np.testing.assert_allclose(first, 2 * undropped * kept[0][None, None, None], rtol=1e-5)
