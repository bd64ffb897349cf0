"""Name maps for HRNet, as its authors and timm name the arrays.

Files of ImageNet's weights have them as they are; those of the repository for segmentation, which
saves the network along with its loss, under `model.`.
"""

import numpy as np

from asmjax.models.backbones.hrnet import HRNet
from asmjax.models.predictors.hrnet_v2 import HRNetV2
from asmjax.pretrained.conditions import epsilon_shift
from asmjax.pretrained.names import NameMap, WeightSource, hwio_from_oihw, torch_conv, torch_layer

# Epsilon of all batch norms of the released code, PyTorch's default.
EPSILON = 1e-5


def hrnet(network: HRNet) -> NameMap:
  """Maps HRNet: `conv1`, `conv2`, `layer1`, `transition{i}` and `stage{i}`.

  Modules, with `branches` and `fuse_layers`, and blocks are counted from 0.
  """
  shift = epsilon_shift(network, EPSILON)
  entries = {}
  for k in (1, 2):
    entries |= torch_layer(f"conv{k}", f"conv{k}", f"bn{k}", shift=shift)
  for j in range(network.bottlenecks):
    entries |= _block(f"stage1_block{j + 1}", f"layer1.{j}", 3, shift)
  outputs = 4 * network.bottleneck_width
  if network.stem != outputs:
    entries |= _sequential("stage1_block1/shortcut", "layer1.0.downsample", shift)
  if network.width != outputs:
    entries |= _sequential("stage2_transition1", "transition1.0", shift)
  for i, count in enumerate(network.modules, 2):
    entries |= _sequential(f"stage{i}_transition{i}", f"transition{i - 1}.{i - 1}.0", shift)
    for m in range(count):
      entries |= _module(network, i, f"stage{i}_module{m + 1}", f"stage{i}.{m}", shift)
  return entries


def _module(network: HRNet, branches: int, module: str, name: str, shift: float) -> NameMap:
  entries = {}
  for b in range(branches):
    for j in range(network.blocks):
      ours, theirs = f"{module}/branch{b + 1}_block{j + 1}", f"{name}.branches.{b}.{j}"
      entries |= _block(ours, theirs, 2, shift)
    for c in range(branches):
      ours, theirs = f"{module}/exchange{c + 1}_{b + 1}", f"{name}.fuse_layers.{b}.{c}"
      if c > b:
        entries |= _sequential(ours, theirs, shift)
      for k in range(b - c):
        entries |= _sequential(f"{ours}_{k + 1}", f"{theirs}.{k}", shift)
  return entries


def _block(module: str, name: str, convs: int, shift: float) -> NameMap:
  entries = {}
  for k in range(1, convs + 1):
    entries |= torch_layer(f"{module}/conv{k}", f"{name}.conv{k}", f"{name}.bn{k}", shift=shift)
  return entries


def _sequential(module: str, name: str, shift: float) -> NameMap:
  return torch_layer(module, f"{name}.0", f"{name}.1", shift=shift)


def hrnet_v2(network: HRNetV2) -> NameMap:
  """Maps what HRNetV2 has besides its backbone: `last_layer`, whose first convolution has a bias.

  The concatenation begins with the map of stride 4, in which ours ends.
  """
  shift, layer = epsilon_shift(network, EPSILON), "last_layer"
  entries = torch_layer("fuse", f"{layer}.0", f"{layer}.1", shift=shift, bias=True)
  rolled = lambda kernel: np.roll(hwio_from_oihw(kernel), -network.backbone.width, axis=2)
  entries |= {"params/fuse/kernel": WeightSource((f"{layer}.0.weight",), rolled)}
  if "segmentation" in network.heads:
    entries |= torch_conv("head_segmentation", f"{layer}.3", bias=True)
  return entries
