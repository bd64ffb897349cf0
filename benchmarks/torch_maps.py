"""Name maps of the networks in `torch_networks.py` that torchvision has no names for."""

import numpy as np

from asmjax.models.layers import Network
from asmjax.models.predictors import FCN, DeepLab, PSPNet, UNet
from asmjax.pretrained import name_map
from asmjax.pretrained.names import (
  NameMap,
  Origin,
  hwio_from_oihw,
  prefixed,
  torch_conv,
  torch_layer,
  under,
)

HEAD = "head_segmentation"


def own_map(network: Network) -> NameMap:
  """Where a predictor's variables are in the state dict of the same one in PyTorch."""
  return MAPS[type(network)](network)


def _deeplab(net: DeepLab) -> NameMap:
  aspp, mean = "classifier.0", 1 + len(net.rates)
  entries = _backbone(net) | _layer("aspp_pool", f"{aspp}.convs.{mean}", 1)
  for i in range(mean):
    entries |= _conv3x3(f"aspp{i}", f"{aspp}.convs.{i}.", 0, net.separable and i > 0)
  entries |= _layer("project", f"{aspp}.project")
  # Theirs joins the image's mean last, ours first.
  rolled = lambda kernel: np.roll(hwio_from_oihw(kernel), net.features, axis=2)
  entries |= {"params/project/kernel": Origin((f"{aspp}.project.0.weight",), rolled)}
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
  entries = _backbone(net)
  for suffix in ("", "_16", "_8"):
    entries |= torch_conv(HEAD + suffix, HEAD + suffix, bias=True)
  # PyTorch's is the gradient of a convolution, whose kernel is flipped.
  flipped = lambda kernel: kernel.transpose(2, 3, 0, 1)[::-1, ::-1]
  return entries | {
    f"params/{HEAD}_up{stride}/kernel": Origin((f"{HEAD}_up{stride}.weight",), flipped)
    for stride in (16, 8)
  }


def _unet(net: UNet) -> NameMap:
  entries = torch_conv(HEAD, HEAD, bias=True)
  for i in range(net.levels):
    entries |= _layer(f"down{i + 1}_1", f"down.{i}")
  for i in range(net.levels - 1):
    entries |= _layer(f"up{i + 1}_1", f"up.{i}")
  return entries


def _backbone(net: DeepLab | PSPNet | FCN) -> NameMap:
  return under("backbone", prefixed("backbone.", name_map(net.backbone, "torchvision")))


def _layer(ours: str, theirs: str, at: int = 0) -> NameMap:
  return torch_layer(ours, f"{theirs}.{at}", f"{theirs}.{at + 1}", shift=0.0)


MAPS = {DeepLab: _deeplab, FCN: _fcn, PSPNet: _pspnet, UNet: _unet}
