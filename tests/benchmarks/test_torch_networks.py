"""Name maps hold the importer to independent networks: the same weights, the same features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import VGG, MobileNetV2, ResNet
from asmjax.models.backbones.resnet import BLOCKS
from asmjax.models.layers import Norm
from asmjax.models.predictors import FCN, DeepLab, PSPNet, UNet
from asmjax.pretrained import name_map, transfer

torch = pytest.importorskip("torch", reason="the networks to compare with are in PyTorch")

from benchmarks import torch_maps
from benchmarks import torch_networks as theirs

SIZE = (65, 97)
SMALL = (1, 2, 2, 1)
CLASSES = {"segmentation": 5}


@pytest.fixture(autouse=True)
def two_threads():
  before = torch.get_num_threads()
  torch.set_num_threads(2)
  yield
  torch.set_num_threads(before)


def assert_equal_maps(ours, net, entries):
  """All maps of both networks agree, once ours has the weights of theirs."""
  theirs.randomise(net)
  net.eval()
  image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
  x = jnp.array(image)
  empty = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda: ours.init(jax.random.key(0), x, train=False)),
  )
  variables, coverage = transfer(empty, theirs.weights(net), entries)
  assert not coverage.faults()
  found = jax.jit(lambda variables: ours.apply(variables, x, train=False))(variables)
  with torch.no_grad():
    expected = net(theirs.nchw(image))
  if isinstance(expected, torch.Tensor):
    expected = {"segmentation": expected}
  assert found.keys() == expected.keys()
  for key, each in expected.items():
    each = theirs.nhwc(each)
    scale = each.std()
    assert scale > 1e-3
    np.testing.assert_allclose(found[key], each, rtol=1e-4, atol=1e-4 * scale, err_msg=str(key))


@pytest.mark.parametrize(("blocks", "width", "output_stride"), [
  (BLOCKS[101], 64, 8), (SMALL, 8, 16), (SMALL, 8, 32),
])
def test_resnet(blocks, width, output_stride):
  ours = ResNet(blocks, width, output_stride, "first_3x3")
  net = theirs.ResNet(blocks, width, output_stride)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


@pytest.mark.parametrize(("output_stride", "top"), [(8, False), (32, True)])
def test_mobilenet_v2(output_stride, top):
  ours = MobileNetV2(output_stride=output_stride, top=top)
  net = theirs.MobileNetV2(output_stride, top)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


@pytest.mark.parametrize(("norm", "width", "fully", "output_stride"), [
  (Norm("none"), 64, 0, 32), (Norm(), 8, 16, 32), (Norm(epsilon=0.1), 8, 16, 8),
])
def test_vgg(norm, width, fully, output_stride):
  ours = VGG(norm=norm, width=width, fully=fully, output_stride=output_stride)
  net = theirs.VGG(width, fully, norm.kind == "batch", output_stride)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


def small_resnet(output_stride):
  return (
    ResNet(SMALL, 4, output_stride, "first_3x3"), theirs.ResNet(SMALL, 4, output_stride),
  )


def test_deeplab_v3():
  backbone, net = small_resnet(8)
  ours = DeepLab(CLASSES, backbone, rates=(12, 24, 36), features=8, convs=1)
  net = theirs.DeepLabV3(net, 5, features=8)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


@pytest.mark.parametrize("separable", [False, True])
def test_deeplab_v3_plus(separable):
  backbone, net = small_resnet(16)
  shape = dict(rates=(6, 12), low=3, convs=2, separable=separable, features=8)
  ours = DeepLab(CLASSES, backbone, **shape)
  assert_equal_maps(ours, theirs.DeepLabV3(net, 5, **shape), torch_maps.own_map(ours))


def test_deeplab_of_the_model_zoo():
  shape = dict(rates=(), convs=0, features=8)
  ours = DeepLab(CLASSES, MobileNetV2(output_stride=16, top=False), **shape)
  net = theirs.DeepLabV3(theirs.MobileNetV2(16, top=False), 5, **shape)
  assert_equal_maps(ours, net, torch_maps.own_map(ours))


def test_pspnet():
  backbone, net = small_resnet(8)
  ours = PSPNet(CLASSES, backbone, features=6)
  assert_equal_maps(ours, theirs.PyramidScene(net, 5, features=6), torch_maps.own_map(ours))


def test_fcn():
  ours = FCN(CLASSES, VGG(width=8, fully=16))
  net = theirs.FullyConvolutional(theirs.VGG(8, 16), 5)
  assert_equal_maps(ours, net, torch_maps.own_map(ours))


def test_unet():
  ours = UNet(CLASSES, levels=3, width=4)
  assert_equal_maps(ours, theirs.Contracting(5, (4, 8, 16)), torch_maps.own_map(ours))
