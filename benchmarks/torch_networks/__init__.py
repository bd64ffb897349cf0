"""Backbones and predictors in PyTorch, for `predictors.py` and for the tests of name maps.

They are written from the papers, the backbones under the names of torchvision's state dicts, so
that weights move through the name maps of `asmjax.pretrained`, or of `torch_maps.py` where
torchvision has no names.
"""

from benchmarks.torch_networks.arrays import nchw, nhwc, randomize, weights
from benchmarks.torch_networks.backbones import VGG, MobileNetV2, ResNet, Xception
from benchmarks.torch_networks.predictors import (
  Contracting,
  DeepLabV2,
  DeepLabV3,
  Dilated,
  FullyConvolutional,
  MultiScale,
  PyramidScene,
  UpProjecting,
)

__all__ = [
  "VGG",
  "Contracting",
  "DeepLabV2",
  "DeepLabV3",
  "Dilated",
  "FullyConvolutional",
  "MobileNetV2",
  "MultiScale",
  "PyramidScene",
  "ResNet",
  "UpProjecting",
  "Xception",
  "nchw",
  "nhwc",
  "randomize",
  "weights",
]
