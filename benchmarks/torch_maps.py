"""Name maps of the networks in `torch_networks` that torchvision has no names for."""

import numpy as np

from asmjax.models.backbones import ResNet, Xception
from asmjax.models.backbones.xception import ENTRY
from asmjax.models.layers import ConvNet
from asmjax.models.predictors import (
  FCN,
  FCRN,
  DeepLab,
  DeepLabV2,
  Dilated,
  Farabet,
  HRNetV2,
  PSPNet,
  SegFormer,
  UNet,
  UPerNet,
  ViTLinear,
)
from asmjax.pretrained import name_map
from asmjax.pretrained.names import (
  NameMap,
  WeightSource,
  hwio_from_oihw,
  nest,
  prefix_names,
  torch_batch_norm,
  torch_conv,
  torch_layer,
)

HEAD = "head_segmentation"


def benchmark_map(network: ConvNet) -> NameMap:
  """Returns the map from a predictor's variables to the state dict of the same one in PyTorch."""
  return MAPS[type(network)](network)


def _deeplab(net: DeepLab) -> NameMap:
  aspp, mean = "classifier.0", 1 + len(net.rates)
  entries = _backbone(net) | _layer("aspp_pool", f"{aspp}.convs.{mean}", 1)
  for i in range(mean):
    entries |= _conv3x3(f"aspp{i}", f"{aspp}.convs.{i}.", 0, net.separable and i > 0)
  entries |= _layer("project", f"{aspp}.project")
  # Theirs joins the image's mean last, ours first.
  rolled = lambda kernel: np.roll(hwio_from_oihw(kernel), net.features, axis=2)
  entries |= {"params/project/kernel": WeightSource((f"{aspp}.project.0.weight",), rolled)}
  entries |= _layer("low", "low") if net.low else {}
  step = 6 if net.separable else 3
  for i in range(net.convs):
    entries |= _conv3x3(f"conv{i + 1}", "classifier.", 1 + step * i, net.separable)
  return entries | torch_conv(HEAD, f"classifier.{1 + step * net.convs}", bias=True)


def _conv3x3(ours: str, theirs: str, at: int, separable: bool) -> NameMap:
  if not separable:
    return torch_layer(ours, f"{theirs}{at}", f"{theirs}{at + 1}", shift=0.0)
  return _conv3x3(f"{ours}_depthwise", theirs, at, False) | (
    _conv3x3(f"{ours}_pointwise", theirs, at + 3, False)
  )


def _pspnet(net: PSPNet) -> NameMap:
  entries = _backbone(net) | _layer("fuse", "fuse") | torch_conv(HEAD, HEAD, bias=True)
  for bins in net.bins:
    entries |= _layer(f"pool{bins}", f"pools.pool{bins}")
  return entries


def _fcn(net: FCN) -> NameMap:
  entries = _backbone(net) | torch_conv(HEAD, HEAD, bias=True)
  for stride in (16, 8):
    if stride >= net.stride:
      entries |= torch_conv(f"{HEAD}_{stride}", f"{HEAD}_{stride}", bias=True)
      entries |= _transposed(f"{HEAD}_up{stride}", f"{HEAD}_up{stride}")
  return entries


def _transposed(ours: str, theirs: str) -> NameMap:
  # PyTorch's is the gradient of a convolution, whose kernel is flipped.
  flipped = lambda kernel: kernel.transpose(2, 3, 0, 1)[::-1, ::-1]
  return {f"params/{ours}/kernel": WeightSource((f"{theirs}.weight",), flipped)}


def _unet(net: UNet) -> NameMap:
  entries = torch_conv(HEAD, HEAD, bias=True)
  for i in range(net.levels):
    entries |= _layer(f"down{i + 1}_1", f"down.{i}")
  for i in range(net.levels - 1):
    for j in range(net.decoder_convs):
      entries |= _layer(f"up{i + 1}_{j + 1}", f"up.{i}.{j}")
  return entries


def _deeplab_v2(net: DeepLabV2) -> NameMap:
  entries = _backbone(net)
  for rate in net.rates:
    entries |= torch_conv(f"{HEAD}_rate{rate}", f"heads.rate{rate}", bias=True)
  return entries


def _dilated(net: Dilated) -> NameMap:
  entries = _backbone(net) | torch_conv(HEAD, HEAD, bias=True)
  for i in range(8):
    entries |= torch_conv(f"{HEAD}_context{i + 1}", f"context.{2 * i}", bias=True)
  return entries


def _fcrn(net: FCRN) -> NameMap:
  entries = _backbone(net) | _layer("reduce", "reduce") | torch_conv(HEAD, HEAD, bias=True)
  for i in range(4):
    ours, theirs = f"up{i + 1}", f"up.{i}"
    entries |= torch_layer(f"{ours}/conv1", f"{theirs}.conv1", f"{theirs}.bn1", shift=0.0)
    entries |= _transposed(f"{ours}/conv1", f"{theirs}.conv1")
    entries |= _layer(f"{ours}/conv2", f"{theirs}.conv2")
  return entries


def _farabet(net: Farabet) -> NameMap:
  entries = torch_conv("hidden", "hidden", bias=True) | torch_conv(HEAD, HEAD, bias=True)
  for i in range(3):
    entries |= torch_conv(f"conv{i + 1}", f"convs.{3 * i}", bias=True)
  return entries


def _vit_linear(net: ViTLinear) -> NameMap:
  entries = nest("backbone", name_map(net.backbone, "transformers")) | torch_conv(
    HEAD, "head", bias=True
  )
  return entries | torch_batch_norm("tokens_norm", "norm", shift=0.0)


def _backbone(net: DeepLab | DeepLabV2 | Dilated | FCN | FCRN | PSPNet) -> NameMap:
  backbone = net.backbone
  if isinstance(backbone, Xception):
    entries = _xception(backbone)
  else:
    # The names are the same wherever a stride is.
    changes = {"placement": "first_3x3"} if isinstance(backbone, ResNet) else {}
    entries = name_map(backbone.clone(**changes), "torchvision")
  return nest("backbone", prefix_names("backbone.", entries))


def _xception(net: Xception) -> NameMap:
  entries = _layer("conv1", "stem.0") | _layer("conv2", "stem.1")
  entry = [f"entry{i + 1}" for i in range(len(ENTRY))]
  modules = [*entry, *(f"middle{i + 1}" for i in range(net.middle)), "exit1", "exit2"]
  for i, ours in enumerate(modules):
    for j in range(3):
      for k, step in enumerate(("depthwise", "pointwise")):
        entries |= _layer(f"{ours}/conv{j + 1}_{step}", f"stages.{i}.convs.{j}.{k}")
    if ours in (*entry, "exit1"):
      entries |= _layer(f"{ours}/shortcut", f"stages.{i}.shortcut")
  return entries


def _layer(ours: str, theirs: str, at: int = 0) -> NameMap:
  return torch_layer(ours, f"{theirs}.{at}", f"{theirs}.{at + 1}", shift=0.0)


MAPS = {
  DeepLab: _deeplab,
  DeepLabV2: _deeplab_v2,
  Dilated: _dilated,
  FCN: _fcn,
  FCRN: _fcrn,
  Farabet: _farabet,
  HRNetV2: lambda net: name_map(net, "hrnet"),
  PSPNet: _pspnet,
  SegFormer: lambda net: name_map(net, "transformers"),
  UNet: _unet,
  UPerNet: lambda net: name_map(net, "transformers"),
  ViTLinear: _vit_linear,
}
