"""Name maps for the networks of Hugging Face's transformers, as published files name the arrays.

Those are the names of version 4 of the library, which later ones still read and write.
"""

import numpy as np

from asmjax.models.backbones.mix_transformer import MixTransformer
from asmjax.models.backbones.resnet import ResNet
from asmjax.models.predictors.segformer import SegFormer
from asmjax.models.predictors.upernet import STRIDES, UPerNet
from asmjax.pretrained.conditions import check_fields, check_layer_norm, epsilon_shift
from asmjax.pretrained.names import (
  NameMap,
  WeightSource,
  hwio_from_oihw,
  torch_conv,
  torch_layer,
  torch_layer_norm,
  torch_linear,
)

# PyTorch's default of batch norm and of layer norm.
EPSILON = 1e-5


def mix_transformer(network: MixTransformer) -> NameMap:
  """Maps MiT, alone or within SegFormer: `segformer.encoder`, counting stages and blocks from 0."""
  check_layer_norm(network, "transformers", EPSILON)
  entries, encoder = {}, "segformer.encoder"
  for i, depth in enumerate(network.depths):
    stage, embedding = f"stage{i + 1}", f"{encoder}.patch_embeddings.{i}"
    entries |= torch_conv(f"{stage}_embed", f"{embedding}.proj", bias=True)
    entries |= torch_layer_norm(f"{stage}_embed_norm", f"{embedding}.layer_norm")
    entries |= torch_layer_norm(f"{stage}_norm", f"{encoder}.layer_norm.{i}")
    for j in range(depth):
      has_reduction = network.reductions[i] > 1
      entries |= _block(f"{stage}_block{j + 1}", f"{encoder}.block.{i}.{j}", has_reduction)
  return entries


def _block(module: str, name: str, has_reduction: bool) -> NameMap:
  attention = f"{name}.attention.self"
  entries = torch_layer_norm(f"{module}/attention_norm", f"{name}.layer_norm_1")
  entries |= torch_layer_norm(f"{module}/mlp_norm", f"{name}.layer_norm_2")
  entries |= torch_conv(f"{module}/depthwise", f"{name}.mlp.dwconv.dwconv", bias=True)
  linear = {
    **{part: f"{attention}.{part}" for part in ("query", "key", "value")},
    "project": f"{name}.attention.output.dense",
    "fc1": f"{name}.mlp.dense1",
    "fc2": f"{name}.mlp.dense2",
  }
  for ours, theirs in linear.items():
    entries |= torch_linear(f"{module}/{ours}", theirs)
  if has_reduction:
    entries |= torch_conv(f"{module}/reduce", f"{attention}.sr", bias=True)
    entries |= torch_layer_norm(f"{module}/reduce_norm", f"{attention}.layer_norm")
  return entries


def segformer(network: SegFormer) -> NameMap:
  """Maps what SegFormer has besides its backbone: `decode_head`."""
  head = "decode_head"
  entries = torch_layer(
    "fuse", f"{head}.linear_fuse", f"{head}.batch_norm", shift=epsilon_shift(network, EPSILON)
  )
  for i, stride in enumerate((4, 8, 16, 32)):
    entries |= torch_linear(f"project{stride}", f"{head}.linear_c.{i}.proj")
  if "segmentation" in network.heads:
    entries |= torch_conv("head_segmentation", f"{head}.classifier", bias=True)
  return entries


def resnet(network: ResNet) -> NameMap:
  """Maps ResNet-50 and its deeper relatives: `embedder`, `encoder.stages`, counting from 0."""
  check_fields(network, "transformers", placement="first_3x3")
  shift = epsilon_shift(network, EPSILON)

  def layer(module: str, name: str) -> NameMap:
    return torch_layer(module, f"{name}.convolution", f"{name}.normalization", shift=shift)

  entries = layer("conv1", "embedder.embedder")
  for i, blocks in enumerate(network.blocks):
    stage = f"encoder.stages.{i}.layers"
    entries |= layer(f"stage{i + 1}_block1/shortcut", f"{stage}.0.shortcut")
    for j in range(blocks):
      for k in range(3):
        entries |= layer(f"stage{i + 1}_block{j + 1}/conv{k + 1}", f"{stage}.{j}.layer.{k}")
  return entries


def upernet(network: UPerNet) -> NameMap:
  """Maps what UPerNet has besides its backbone: `decode_head`, `auxiliary_head` and norms.

  The last concatenation begins with the map of stride 4, in which ours ends.
  """
  shift, head = epsilon_shift(network, EPSILON), "decode_head"

  def layer(module: str, name: str) -> NameMap:
    return torch_layer(module, f"{name}.conv", f"{name}.batch_norm", shift=shift)

  entries = layer("pyramid", f"{head}.bottleneck") | layer("fuse", f"{head}.fpn_bottleneck")
  rolled = lambda kernel: np.roll(hwio_from_oihw(kernel), -network.features, axis=2)
  fuse = WeightSource((f"{head}.fpn_bottleneck.conv.weight",), rolled)
  entries |= {"params/fuse/kernel": fuse}
  for i, side in enumerate(network.bins):
    entries |= layer(f"pool{side}", f"{head}.psp_modules.{i}.1")
  for i, stride in enumerate(STRIDES[:-1]):
    entries |= layer(f"lateral{stride}", f"{head}.lateral_convs.{i}")
    entries |= layer(f"smooth{stride}", f"{head}.fpn_convs.{i}")
  if network.normalize_features:
    for i, stride in enumerate(STRIDES, 1):
      name = f"backbone.hidden_states_norms.stage{i}"
      entries |= torch_layer_norm(f"features{stride}_norm", name)
  if "segmentation" in network.heads:
    entries |= torch_conv("head_segmentation", f"{head}.classifier", bias=True)
  if network.auxiliary:
    entries |= layer("aside", "auxiliary_head.convs.0")
    if "segmentation" in network.heads:
      classifier = "auxiliary_head.classifier"
      entries |= torch_conv("head_segmentation_auxiliary", classifier, bias=True)
  return entries
