"""Published weights that fit the networks: addresses, licenses, and how they are loaded."""

import re
from typing import NamedTuple

_TORCHVISION = "https://download.pytorch.org/models/"
_TENSORFLOW = "http://download.tensorflow.org/models/"

# The flags with which a training starts from a file in each format.
_FLAGS = {
  "safetensors": "--config.init.path=FILE --config.init.format=safetensors",
  "torch": "--config.init.path=FILE --config.init.format=torch",
  "tensorflow": "--config.init.path=PREFIX.ckpt --config.init.format=tensorflow",
}

# Turns what torchvision publishes into a file that is read without PyTorch.
CONVERSION = (
  'python -c "import sys, torch, safetensors.torch as s; a, b = sys.argv[1:]; '
  's.save_file(torch.load(a, weights_only=True), b)" FILE.pth FILE.safetensors'
)


class PublishedWeights(NamedTuple):
  """Weights that can be downloaded.

  Attributes:
    network: Network that they are of, and what it was trained on.
    address: Address of the file or archive.
    format: Format of the file, or of those in the archive; see `asmjax.pretrained.load`.
    part: Part of the predictor that they are of: "backbone", or empty for all of it.
    license: License of the code that they were published with.
    network_flags: Flags of what the network must be, where it is not that of `PUBLISHED`.
  """

  network: str
  address: str
  format: str
  part: str
  license: str
  network_flags: str = ""

  @property
  def checksum(self) -> str:
    """First digits of the file's SHA-256, which torchvision has in its names; else empty."""
    found = re.search(r"-([0-9a-f]{8})\.pth$", self.address)
    return found[1] if found else ""

  @property
  def flags(self) -> str:
    """Flags of `asmjax train` that start from the downloaded file."""
    part = f"--config.init.part={self.part}" if self.part else ""
    return " ".join(filter(None, [_FLAGS[self.format], part, self.network_flags]))


def _torchvision(network: str, file: str) -> PublishedWeights:
  address, license = _TORCHVISION + file, "BSD-3-Clause (torchvision)"
  return PublishedWeights(network, address, "torch", "backbone", license)


def _tensorflow(network: str, address: str, **options: str) -> PublishedWeights:
  license = "Apache-2.0 (TensorFlow models)"
  options = {"part": "backbone", **options}
  return PublishedWeights(network, address, "tensorflow", license=license, **options)


def _hugging_face(network: str, repository: str, license: str) -> PublishedWeights:
  address = f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
  return PublishedWeights(network, address, "safetensors", "backbone", license)


def _dinov2(size: str, letter: str) -> PublishedWeights:
  network, repository = f"DINOv2 ViT-{letter}/14, LVD-142M", f"facebook/dinov2-{size}"
  return _hugging_face(network, repository, "Apache-2.0 (DINOv2)")


_LAST = "--config.predictor.backbone.placement=last_3x3"
_MOBILENET = "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz"
_VOC = ("deeplabv3_mnv2_pascal_train_aug_2018_01_29", "deeplabv3_pascal_train_aug_2018_01_04")

# The authors' own link (https://github.com/HRNet/HRNet-Semantic-Segmentation).
_HRNET = (
  "https://github.com/hsfzxjy/models.storage/releases/download/HRNet-OCR/hrnet_cs_8090_torch11.pth"
)

PUBLISHED_WEIGHTS = (
  _torchvision("ResNet-50, ImageNet", "resnet50-0676ba61.pth"),
  _torchvision("ResNet-101, ImageNet", "resnet101-63fe2227.pth"),
  _torchvision("VGG-16, ImageNet", "vgg16-397923af.pth"),
  _torchvision("MobileNetV2, ImageNet", "mobilenet_v2-b0353104.pth"),
  _tensorflow(
    "ResNet-50, ImageNet", f"{_TENSORFLOW}resnet_v1_50_2016_08_28.tar.gz", network_flags=_LAST
  ),
  _tensorflow(
    "ResNet-101, ImageNet", f"{_TENSORFLOW}resnet_v1_101_2016_08_28.tar.gz", network_flags=_LAST
  ),
  _tensorflow("VGG-16, ImageNet", f"{_TENSORFLOW}vgg_16_2016_08_28.tar.gz"),
  _tensorflow("MobileNetV2, ImageNet", _MOBILENET),
  _tensorflow("Xception-65, ImageNet", f"{_TENSORFLOW}deeplabv3_xception_2018_01_04.tar.gz"),
  _dinov2("small", "S"),
  _dinov2("base", "B"),
  _dinov2("large", "L"),
  _hugging_face("HRNet-W18, ImageNet", "timm/hrnet_w18.ms_aug_in1k", "MIT (HRNet)"),
  _hugging_face("HRNet-W48, ImageNet", "timm/hrnet_w48.ms_in1k", "MIT (HRNet)"),
  PublishedWeights("HRNetV2-W48, Cityscapes", _HRNET, "torch", "", "MIT (HRNet)"),
  _tensorflow("DeepLab v3 on MobileNetV2, VOC", f"{_TENSORFLOW}{_VOC[0]}.tar.gz", part=""),
  _tensorflow("DeepLab v3+ on Xception-65, VOC", f"{_TENSORFLOW}{_VOC[1]}.tar.gz", part=""),
)
