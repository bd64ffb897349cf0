"""Backbones: classification networks that predictors take their features from."""

from asmjax.models.backbones.base import Backbone
from asmjax.models.backbones.convnext import ConvNeXt
from asmjax.models.backbones.hrnet import HRNet
from asmjax.models.backbones.mix_transformer import MixTransformer
from asmjax.models.backbones.mobilenet import MobileNetV1
from asmjax.models.backbones.mobilenet_v2 import MobileNetV2
from asmjax.models.backbones.resnet import ResNet
from asmjax.models.backbones.vgg import VGG
from asmjax.models.backbones.vit import ViT
from asmjax.models.backbones.xception import Xception

BACKBONES: dict[str, type[Backbone]] = {
  "convnext": ConvNeXt,
  "hrnet": HRNet,
  "mix_transformer": MixTransformer,
  "mobilenet_v1": MobileNetV1,
  "mobilenet_v2": MobileNetV2,
  "resnet": ResNet,
  "vgg": VGG,
  "vit": ViT,
  "xception": Xception,
}
