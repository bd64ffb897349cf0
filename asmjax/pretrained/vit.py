"""Name maps for vision transformers and DPT, in Hugging Face's, DINOv2's and timm's names."""

from collections.abc import Mapping

import numpy as np

from asmjax.models.backbones.vit import ViT
from asmjax.models.predictors.dpt import CLASSES, DPT
from asmjax.pretrained.conditions import check_layer_norm, epsilon_shift
from asmjax.pretrained.names import (
  NameMap,
  WeightSource,
  hwio_from_oihw,
  nest,
  prefix_names,
  torch_conv,
  torch_layer,
)

# Hugging Face's names of a block's layers: of DINOv2, of the first ViTs and of DINOv3.
_DINOV2 = {
  **{name: f"attention.attention.{name}" for name in ("query", "key", "value")},
  "out": "attention.output.dense",
  "mlp/fc1": "mlp.fc1",
  "mlp/fc2": "mlp.fc2",
}
_VIT = _DINOV2 | {"mlp/fc1": "intermediate.dense", "mlp/fc2": "output.dense"}
_DINOV3 = {
  "query": "attention.q_proj",
  "key": "attention.k_proj",
  "value": "attention.v_proj",
  "out": "attention.o_proj",
  "mlp/fc1": "mlp.up_proj",
  "mlp/fc2": "mlp.down_proj",
}
_TIMM = {"out": "attn.proj", "mlp/fc1": "mlp.fc1", "mlp/fc2": "mlp.fc2"}


def transformers_vit(network: ViT) -> NameMap:
  """Maps Dinov2Model and Dinov2WithRegistersModel, and DINOv3ViTModel where positions are rotary.

  Without layer scale the names are those of ViTModel, and of the ViT within Hugging Face's DPT. The
  position of the class token is added to it.
  """
  if network.positions:
    patches, block, norm = ".projection", "encoder.layer", "layernorm"
    layers, epsilon = (_DINOV2, 1e-6) if network.layer_scale else (_VIT, 1e-12)
  else:
    patches, block, norm, layers, epsilon = "", "layer", "norm", _DINOV3, 1e-5
  check_layer_norm(network, "transformers", epsilon)
  entries = _embedding(
    network,
    patches=f"embeddings.patch_embeddings{patches}",
    cls="embeddings.cls_token",
    registers="embeddings.register_tokens",
    positions="embeddings.position_embeddings",
  )
  for i in range(network.depth):
    entries |= _block(network, i + 1, f"{block}.{i}", layers, "layer_scale{}.lambda1")
  return entries | _norm("norm", norm)


def timm_vit(network: ViT) -> NameMap:
  """Maps timm's VisionTransformer, whose positions have one of the class token or none."""
  return _fused_vit(network, "reg_token")


def dinov2_vit(network: ViT) -> NameMap:
  """Maps the files that DINOv2's authors released, which other registers tell from timm's."""
  return _fused_vit(network, "register_tokens")


def _fused_vit(network: ViT, registers: str) -> NameMap:
  if not network.positions:
    raise ValueError("timm's and DINOv2's ViTs have learned positions; found positions=0")
  check_layer_norm(network, "timm and DINOv2", 1e-6)
  names = {"patches": "patch_embed.proj", "cls": "cls_token", "positions": "pos_embed"}
  entries = _embedding(network, registers=registers, **names)
  for i in range(network.depth):
    entries |= _block(network, i + 1, f"blocks.{i}", _TIMM, "ls{}.gamma")
    for k, layer in enumerate(("query", "key", "value")):
      module, name = f"params/block{i + 1}/{layer}", f"blocks.{i}.attn.qkv"
      kernel = lambda joined, k=k: _io_from_oi(np.split(joined, 3)[k])
      entries[f"{module}/kernel"] = WeightSource((f"{name}.weight",), kernel)
      entries[f"{module}/bias"] = WeightSource((f"{name}.bias",), lambda b, k=k: np.split(b, 3)[k])
  return entries | _norm("norm", "norm")


def transformers_dpt(network: DPT) -> NameMap:
  """Maps DepthAnythingForDepthEstimation, DPTForDepthEstimation and DPTForSemanticSegmentation.

  One file has one head: that of "segmentation" or of "depth". The backbone is DINOv2 or, without
  layer scale, DPT's own ViT, whose positions Hugging Face resamples bilinearly. Which blocks the
  network reads, `backbone.outputs`, no file tells: see `asmjax.models.predictors.DPT`.
  """
  prefix = "backbone." if network.backbone.layer_scale else "dpt."
  entries = nest("backbone", prefix_names(prefix, transformers_vit(network.backbone)))
  shift = epsilon_shift(network, 1e-5) if network.fusion_norm or CLASSES in network.heads else 0.0
  stage = "neck.reassemble_stage"
  for i in range(4):
    module, layer = f"{i + 1}", f"{stage}.layers.{i}"
    entries |= torch_conv(f"reassemble{module}", f"{layer}.projection", bias=True)
    if i != 2:
      entries |= torch_conv(f"resize{module}", f"{layer}.resize", bias=True)
    if i < 2:
      transform = WeightSource((f"{layer}.resize.weight",), _hwio_from_transposed)
      entries[f"params/resize{module}/kernel"] = transform
    if network.readout == "project":
      entries |= _linear(f"readout{module}", f"{stage}.readout_projects.{i}.0")
    entries |= torch_conv(f"reduce{module}", f"neck.convs.{i}")
    entries |= _fusion(network, i, shift)
  return entries | _head(network, shift)


def _fusion(network: DPT, i: int, shift: float) -> NameMap:
  """Maps the fusion block of map i + 1; theirs are in the order of application."""
  module, name = f"fuse{i + 1}", f"neck.fusion_stage.layers.{3 - i}"
  entries = torch_conv(f"{module}/out", f"{name}.projection", bias=True)
  for k, unit in enumerate(("finer", "sum"), 1):
    for j in (1, 2) if unit == "sum" or i < 3 else ():
      layer, theirs = f"{module}/{unit}/conv{j}", f"{name}.residual_layer{k}"
      entries |= torch_conv(layer, f"{theirs}.convolution{j}", bias=network.fusion_bias)
      if network.fusion_norm:
        normed = torch_layer(layer, "", f"{theirs}.batch_norm{j}", shift=shift)
        entries |= {path: source for path, source in normed.items() if "_norm/" in path}
  return entries


def _head(network: DPT, shift: float) -> NameMap:
  entries = {}
  if CLASSES in network.heads:
    entries |= torch_layer(f"conv1_{CLASSES}", "head.head.0", "head.head.1", shift=shift)
    entries |= torch_conv(f"head_{CLASSES}", "head.head.4", bias=True)
  if "depth" in network.heads:
    # DPT's head is a list of layers; Depth Anything's, which has no projection, has names.
    names = (
      ("head.head.0", "head.head.2", "head.head.4")
      if network.project or network.readout == "project"
      else ("head.conv1", "head.conv2", "head.conv3")
    )
    for module, name in zip(("conv1_depth", "conv2_depth", "head_depth"), names, strict=True):
      entries |= torch_conv(module, name, bias=True)
  if network.project:
    entries |= torch_conv("project", "head.projection", bias=True)
  return entries


def _embedding(network: ViT, *, patches: str, cls: str, registers: str, positions: str) -> NameMap:
  entries = torch_conv("embed", patches, bias=True)
  entries["params/embed/cls"] = WeightSource((cls,), lambda token: token.reshape(1, -1))
  if network.positions:
    entries["params/embed/cls"] = WeightSource((cls, positions), _place_cls)
    entries["params/embed/positions"] = WeightSource((positions,), _split_positions)
  if network.registers:
    entries["params/embed/registers"] = WeightSource((registers,), lambda tokens: tokens[0])
  return entries


def _block(network: ViT, i: int, name: str, layers: Mapping[str, str], scale: str) -> NameMap:
  entries: NameMap = {}
  for layer, theirs in layers.items():
    bias = layer != "key" or network.key_bias
    entries |= _linear(f"block{i}/{layer}", f"{name}.{theirs}", bias=bias)
  norms = ("layernorm_before", "layernorm_after") if layers is _VIT else ("norm1", "norm2")
  for k, norm in enumerate(norms, 1):
    entries |= _norm(f"block{i}/norm{k}", f"{name}.{norm}")
    if network.layer_scale:
      entries[f"params/block{i}/scale{k}"] = WeightSource((f"{name}.{scale.format(k)}",))
  return entries


def _linear(module: str, name: str, *, bias: bool = True) -> NameMap:
  kernel = WeightSource((f"{name}.weight",), _io_from_oi)
  return torch_conv(module, name, bias=bias) | {f"params/{module}/kernel": kernel}


def _norm(module: str, name: str) -> NameMap:
  return {
    f"params/{module}/scale": WeightSource((f"{name}.weight",)),
    f"params/{module}/bias": WeightSource((f"{name}.bias",)),
  }


def _io_from_oi(kernel: np.ndarray) -> np.ndarray:
  outputs, inputs = kernel.shape
  return kernel.reshape(outputs, inputs).T


def _hwio_from_transposed(kernel: np.ndarray) -> np.ndarray:
  """Converts PyTorch's transposed convolution (in, out, h, w), which Flax's turns around."""
  return hwio_from_oihw(kernel.transpose(1, 0, 2, 3))[::-1, ::-1]


def _has_cls(positions: np.ndarray) -> bool:
  return round((positions.shape[1] - 1) ** 0.5) ** 2 == positions.shape[1] - 1


def _place_cls(token: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Adds its position, where there is one, to the class token."""
  place = positions[:, :1] if _has_cls(positions) else 0.0
  return (token + place).reshape(1, -1)


def _split_positions(positions: np.ndarray) -> np.ndarray:
  """Makes a grid of the positions of patches."""
  _, _, channels = positions.shape
  grid = positions[0, 1:] if _has_cls(positions) else positions[0]
  side = round(len(grid) ** 0.5)
  return grid.reshape(side, side, channels)
