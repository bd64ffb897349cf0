"""Weights of tiny vision transformers and DPTs as files have them, drawn by NumPy."""

import numpy as np

from asmjax.models.backbones import ViT
from asmjax.models.layers import Norm
from asmjax.models.predictors import DPT

TINY = {"width": 8, "num_heads": 2, "depth": 4, "outputs": (1, 2, 3, 4)}
CHANNELS = (2, 3, 4, 5)

BACKBONES = {
  "dinov2": ViT(**TINY, positions=4),
  "registers": ViT(**TINY, positions=4, registers=3, antialias=True),
  "dinov3": ViT(**TINY, patch=16, positions=0, registers=4, key_bias=False, norm=Norm("layer")),
}
# Each has the heads that one file has.
PREDICTORS = {
  "depth_anything": DPT(
    {"depth": 1}, BACKBONES["dinov2"], channels=CHANNELS, features=6, readout="ignore"
  ),
  "dpt_depth": DPT(
    {"depth": 1},
    BACKBONES["dinov2"].clone(patch=16, norm_outputs=False),
    channels=CHANNELS,
    features=256,  # Which the reference takes for granted where there is a projection.
    project=True,
    fusion_bias=False,
  ),
  "dpt_classes": DPT(
    {"segmentation": 3},
    BACKBONES["dinov2"].clone(
      patch=16, layer_scale=0.0, norm=Norm("layer", epsilon=1e-12), norm_outputs=False
    ),
    channels=CHANNELS,
    features=6,
    fusion_norm=True,
    norm=Norm(epsilon=1e-3),
  ),
}
# Sizes of images; the grid that positions were learned on is 4 x 4.
SIZES = {
  "dinov2": (70, 42),
  "registers": (42, 56),
  "dinov3": (48, 32),
  "depth_anything": (42, 70),
  "dpt_depth": (32, 32),
  "dpt_classes": (64, 64),
}


def image(name):
  """The image of a case, (1, h, w, 3)."""
  return np.random.default_rng(7).normal(size=(1, *SIZES[name], 3)).astype(np.float32)


def draw(shapes, seed=0):
  """Draws arrays by name: scales and variances around 1, all else around 0."""
  rng = np.random.default_rng(seed)
  arrays = {}
  for name, shape in shapes.items():
    is_scale = name.endswith(("lambda1", "running_var")) or len(shape) == 1 and "weight" in name
    noise = rng.normal(size=shape)
    deviation = min(0.3, 1.5 * np.prod(shape[1:]) ** -0.5)
    arrays[name] = (1 + 0.1 * noise if is_scale else deviation * noise).astype(np.float32)
    if name.endswith("running_var"):
      arrays[name] = np.abs(arrays[name])
  return arrays


def huggingface(name):
  """Arrays of a case in Hugging Face's names."""
  if name in PREDICTORS:
    net = PREDICTORS[name]
    prefix = "backbone" if net.backbone.layer_scale else "dpt"
    shapes = {f"{prefix}.{key}": shape for key, shape in vit_shapes(net.backbone).items()}
    arrays = draw(shapes | _dpt_shapes(net))
    if "depth" in net.heads:  # With such weights no depth is cut off at 0.
      last = "head.head.4.weight" if net.readout == "project" else "head.conv3.weight"
      arrays[last] = np.abs(arrays[last])
    return arrays
  return draw(vit_shapes(BACKBONES[name]))


def timm(arrays, depth=4):
  """The same ViT in timm's names: without its registers, or with the class token's position."""
  names = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "attention.output.dense": "attn.proj",
    "layernorm.": "norm.",
  }
  renamed = {}
  for name, array in arrays.items():
    for theirs, ours in names.items():
      name = name.replace(theirs, ours)
    renamed[name] = array
  for i in range(depth):
    for kind in ("weight", "bias"):
      parts = [
        renamed.pop(f"blocks.{i}.attention.attention.{layer}.{kind}")
        for layer in ("query", "key", "value")
      ]
      renamed[f"blocks.{i}.attn.qkv.{kind}"] = np.concatenate(parts)
  if "reg_token" in renamed:
    positions = renamed["pos_embed"]
    renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
    renamed["pos_embed"] = positions[:, 1:]
  return {name: array for name, array in renamed.items() if "mask_token" not in name}


def _layer(name, *shape, bias=True):
  return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def vit_shapes(net):
  """Shapes of the files of Dinov2Model, Dinov2WithRegistersModel and DINOv3ViTModel."""
  c, hidden, is_rotary = net.width, net.width * net.expansion, not net.positions
  shapes = {"embeddings.cls_token": (1, 1, c)}
  if net.layer_scale:
    shapes["embeddings.mask_token"] = (1, 1, c) if is_rotary else (1, c)
  projection = "" if is_rotary else ".projection"
  shapes |= _layer(f"embeddings.patch_embeddings{projection}", c, 3, net.patch, net.patch)
  if net.positions:
    shapes["embeddings.position_embeddings"] = (1, 1 + net.positions**2, c)
  if net.registers:
    shapes["embeddings.register_tokens"] = (1, net.registers, c)
  for i in range(net.depth):
    block = f"layer.{i}" if is_rotary else f"encoder.layer.{i}"
    if is_rotary:
      attention = [f"attention.{kind}_proj" for kind in "qkvo"]
    else:
      attention = [f"attention.attention.{kind}" for kind in ("query", "key", "value")]
      attention += ["attention.output.dense"]
    for name in attention:
      shapes |= _layer(f"{block}.{name}", c, c, bias="k_proj" not in name)
    fc1, fc2 = ("up_proj", "down_proj") if is_rotary else ("fc1", "fc2")
    layers, norms = (f"mlp.{fc1}", f"mlp.{fc2}"), ("norm1", "norm2")
    if not net.layer_scale:
      layers = "intermediate.dense", "output.dense"
      norms = "layernorm_before", "layernorm_after"
    shapes |= _layer(f"{block}.{layers[0]}", hidden, c) | _layer(f"{block}.{layers[1]}", c, hidden)
    for k, norm in enumerate(norms, 1):
      shapes |= _layer(f"{block}.{norm}", c)
      if net.layer_scale:
        shapes[f"{block}.layer_scale{k}.lambda1"] = (c,)
  return shapes | _layer("norm" if is_rotary else "layernorm", c)


def _dpt_shapes(net):
  """Shapes of the neck and the head of DPT and Depth Anything."""
  f, shapes = net.features, {}
  for i, channels in enumerate(net.channels):
    stage = "neck.reassemble_stage"
    if net.readout == "project":
      name = f"{stage}.readout_projects.{i}.0"
      shapes |= _layer(name, net.backbone.width, 2 * net.backbone.width)
    shapes |= _layer(f"{stage}.layers.{i}.projection", channels, net.backbone.width, 1, 1)
    if i != 2:
      side = (4, 2, 1, 3)[i]
      shapes |= _layer(f"{stage}.layers.{i}.resize", channels, channels, side, side)
    shapes |= _layer(f"neck.convs.{i}", f, channels, 3, 3, bias=False)
    fusion = f"neck.fusion_stage.layers.{i}"
    shapes |= _layer(f"{fusion}.projection", f, f, 1, 1)
    for unit in (1, 2):
      for k in (1, 2):
        name = f"{fusion}.residual_layer{unit}"
        shapes |= _layer(f"{name}.convolution{k}", f, f, 3, 3, bias=net.fusion_bias)
        if net.fusion_norm:
          shapes |= _batch_norm(f"{name}.batch_norm{k}", f)
  if "segmentation" in net.heads:
    shapes |= _layer("head.head.0", f, f, 3, 3, bias=False) | _batch_norm("head.head.1", f)
    return shapes | _layer("head.head.4", net.heads["segmentation"], f, 1, 1)
  names = [f"head.conv{i}" for i in (1, 2, 3)]
  if net.readout == "project":
    names = [f"head.head.{i}" for i in (0, 2, 4)]
  if net.project:
    shapes |= _layer("head.projection", f, f, 3, 3)
  shapes |= _layer(names[0], f // 2, f, 3, 3)
  shapes |= _layer(names[1], net.head_features, f // 2, 3, 3)
  return shapes | _layer(names[2], 1, net.head_features, 1, 1)


def _batch_norm(name, channels):
  statistics = {f"{name}.{kind}": (channels,) for kind in ("running_mean", "running_var")}
  return _layer(name, channels) | statistics
