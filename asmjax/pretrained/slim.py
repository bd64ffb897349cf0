"""Name maps for TF-Slim's networks and the DeepLab model zoo, as their checkpoints name arrays."""

import jax

from asmjax.models.backbones.mobilenet import V1_BLOCKS, MobileNetV1
from asmjax.models.backbones.mobilenet_v2 import V2_BLOCKS, MobileNetV2
from asmjax.models.backbones.resnet import ResNet
from asmjax.models.backbones.vgg import VGG, VGG16
from asmjax.models.backbones.xception import ENTRY, Xception
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.pretrained.conditions import check_fields, epsilon_shift
from asmjax.pretrained.names import NameMap, slim_conv, slim_layer

# Epsilon of the batch norms of MobileNets and Xception (`arg_scope` of their files in TF-Slim and
# DeepLab), and of the others.
LARGE_EPSILON, EPSILON = 1e-3, 1e-5


def resnet(network: ResNet) -> NameMap:
  """Maps ResNet v1, named by the number of its layers: `block{i}/unit_{j}/bottleneck_v1`."""
  check_fields(network, "TF-Slim", placement="last_3x3")
  shift = epsilon_shift(network, EPSILON)
  root = f"resnet_v1_{3 * sum(network.blocks) + 2}"
  entries = slim_layer("conv1", f"{root}/conv1", shift=shift)
  for i, blocks in enumerate(network.blocks, 1):
    for j in range(1, blocks + 1):
      for layer in ("conv1", "conv2", "conv3", *(("shortcut",) if j == 1 else ())):
        name = f"{root}/block{i}/unit_{j}/bottleneck_v1/{layer}"
        entries |= slim_layer(f"stage{i}_block{j}/{layer}", name, shift=shift)
  return entries


def mobilenet_v1(network: MobileNetV1) -> NameMap:
  """Maps MobileNet: `Conv2d_{i}_depthwise` and `Conv2d_{i}_pointwise`."""
  check_fields(network, "TF-Slim", activation=jax.nn.relu6)
  shift = epsilon_shift(network, LARGE_EPSILON)
  entries = slim_layer("conv1", "MobilenetV1/Conv2d_0", shift=shift)
  for i in range(1, len(V1_BLOCKS) + 1):
    entries |= _separable_layer(f"block{i}", f"MobilenetV1/Conv2d_{i}", shift=shift)
  return entries


def mobilenet_v2(network: MobileNetV2) -> NameMap:
  """Maps MobileNetV2: `expanded_conv`, which is the first block, and `expanded_conv_{i}`."""
  shift = epsilon_shift(network, LARGE_EPSILON)
  entries = slim_layer("conv1", "MobilenetV2/Conv", shift=shift)
  expansions = [expansion for expansion, _, count, _ in V2_BLOCKS for _ in range(count)]
  for i, expansion in enumerate(expansions):
    name = f"MobilenetV2/expanded_conv_{i}" if i else "MobilenetV2/expanded_conv"
    for step in (*(("expand",) if expansion > 1 else ()), "depthwise", "project"):
      entries |= slim_layer(
        f"block{i + 1}_{step}", f"{name}/{step}", shift=shift, depthwise=step == "depthwise"
      )
  if network.top:
    entries |= slim_layer("conv2", "MobilenetV2/Conv_1", shift=shift)
  return entries


def xception(network: Xception) -> NameMap:
  """Maps Xception of the DeepLab model zoo, named by the number of its layers: `xception_65`."""
  shift = epsilon_shift(network, LARGE_EPSILON)
  root = f"xception_{3 * network.middle + 17}"
  entries = {}
  for i in (1, 2):
    entries |= slim_layer(f"conv{i}", f"{root}/entry_flow/conv1_{i}", shift=shift)
  modules = {f"entry{i}": f"entry_flow/block{i}/unit_1" for i in range(1, len(ENTRY) + 1)}
  modules |= {f"middle{i}": f"middle_flow/block1/unit_{i}" for i in range(1, network.middle + 1)}
  modules |= {f"exit{i}": f"exit_flow/block{i}/unit_1" for i in (1, 2)}
  for module, unit in modules.items():
    name = f"{root}/{unit}/xception_module"
    for i in (1, 2, 3):
      entries |= _separable_layer(f"{module}/conv{i}", f"{name}/separable_conv{i}", shift=shift)
    if module.startswith("entry") or module == "exit1":
      entries |= slim_layer(f"{module}/shortcut", f"{name}/shortcut", shift=shift)
  return entries


def vgg(network: VGG) -> NameMap:
  """Maps VGG-16, which has no batch norm: `conv{i}/conv{i}_{j}`, `fc6` and `fc7`."""
  if network.norm.kind != "none":
    raise ValueError(f"TF-Slim's VGG has no normalization; found norm {network.norm.kind!r}")
  entries = {}
  for i, count in enumerate(VGG16, 1):
    for j in range(1, count + 1):
      entries |= slim_conv(f"conv{i}_{j}", f"vgg_16/conv{i}/conv{i}_{j}", bias=True)
  for layer in ("fc6", "fc7") if network.fc_features else ():
    entries |= slim_conv(layer, f"vgg_16/{layer}", bias=True)
  return entries


def deeplab(network: DeepLab) -> NameMap:
  """Maps what DeepLab v3 and v3+ have besides their backbone: `aspp{i}`, `decoder`, `logits`."""
  shift = epsilon_shift(network, EPSILON)
  layers = {"aspp_pool": "image_pooling", "aspp0": "aspp0", "project": "concat_projection"}
  if network.low:
    layers |= {"low": "decoder/feature_projection0"}
  wide = {f"aspp{i}": f"aspp{i}" for i in range(1, len(network.rates) + 1)}
  wide |= {f"conv{i + 1}": f"decoder/decoder_conv{i}" for i in range(network.convs)}
  entries = {}
  for module, name in layers.items():
    entries |= slim_layer(module, name, shift=shift)
  for module, name in wide.items():
    make = _separable_layer if network.separable else slim_layer
    entries |= make(module, name, shift=shift)
  if "segmentation" in network.heads:
    entries |= slim_conv("head_segmentation", "logits/semantic", bias=True)
  return entries


def _separable_layer(module: str, name: str, *, shift: float) -> NameMap:
  depthwise = slim_layer(f"{module}_depthwise", f"{name}_depthwise", shift=shift, depthwise=True)
  return depthwise | slim_layer(f"{module}_pointwise", f"{name}_pointwise", shift=shift)
