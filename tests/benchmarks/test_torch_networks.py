"""Name maps hold the importer to independent networks: the same weights, the same features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import VGG, MobileNetV2, ResNet, Xception
from asmjax.models.backbones.resnet import BLOCKS
from asmjax.models.layers import Norm
from asmjax.models.predictors import FCN, FCRN, DeepLab, DeepLabV2, Dilated, Farabet, PSPNet, UNet
from asmjax.models.predictors.farabet import connection_masks
from asmjax.models.predictors.published import PUBLISHED
from asmjax.pretrained import name_map, transfer
from asmjax.pretrained.names import leaves_by_path

torch = pytest.importorskip("torch", reason="the networks to compare with are in PyTorch")

from benchmarks import torch_maps
from benchmarks import torch_networks as theirs
from benchmarks.torch_networks.published import PREDICTORS

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
  theirs.randomize(net)
  net.eval()
  image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
  x = jnp.array(image)
  empty = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda: ours.init(jax.random.key(0), x, train=False)),
  )
  variables, coverage = transfer(empty, theirs.weights(net), entries)
  assert not coverage.describe_faults()
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


@pytest.mark.parametrize(
  ("blocks", "width", "output_stride"), [(BLOCKS[101], 64, 8), (SMALL, 8, 16), (SMALL, 8, 32)]
)
def test_resnet(blocks, width, output_stride):
  ours = ResNet(blocks, width, "first_3x3", output_stride=output_stride)
  net = theirs.ResNet(blocks, width, output_stride)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


@pytest.mark.parametrize(("output_stride", "top"), [(8, False), (32, True)])
def test_mobilenet_v2(output_stride, top):
  ours = MobileNetV2(output_stride=output_stride, top=top)
  net = theirs.MobileNetV2(output_stride, top)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


@pytest.mark.parametrize(
  ("norm", "width", "fc_features", "output_stride"),
  [(Norm("none"), 64, 0, 32), (Norm(), 8, 16, 32), (Norm(epsilon=0.1), 8, 16, 8)],
)
def test_vgg(norm, width, fc_features, output_stride):
  ours = VGG(norm=norm, width=width, fc_features=fc_features, output_stride=output_stride)
  net = theirs.VGG(width, fc_features, norm.kind == "batch", output_stride)
  assert_equal_maps(ours, net, name_map(ours, "torchvision"))


def small_resnet(output_stride):
  ours = ResNet(SMALL, 4, "first_3x3", output_stride=output_stride)
  return ours, theirs.ResNet(SMALL, 4, output_stride)


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
  assert_equal_maps(ours, theirs.DeepLabV3(net, 5, **shape), torch_maps.benchmark_map(ours))


def test_deeplab_of_the_model_zoo():
  shape = dict(rates=(), convs=0, features=8)
  ours = DeepLab(CLASSES, MobileNetV2(output_stride=16, top=False), **shape)
  net = theirs.DeepLabV3(theirs.MobileNetV2(16, top=False), 5, **shape)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_pspnet():
  backbone, net = small_resnet(8)
  ours = PSPNet(CLASSES, backbone, features=6)
  assert_equal_maps(ours, theirs.PyramidScene(net, 5, features=6), torch_maps.benchmark_map(ours))


@pytest.mark.parametrize("output_stride", [8, 16])
def test_deeplab_v3_plus_on_xception(output_stride):
  backbone = Xception(1, 1 / 32, output_stride=output_stride)
  shape = dict(rates=(6,), low=3, convs=1, separable=True, features=8)
  ours = DeepLab(CLASSES, backbone, **shape)
  net = theirs.DeepLabV3(theirs.Xception(1, 1 / 32, output_stride=output_stride), 5, **shape)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_deeplab_v2():
  backbone, net = small_resnet(8)
  ours = DeepLabV2(CLASSES, backbone, rates=(3, 6))
  assert_equal_maps(ours, theirs.DeepLabV2(net, 5, (3, 6)), torch_maps.benchmark_map(ours))


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_fcn(stride):
  ours = FCN(CLASSES, VGG(width=4, fc_features=16), stride)
  net = theirs.FullyConvolutional(theirs.VGG(4, 16), 5, stride)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_fcn_on_a_dilated_backbone():
  backbone, net = small_resnet(8)
  ours = FCN(CLASSES, backbone, 32)
  assert_equal_maps(ours, theirs.FullyConvolutional(net, 5, 32), torch_maps.benchmark_map(ours))


def test_dilated():
  ours = Dilated(CLASSES, VGG(width=4, fc_features=16, output_stride=8))
  net = theirs.Dilated(theirs.VGG(4, 16, output_stride=8), 5)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_fcrn():
  ours = FCRN(CLASSES, ResNet(SMALL, 4))
  net = theirs.UpProjecting(theirs.ResNet(SMALL, 4, first=True), 5, 4)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_farabet():
  widths, fan_in = (8, 6, 10), (3, 4)
  ours = Farabet(CLASSES, widths=widths, fan_in=fan_in, hidden=7)
  net = theirs.MultiScale(5, connection_masks((3, *widths), fan_in), hidden=7)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


def test_unet():
  ours = UNet(CLASSES, levels=3, width=4)
  assert_equal_maps(ours, theirs.Contracting(5, (4, 8, 16)), torch_maps.benchmark_map(ours))


def test_unet_of_several_convolutions():
  # Six levels, so that sides are halved that are odd, even and 1.
  shape = dict(stride=2, down_kernel=4, join=1, head_kernel=3)
  ours = UNet(CLASSES, levels=6, width=2, max_width=8, decoder_convs=3, **shape)
  net = theirs.Contracting(5, (2, 4, 8, 8, 8, 8), convs=3, **shape)
  assert_equal_maps(ours, net, torch_maps.benchmark_map(ours))


@pytest.mark.parametrize("name", PREDICTORS)
def test_published_networks_have_the_same_variables(name):
  ours = PUBLISHED[name](CLASSES)
  image = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
  shapes = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, train=False), image)
  with torch.device("meta"):
    state = PREDICTORS[name](5).state_dict()
  weights = {
    name: np.broadcast_to(np.float32(0), tuple(value.shape))
    for name, value in state.items()
    if not name.endswith("num_batches_tracked")
  }
  entries = torch_maps.benchmark_map(ours)
  found = {
    path: source.transform(*map(weights.get, source.names)).shape
    for path, source in entries.items()
  }
  assert found == {path: leaf.shape for path, leaf in leaves_by_path(shapes).items()}
  assert weights.keys() == {name for source in entries.values() for name in source.names}
