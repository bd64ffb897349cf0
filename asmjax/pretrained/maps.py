"""The name maps of all networks that there are published weights for."""

import flax.linen as nn

from asmjax.models.backbones import VGG, MobileNetV1, MobileNetV2, ResNet, ViT, Xception
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.models.predictors.dpt import DPT
from asmjax.pretrained import slim, torchvision, vit
from asmjax.pretrained.names import NameMap, nest, prefix_names


def name_map(network: nn.Module, naming: str) -> NameMap:
  """Returns the map from a network's variables to the names in a file of published weights.

  Of a DeepLab, the head of the task "segmentation" takes the published classifier; other heads
  have no entry.

  Args:
    network: Network that takes the weights. Its batch norm may have another epsilon than the
      published one: the map makes up for it.
    naming: Way of naming: "torchvision", "transformers", "timm", "dinov2", or "slim" for TF-Slim
      and the DeepLab model zoo.

  Raises:
    ValueError: There is no such map, or the network differs from the published one in more than
      numbers of channels and blocks.
  """
  key = (type(network), naming)
  if key not in MAPS:
    known = ", ".join(sorted(f"{kind.__name__} in {names!r}" for kind, names in MAPS))
    raise ValueError(f"no name map for {type(network).__name__} in {naming!r}; known: {known}")
  return MAPS[key](network)


def _map_torchvision_deeplab(network: DeepLab) -> NameMap:
  backbone = prefix_names("backbone.", name_map(network.backbone, "torchvision"))
  return nest("backbone", backbone) | torchvision.deeplab(network)


def _map_slim_deeplab(network: DeepLab) -> NameMap:
  return nest("backbone", name_map(network.backbone, "slim")) | slim.deeplab(network)


MAPS = {
  (DeepLab, "slim"): _map_slim_deeplab,
  (DeepLab, "torchvision"): _map_torchvision_deeplab,
  (DPT, "transformers"): vit.transformers_dpt,
  (MobileNetV1, "slim"): slim.mobilenet_v1,
  (MobileNetV2, "slim"): slim.mobilenet_v2,
  (MobileNetV2, "torchvision"): torchvision.mobilenet_v2,
  (ResNet, "slim"): slim.resnet,
  (ResNet, "torchvision"): torchvision.resnet,
  (VGG, "slim"): slim.vgg,
  (VGG, "torchvision"): torchvision.vgg,
  (ViT, "dinov2"): vit.dinov2_vit,
  (ViT, "transformers"): vit.transformers_vit,
  (ViT, "timm"): vit.timm_vit,
  (Xception, "slim"): slim.xception,
}
