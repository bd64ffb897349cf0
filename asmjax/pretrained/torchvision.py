"""Name maps for torchvision's networks, as their state_dicts name the arrays."""

from collections.abc import Callable

import numpy as np

from asmjax.models.backbones.mobilenet_v2 import V2_BLOCKS, MobileNetV2
from asmjax.models.backbones.resnet import ResNet
from asmjax.models.backbones.vgg import VGG, VGG16
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.pretrained.conditions import check_fields, epsilon_shift
from asmjax.pretrained.names import (
  NameMap,
  WeightSource,
  hwio_from_oi,
  hwio_from_oihw,
  torch_conv,
  torch_layer,
)

# Epsilon of all of torchvision's batch norms, PyTorch's default.
EPSILON = 1e-5


def resnet(network: ResNet) -> NameMap:
  """Maps ResNet-50 and its deeper relatives: `conv1`, `bn1`, `layer{i}.{j}`."""
  check_fields(network, "torchvision", placement="first_3x3")
  shift = epsilon_shift(network, EPSILON)
  entries = torch_layer("conv1", "conv1", "bn1", shift=shift)
  for i, blocks in enumerate(network.blocks, 1):
    for j in range(blocks):
      module, name = f"stage{i}_block{j + 1}", f"layer{i}.{j}"
      for k in (1, 2, 3):
        entries |= torch_layer(f"{module}/conv{k}", f"{name}.conv{k}", f"{name}.bn{k}", shift=shift)
    module, name = f"stage{i}_block1/shortcut", f"layer{i}.0.downsample"
    entries |= torch_layer(module, f"{name}.0", f"{name}.1", shift=shift)
  return entries


def mobilenet_v2(network: MobileNetV2) -> NameMap:
  """Maps MobileNetV2: `features.{i}`, whose blocks are a list `conv` of layers."""
  shift = epsilon_shift(network, EPSILON)
  entries = torch_layer("conv1", "features.0.0", "features.0.1", shift=shift)
  expansions = [expansion for expansion, _, count, _ in V2_BLOCKS for _ in range(count)]
  for i, expansion in enumerate(expansions, 1):
    name = f"features.{i}.conv"
    steps = ("expand", "depthwise") if expansion > 1 else ("depthwise",)
    for k, step in enumerate(steps):
      entries |= torch_layer(f"block{i}_{step}", f"{name}.{k}.0", f"{name}.{k}.1", shift=shift)
    conv, norm = f"{name}.{len(steps)}", f"{name}.{len(steps) + 1}"
    entries |= torch_layer(f"block{i}_project", conv, norm, shift=shift)
  if network.top:
    last = f"features.{len(expansions) + 1}"
    entries |= torch_layer("conv2", f"{last}.0", f"{last}.1", shift=shift)
  return entries


def vgg(network: VGG) -> NameMap:
  """Maps VGG-16 with or without batch norm: `features.{k}`, k counting all layers, `classifier`."""
  unnormalized = network.norm.kind == "none"
  shift = 0.0 if unnormalized else epsilon_shift(network, EPSILON)
  entries, k = {}, 0
  for i, count in enumerate(VGG16, 1):
    for j in range(1, count + 1):
      module, conv, norm = f"conv{i}_{j}", f"features.{k}", f"features.{k + 1}"
      if unnormalized:
        entries |= torch_conv(module, conv, bias=True)
      else:
        entries |= torch_layer(module, conv, norm, shift=shift, bias=True)
      k += 2 if unnormalized else 3
    k += 1
  if network.fc_features:
    entries |= _linear("fc6", "classifier.0", hwio_from_oi(7))
    entries |= _linear("fc7", "classifier.3", hwio_from_oi(1))
  return entries


def _linear(module: str, name: str, transform: Callable[[np.ndarray], np.ndarray]) -> NameMap:
  kernel = WeightSource((f"{name}.weight",), transform)
  return torch_conv(module, name, bias=True) | {f"params/{module}/kernel": kernel}


def deeplab(network: DeepLab) -> NameMap:
  """Maps what DeepLab v3 has besides its backbone: `classifier`.

  The concatenation ends in the mean over the image, with which ours begins, so the kernel after it
  is rolled along its input channels.
  """
  check_fields(network, "torchvision", low=0, convs=1, separable=False)
  shift = epsilon_shift(network, EPSILON)
  aspp, mean = "classifier.0", 1 + len(network.rates)
  entries = torch_layer(
    "aspp_pool", f"{aspp}.convs.{mean}.1", f"{aspp}.convs.{mean}.2", shift=shift
  )
  for i in range(mean):
    entries |= torch_layer(f"aspp{i}", f"{aspp}.convs.{i}.0", f"{aspp}.convs.{i}.1", shift=shift)
  entries |= torch_layer("project", f"{aspp}.project.0", f"{aspp}.project.1", shift=shift)
  rolled = lambda kernel: np.roll(hwio_from_oihw(kernel), network.features, axis=2)
  entries |= {"params/project/kernel": WeightSource((f"{aspp}.project.0.weight",), rolled)}
  entries |= torch_layer("conv1", "classifier.1", "classifier.2", shift=shift)
  if "segmentation" in network.heads:
    entries |= torch_conv("head_segmentation", "classifier.4", bias=True)
  return entries
