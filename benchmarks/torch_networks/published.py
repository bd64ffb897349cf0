"""PyTorch's side of asmjax's published predictors, by their names: functions of the classes."""

from collections.abc import Callable
from typing import Any

from torch import nn

from asmjax.models.backbones.resnet import BLOCKS
from asmjax.models.predictors.farabet import connection_masks
from benchmarks.torch_networks.backbones import (
  TorchMobileNetV2,
  TorchResNet,
  TorchVGG,
  TorchXception,
)
from benchmarks.torch_networks.libraries import (
  TorchHRNetV2,
  TorchSegFormer,
  TorchUPerNet,
  TorchViTLinear,
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


def _deeplab(backbone: nn.Module, classes: int, **shape: Any) -> nn.Module:
  return TorchDeepLabV3(backbone, classes, **{"rates": (6, 12, 18), "convs": 0, **shape})


def _plus(backbone: nn.Module, classes: int) -> nn.Module:
  return _deeplab(backbone, classes, low=48, convs=2, separable=True)


def _resnet(depth: int, output_stride: int) -> nn.Module:
  return TorchResNet(BLOCKS[depth], output_stride=output_stride)


def _mobilenet() -> nn.Module:
  return TorchMobileNetV2(16, top=False)


def _hrnet(classes: int) -> nn.Module:
  from timm.models.hrnet import cfg_cls

  return TorchHRNetV2(cfg_cls["hrnet_w18"], classes)


# Those that need timm or transformers.
FROM_LIBRARIES: dict[str, Callable[[int], nn.Module]] = {
  "hrnet_w18": _hrnet,
  "segformer_b0": TorchSegFormer,
  "upernet_convnext_tiny": TorchUPerNet,
  "dinov2_small_linear": TorchViTLinear,
}

PREDICTORS: dict[str, Callable[[int], nn.Module]] = {
  "unet7": TorchUNet,
  "unet18": lambda classes: TorchUNet(
    classes, (64, 128, 256, *[512] * 6), stride=2, down_kernel=4, convs=3, join=1, head_kernel=3
  ),
  "fcn32s_vgg16": lambda classes: TorchFCN(TorchVGG(fc_features=4096), classes, 32),
  "fcn16s_vgg16": lambda classes: TorchFCN(TorchVGG(fc_features=4096), classes, 16),
  "fcn8s_vgg16": lambda classes: TorchFCN(TorchVGG(fc_features=4096), classes),
  "fcn_resnet101": lambda classes: TorchFCN(_resnet(101, 8), classes, 32),
  "deeplab_v2_resnet101": lambda classes: TorchDeepLabV2(_resnet(101, 8), classes),
  "deeplab_v3_resnet50": lambda classes: _deeplab(_resnet(50, 16), classes),
  "deeplab_v3_resnet101": lambda classes: _deeplab(_resnet(101, 16), classes),
  "deeplab_v3_mobilenet_v2": lambda classes: _deeplab(_mobilenet(), classes, rates=()),
  "deeplab_v3_plus_xception65": lambda classes: _plus(TorchXception(output_stride=16), classes),
  "deeplab_v3_plus_mobilenet_v2": lambda classes: _plus(_mobilenet(), classes),
  "pspnet_resnet50": lambda classes: TorchPSPNet(_resnet(50, 8), classes),
  "pspnet_resnet101": lambda classes: TorchPSPNet(_resnet(101, 8), classes),
  "dilated8": lambda classes: TorchDilated(TorchVGG(fc_features=4096, output_stride=8), classes),
  # The connections, once chosen at random, belong to the network.
  "farabet": lambda classes: TorchFarabet(classes, connection_masks((3, 16, 64, 256), (8, 32))),
  "fcrn50": lambda classes: TorchFCRN(TorchResNet(BLOCKS[50], first=True), classes),
  **FROM_LIBRARIES,
}
