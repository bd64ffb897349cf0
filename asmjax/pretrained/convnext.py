"""Name maps for ConvNeXt, in the names of timm, torchvision and transformers."""

from collections.abc import Callable
from typing import NamedTuple

from asmjax.models.backbones.convnext import ConvNeXt
from asmjax.pretrained.conditions import check_layer_norm
from asmjax.pretrained.names import (
  NameMap,
  torch_conv,
  torch_layer_norm,
  torch_linear,
  torch_vector,
)


class Names(NamedTuple):
  """Names of a library's layers.

  Attributes:
    stem: Names of the first convolution and of the norm after it.
    down: Function of a stage, from 1 on, to the names of the norm before it and of its convolution.
    block: Function of a stage and a block, from 0 on, to the prefix of the block's names.
    layers: Names within a block of the depthwise convolution, the norm and both linear layers.
    scale: Name within a block of the factors on its channels.
    response: Name within a block of global response normalization; empty if it has none.
  """

  stem: tuple[str, str]
  down: Callable[[int], tuple[str, str]]
  block: Callable[[int, int], str]
  layers: tuple[str, str, str, str]
  scale: str
  response: str


# By the library that publishes the weights.
NAMES = {
  "timm": Names(
    ("stem.0", "stem.1"),
    lambda i: (f"stages.{i}.downsample.0", f"stages.{i}.downsample.1"),
    lambda i, j: f"stages.{i}.blocks.{j}",
    ("conv_dw", "norm", "mlp.fc1", "mlp.fc2"),
    "gamma",
    "mlp.grn",
  ),
  "torchvision": Names(
    ("features.0.0", "features.0.1"),
    lambda i: (f"features.{2 * i}.0", f"features.{2 * i}.1"),
    lambda i, j: f"features.{2 * i + 1}.{j}",
    ("block.0", "block.2", "block.3", "block.5"),
    "layer_scale",
    "",
  ),
  "transformers": Names(
    ("embeddings.patch_embeddings", "embeddings.layernorm"),
    lambda i: (
      f"encoder.stages.{i}.downsampling_layer.0",
      f"encoder.stages.{i}.downsampling_layer.1",
    ),
    lambda i, j: f"encoder.stages.{i}.layers.{j}",
    ("dwconv", "layernorm", "pwconv1", "pwconv2"),
    "layer_scale_parameter",
    "grn",
  ),
}


def convnext(network: ConvNeXt, library: str) -> NameMap:
  """Maps ConvNeXt in the names of a library, a key of `NAMES`.

  Raises:
    ValueError: The network has another norm than the published one, or the library lacks the
      network's version.
  """
  names = NAMES[library]
  check_layer_norm(network, library, 1e-6)
  if network.response_norm and not names.response:
    raise ValueError(f"{library}'s ConvNeXt is version 1; found response_norm=True")
  entries = torch_conv("stem", names.stem[0], bias=True)
  entries |= torch_layer_norm("stem_norm", names.stem[1])
  for i, depth in enumerate(network.depths):
    if i:
      norm, conv = names.down(i)
      entries |= torch_layer_norm(f"stage{i + 1}_norm", norm)
      entries |= torch_conv(f"stage{i + 1}_down", conv, bias=True)
    for j in range(depth):
      entries |= _block(network, names, f"stage{i + 1}_block{j + 1}", names.block(i, j))
  return entries


def _block(network: ConvNeXt, names: Names, module: str, prefix: str) -> NameMap:
  depthwise, norm, fc1, fc2 = (f"{prefix}.{name}" for name in names.layers)
  entries = torch_conv(f"{module}/depthwise", depthwise, bias=True)
  entries |= torch_layer_norm(f"{module}/depthwise_norm", norm)
  entries |= torch_linear(f"{module}/fc1", fc1) | torch_linear(f"{module}/fc2", fc2)
  if network.layer_scale:
    entries |= torch_vector(f"{module}/scale", f"{prefix}.{names.scale}")
  if network.response_norm:
    for ours, theirs in (("scale", "weight"), ("bias", "bias")):
      entries |= torch_vector(f"{module}/response/{ours}", f"{prefix}.{names.response}.{theirs}")
  return entries
