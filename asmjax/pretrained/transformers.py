"""Name maps for the networks of Hugging Face's transformers, as published files name the arrays.

Those are the names of version 4 of the library, which later ones still read and write.
"""

from asmjax.models.backbones.mix_transformer import MixTransformer
from asmjax.models.predictors.segformer import SegFormer
from asmjax.pretrained.conditions import check_layer_norm, epsilon_shift
from asmjax.pretrained.names import NameMap, torch_conv, torch_layer, torch_layer_norm, torch_linear

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
