"""The contract of all backbones."""

import pytest

from asmjax.models.backbones import BACKBONES, HRNet, MixTransformer
from tests.helpers import tiny_backbones as backbones


@pytest.mark.parametrize("stride", [4, 64])
@pytest.mark.parametrize("kind", BACKBONES.values())
def test_backbone_refuses_other_output_strides(kind, stride):
  with pytest.raises(ValueError, match=f"output_stride={stride}; known: 8, 16, 32"):
    kind(output_stride=stride)


@pytest.mark.parametrize(
  "name, expected",
  [
    ("convnext", [96, 192, 384, 768]),
    ("mix_transformer", [32, 64, 160, 256]),
    ("mobilenet_v1", [64, 128, 256, 512, 1024]),
    ("mobilenet_v2", [16, 24, 32, 96, 1280]),
    ("resnet", [64, 256, 512, 1024, 2048]),
    ("vgg", [64, 128, 256, 512, 512]),
    ("xception", [128, 256, 728, 1024, 2048]),
  ],
)
def test_backbone_channels_are_the_published_ones(name, expected):
  features, _ = backbones.shapes(BACKBONES[name](), 32, 32)
  assert [x.shape[-1] for x in features.values()] == expected


@pytest.mark.parametrize("kind", [HRNet, MixTransformer])
def test_backbone_that_needs_its_strides_gives_none_up(kind):
  with pytest.raises(ValueError, match=f"output_stride=16; a {kind.__name__} has 32 alone: "):
    kind(output_stride=16)
