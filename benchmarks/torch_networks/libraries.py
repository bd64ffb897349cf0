"""Predictors on networks of timm and transformers, which are installed beside PyTorch to run them.

Their state dicts have the names of published files.
"""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.torch_networks.layers import bilinear


class TorchHRNetV2(nn.Module):
  """HRNetV2 as released for segmentation: timm's HRNet, whose maps are enlarged bilinearly.

  Sizes of 32 k + 1 fit: there corners stay where they are.

  Args:
    config: timm's description of the network, as in `timm.models.hrnet.cfg_cls`.
    classes: Channels of the head.
  """

  def __init__(self, config: Mapping[str, Any], classes: int):
    from timm.models.hrnet import HighResolutionNet

    super().__init__()
    self.model = HighResolutionNet(dict(config), head="")
    for module in list(self.model.modules()):
      for name, child in module.named_children():
        if isinstance(child, nn.Upsample):
          setattr(module, name, AlignedUpsample(int(child.scale_factor)))
    width = sum(self.model.stage4_cfg["num_channels"])
    layers = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()
    self.model.last_layer = nn.Sequential(*layers, nn.Conv2d(width, classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at a quarter of the image's size."""
    maps = self.model.forward_features(x)
    joined = torch.cat([bilinear(x, maps[0].shape[2:], True) for x in maps], 1)
    return self.model.last_layer(joined)


class AlignedUpsample(nn.Module):
  """Enlarges maps bilinearly, with aligned corners, so that pixels are `factor` apart."""

  def __init__(self, factor: int):
    super().__init__()
    self.factor = factor

  def forward(self, x: Tensor) -> Tensor:
    """Computes factor * (side - 1) + 1 pixels along each axis."""
    height, width = (self.factor * (side - 1) + 1 for side in x.shape[2:])
    return bilinear(x, (height, width), True)


class FromTransformers(nn.Module):
  """Network whose `model` is of transformers, which names arrays in files in another way."""

  model: nn.Module

  def state_dict(self, *args: Any, **options: Any) -> dict[str, Tensor]:
    """Returns the arrays, those of `model` as files name them."""
    arrays = super().state_dict(*args, **options)
    own = {name: value for name, value in arrays.items() if not name.startswith("model.")}
    with tempfile.TemporaryDirectory() as folder:
      self.model.save_pretrained(folder)
      return own | load_file(pathlib.Path(folder) / "model.safetensors")


class TorchSegFormer(FromTransformers):
  """transformers' SegFormer-B0 without anything random."""

  def __init__(self, classes: int):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    super().__init__()
    config = SegformerConfig(num_labels=classes, drop_path_rate=0.0, classifier_dropout_prob=0.0)
    self.model = SegformerForSemanticSegmentation(config)

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at a quarter of the image's size."""
    return self.model(x).logits


class TorchUPerNet(FromTransformers):
  """transformers' UPerNet on ConvNeXt-T, without anything random or auxiliary."""

  def __init__(self, classes: int):
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    super().__init__()
    stages = {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]}
    backbone = ConvNextConfig(out_features=[f"stage{i}" for i in range(1, 5)], **stages)
    options = {"hidden_size": 512, "use_auxiliary_head": False, "num_labels": classes}
    self.model = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, **options))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at a quarter of the image's size."""
    return self.model.decode_head(self.model.backbone(x).feature_maps)


class TorchViTLinear(FromTransformers):
  """A linear classifier of the patches of transformers' DINOv2 ViT-S/14; sizes of 14 k fit."""

  def __init__(self, classes: int):
    from transformers import Dinov2Backbone, Dinov2Config

    super().__init__()
    shape = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
    self.model = Dinov2Backbone(Dinov2Config(**shape, out_features=["stage12"]))
    self.norm, self.head = nn.BatchNorm2d(384), nn.Conv2d(384, classes, 1)

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at half of the image's size."""
    (tokens,) = self.model(x).feature_maps
    return bilinear(self.head(self.norm(tokens)), [side // 2 for side in x.shape[2:]])
