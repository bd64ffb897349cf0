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
from asmjax.utils.trees import leaves_by_path

torch = pytest.importorskip("torch", reason="the networks to compare with are in PyTorch")

from benchmarks.torch_maps import benchmark_map
from benchmarks.torch_networks.arrays import nchw, nhwc, randomize, weights
from benchmarks.torch_networks.backbones import (
  TorchMobileNetV2,
  TorchResNet,
  TorchVGG,
  TorchXception,
)
from benchmarks.torch_networks.predictors import (
  TorchDeepLabV2,
  TorchDeepLabV3,
  TorchDilated,
  TorchFarabet,
  TorchFCN,
  TorchFCRN,
  TorchPSPNet,
  TorchUNet,
)
from benchmarks.torch_networks.published import FROM_LIBRARIES, PREDICTORS

SIZE = (65, 97)
SMALL = (1, 2, 2, 1)
CLASSES = {"segmentation": 5}


@pytest.fixture(autouse=True)
def two_threads():
  before = torch.get_num_threads()
  torch.set_num_threads(2)
  yield
  torch.set_num_threads(before)


def assert_equal_maps(network, torch_network, entries):
  """All maps of both networks agree, once ours has the weights of PyTorch's."""
  randomize(torch_network)
  torch_network.eval()
  image = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
  x = jnp.array(image)
  empty = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False)),
  )
  variables, coverage = transfer(empty, weights(torch_network), entries)
  assert not coverage.describe_faults()
  maps = jax.jit(lambda variables: network.apply(variables, x, train=False))(variables)
  with torch.no_grad():
    expected = torch_network(nchw(image))
  if isinstance(expected, torch.Tensor):
    expected = {"segmentation": expected}
  assert maps.keys() == expected.keys()
  for key, features in expected.items():
    features = nhwc(features)
    scale = features.std()
    assert scale > 1e-3
    np.testing.assert_allclose(maps[key], features, rtol=1e-4, atol=1e-4 * scale, err_msg=str(key))


@pytest.mark.parametrize(
  ("blocks", "width", "output_stride"), [(BLOCKS[101], 64, 8), (SMALL, 8, 16), (SMALL, 8, 32)]
)
def test_name_map_of_resnet(blocks, width, output_stride):
  network = ResNet(blocks, width, "first_3x3", output_stride=output_stride)
  expected = TorchResNet(blocks, width, output_stride)
  assert_equal_maps(network, expected, name_map(network, "torchvision"))


@pytest.mark.parametrize(("output_stride", "top"), [(8, False), (32, True)])
def test_name_map_of_mobilenet_v2(output_stride, top):
  network = MobileNetV2(output_stride=output_stride, top=top)
  expected = TorchMobileNetV2(output_stride, top)
  assert_equal_maps(network, expected, name_map(network, "torchvision"))


@pytest.mark.parametrize(
  ("norm", "width", "fc_features", "output_stride"),
  [(Norm("none"), 64, 0, 32), (Norm(), 8, 16, 32), (Norm(epsilon=0.1), 8, 16, 8)],
)
def test_name_map_of_vgg(norm, width, fc_features, output_stride):
  network = VGG(norm=norm, width=width, fc_features=fc_features, output_stride=output_stride)
  expected = TorchVGG(width, fc_features, norm.kind == "batch", output_stride)
  assert_equal_maps(network, expected, name_map(network, "torchvision"))


def small_resnets(output_stride):
  network = ResNet(SMALL, 4, "first_3x3", output_stride=output_stride)
  return network, TorchResNet(SMALL, 4, output_stride)


def test_name_map_of_deeplab_v3():
  backbone, torch_backbone = small_resnets(8)
  network = DeepLab(CLASSES, backbone, rates=(12, 24, 36), features=8, convs=1)
  expected = TorchDeepLabV3(torch_backbone, 5, features=8)
  assert_equal_maps(network, expected, name_map(network, "torchvision"))


def deeplab_v3_plus(separable):
  backbone, torch_backbone = small_resnets(16)
  shape = dict(rates=(6, 12), low=3, convs=2, separable=separable, features=8)
  return DeepLab(CLASSES, backbone, **shape), TorchDeepLabV3(torch_backbone, 5, **shape)


def deeplab_of_the_model_zoo():
  shape = dict(rates=(), convs=0, features=8)
  network = DeepLab(CLASSES, MobileNetV2(output_stride=16, top=False), **shape)
  return network, TorchDeepLabV3(TorchMobileNetV2(16, top=False), 5, **shape)


def deeplab_v3_plus_on_xception(output_stride):
  shape = dict(rates=(6,), low=3, convs=1, separable=True, features=8)
  network = DeepLab(CLASSES, Xception(1, 1 / 32, output_stride=output_stride), **shape)
  torch_backbone = TorchXception(1, 1 / 32, output_stride=output_stride)
  return network, TorchDeepLabV3(torch_backbone, 5, **shape)


def pspnet():
  backbone, torch_backbone = small_resnets(8)
  return PSPNet(CLASSES, backbone, features=6), TorchPSPNet(torch_backbone, 5, features=6)


def deeplab_v2():
  backbone, torch_backbone = small_resnets(8)
  return DeepLabV2(CLASSES, backbone, rates=(3, 6)), TorchDeepLabV2(torch_backbone, 5, (3, 6))


def fcn(stride):
  network = FCN(CLASSES, VGG(width=4, fc_features=16), stride)
  return network, TorchFCN(TorchVGG(4, 16), 5, stride)


def fcn_on_a_dilated_backbone():
  backbone, torch_backbone = small_resnets(8)
  return FCN(CLASSES, backbone, 32), TorchFCN(torch_backbone, 5, 32)


def dilated():
  network = Dilated(CLASSES, VGG(width=4, fc_features=16, output_stride=8))
  return network, TorchDilated(TorchVGG(4, 16, output_stride=8), 5)


def fcrn():
  return FCRN(CLASSES, ResNet(SMALL, 4)), TorchFCRN(TorchResNet(SMALL, 4, first=True), 5, 4)


def farabet():
  widths, fan_in = (8, 6, 10), (3, 4)
  network = Farabet(CLASSES, widths=widths, fan_in=fan_in, hidden=7)
  return network, TorchFarabet(5, connection_masks((3, *widths), fan_in), hidden=7)


def unet():
  return UNet(CLASSES, levels=3, width=4), TorchUNet(5, (4, 8, 16))


def unet_of_several_convolutions():
  # Six levels, so that sides are halved that are odd, even and 1.
  shape = dict(stride=2, down_kernel=4, join=1, head_kernel=3)
  network = UNet(CLASSES, levels=6, width=2, max_width=8, decoder_convs=3, **shape)
  return network, TorchUNet(5, (2, 4, 8, 8, 8, 8), convs=3, **shape)


PAIRS = {
  "deeplab_v2": deeplab_v2,
  "deeplab_v3_plus": lambda: deeplab_v3_plus(separable=False),
  "deeplab_v3_plus_separable": lambda: deeplab_v3_plus(separable=True),
  "deeplab_v3_plus_xception_8": lambda: deeplab_v3_plus_on_xception(8),
  "deeplab_v3_plus_xception_16": lambda: deeplab_v3_plus_on_xception(16),
  "deeplab_of_the_model_zoo": deeplab_of_the_model_zoo,
  "dilated": dilated,
  "farabet": farabet,
  "fcn8": lambda: fcn(8),
  "fcn16": lambda: fcn(16),
  "fcn32": lambda: fcn(32),
  "fcn_on_a_dilated_backbone": fcn_on_a_dilated_backbone,
  "fcrn": fcrn,
  "pspnet": pspnet,
  "unet": unet,
  "unet_of_several_convolutions": unet_of_several_convolutions,
}


@pytest.mark.parametrize("name", PAIRS)
def test_benchmark_map_gives_equal_maps(name):
  network, expected = PAIRS[name]()
  assert_equal_maps(network, expected, benchmark_map(network))


@pytest.mark.parametrize("name", PREDICTORS)
def test_published_networks_have_the_same_variables(name):
  network = PUBLISHED[name](CLASSES)
  image = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
  if name in FROM_LIBRARIES:
    pytest.importorskip("timm" if name.startswith("hrnet") else "transformers")
  # Files are written to name the arrays, which needs values.
  with torch.device("cpu" if name in FROM_LIBRARIES else "meta"):
    state = PREDICTORS[name](5).state_dict()
  arrays = {
    name: np.broadcast_to(np.float32(0), tuple(value.shape))
    for name, value in state.items()
    if not name.endswith(("num_batches_tracked", "mask_token"))
  }
  entries = benchmark_map(network)
  shapes = {
    path: source.transform(*map(arrays.get, source.names)).shape for path, source in entries.items()
  }
  assert shapes == {path: leaf.shape for path, leaf in leaves_by_path(variables).items()}
  assert arrays.keys() == {name for source in entries.values() for name in source.names}
