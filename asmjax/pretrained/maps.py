"""The name maps of all networks that there are published weights for."""

import functools
from collections.abc import Collection, Sequence

import flax.linen as nn

from asmjax.models.backbones import (
  VGG,
  ConvNeXt,
  HRNet,
  MixTransformer,
  MobileNetV1,
  MobileNetV2,
  ResNet,
  ViT,
  Xception,
)
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.models.predictors.dpt import DPT
from asmjax.models.predictors.hrnet_v2 import HRNetV2
from asmjax.models.predictors.segformer import SegFormer
from asmjax.models.predictors.upernet import UPerNet
from asmjax.pretrained import slim, torchvision, transformers, vit
from asmjax.pretrained.convnext import convnext
from asmjax.pretrained.hrnet import hrnet, hrnet_v2
from asmjax.pretrained.names import NameMap, nest, prefix_names


def name_map(network: nn.Module, naming: str) -> NameMap:
  """Returns the map from a network's variables to the names in a file of published weights.

  Of a predictor, the head of the task "segmentation" takes the published classifier; other heads
  have no entry.

  Args:
    network: Network that takes the weights. Its batch norm may have another epsilon than the
      published one: the map makes up for it.
    naming: Way of naming: "torchvision", "timm", "transformers" for Hugging Face's, "dinov2" for
      the files of DINOv2's authors, "hrnet" for those of HRNet's repository for segmentation, or
      "slim" for TF-Slim and the DeepLab model zoo.

  Raises:
    ValueError: There is no such map, or the network differs from the published one in more than
      numbers of channels and blocks.
  """
  key = (type(network), naming)
  if key not in MAPS:
    known = ", ".join(sorted(f"{kind.__name__} in {names!r}" for kind, names in MAPS))
    raise ValueError(f"no name map for {type(network).__name__} in {naming!r}; known: {known}")
  return MAPS[key](network)


def find_name_map(network: nn.Module, namings: Sequence[str], names: Collection[str]) -> NameMap:
  """Returns the map of the naming that has most of its names in common with a file.

  Args:
    network: Network that takes the weights; see `name_map`.
    namings: Ways of naming that files of the format may have; the first one wins a tie.
    names: Names in the file.

  Raises:
    ValueError: There is no such map, or the network differs from all published ones.
  """
  known = [naming for naming in namings if (type(network), naming) in MAPS]
  maps, errors = [], []
  for naming in known or namings[:1]:
    try:
      maps.append(name_map(network, naming))
    except ValueError as error:
      errors.append(error)
  if not maps:
    raise errors[0]
  count = lambda entries: sum(name in names for source in entries.values() for name in source.names)
  return max(maps, key=count)


def _map_torchvision_deeplab(network: DeepLab) -> NameMap:
  backbone = prefix_names("backbone.", name_map(network.backbone, "torchvision"))
  return nest("backbone", backbone) | torchvision.deeplab(network)


def _map_slim_deeplab(network: DeepLab) -> NameMap:
  return nest("backbone", name_map(network.backbone, "slim")) | slim.deeplab(network)


def _map_hrnet(network: HRNet) -> NameMap:
  return prefix_names("model.", hrnet(network))


def _map_hrnet_v2(network: HRNetV2) -> NameMap:
  backbone = nest("backbone", name_map(network.backbone, "hrnet"))
  return backbone | prefix_names("model.", hrnet_v2(network))


def _map_transformers_segformer(network: SegFormer) -> NameMap:
  backbone = nest("backbone", name_map(network.backbone, "transformers"))
  return backbone | transformers.segformer(network)


def _map_transformers_upernet(network: UPerNet) -> NameMap:
  backbone = prefix_names("backbone.", name_map(network.backbone, "transformers"))
  return nest("backbone", backbone) | transformers.upernet(network)


MAPS = {
  (ConvNeXt, "timm"): functools.partial(convnext, library="timm"),
  (ConvNeXt, "torchvision"): functools.partial(convnext, library="torchvision"),
  (ConvNeXt, "transformers"): functools.partial(convnext, library="transformers"),
  (DeepLab, "slim"): _map_slim_deeplab,
  (DeepLab, "torchvision"): _map_torchvision_deeplab,
  (DPT, "transformers"): vit.transformers_dpt,
  (HRNet, "hrnet"): _map_hrnet,
  (HRNet, "timm"): hrnet,
  (HRNetV2, "hrnet"): _map_hrnet_v2,
  (MixTransformer, "transformers"): transformers.mix_transformer,
  (MobileNetV1, "slim"): slim.mobilenet_v1,
  (MobileNetV2, "slim"): slim.mobilenet_v2,
  (MobileNetV2, "torchvision"): torchvision.mobilenet_v2,
  (ResNet, "slim"): slim.resnet,
  (ResNet, "torchvision"): torchvision.resnet,
  (ResNet, "transformers"): transformers.resnet,
  (SegFormer, "transformers"): _map_transformers_segformer,
  (UPerNet, "transformers"): _map_transformers_upernet,
  (VGG, "slim"): slim.vgg,
  (VGG, "torchvision"): torchvision.vgg,
  (ViT, "dinov2"): vit.dinov2_vit,
  (ViT, "transformers"): vit.transformers_vit,
  (ViT, "timm"): vit.timm_vit,
  (Xception, "slim"): slim.xception,
}
