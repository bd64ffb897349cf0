"""Predictors as they were published, by name: functions of the heads."""

import functools
from collections.abc import Callable
from typing import Any

from asmjax.models.backbones import (
  VGG,
  ConvNeXt,
  HRNet,
  MixTransformer,
  MobileNetV2,
  ResNet,
  ViT,
  Xception,
  convnext,
  mix_transformer,
)
from asmjax.models.backbones.resnet import BLOCKS
from asmjax.models.layers import Norm
from asmjax.models.predictors.base import Predictor
from asmjax.models.predictors.deeplab import DeepLab, DeepLabV2
from asmjax.models.predictors.dilated import Dilated
from asmjax.models.predictors.dpt import DPT
from asmjax.models.predictors.farabet import Farabet
from asmjax.models.predictors.fcn import FCN
from asmjax.models.predictors.fcrn import FCRN
from asmjax.models.predictors.hrnet_v2 import HRNetV2
from asmjax.models.predictors.pspnet import PSPNet
from asmjax.models.predictors.segformer import SegFormer
from asmjax.models.predictors.unet import UNet
from asmjax.models.predictors.upernet import UPerNet
from asmjax.models.predictors.vit_linear import ViTLinear

# Statistics of pretrained layers move slowly (Hwang et al. 2019, Sec. 4.1): 0.9997 is also what the
# DeepLab code trains with. MobileNets and Xception have TF-Slim's epsilon of 1e-3.
_SLOW_NORM = Norm(momentum=0.9997)
_SLIM_NORM = Norm(momentum=0.9997, epsilon=1e-3)


def _resnet(depth: int, output_stride: int) -> ResNet:
  return ResNet(BLOCKS[depth], output_stride=output_stride, placement="first_3x3", norm=_SLOW_NORM)


def _deeplab_v3_plus(backbone: Xception | MobileNetV2) -> functools.partial:
  return functools.partial(DeepLab, backbone=backbone, low=48, convs=2, separable=True)


def _hrnet(width: int) -> functools.partial:
  return functools.partial(HRNetV2, backbone=HRNet(width=width, upsampling="bilinear_aligned"))


def _segformer(size: int) -> functools.partial:
  backbone = MixTransformer(
    depths=mix_transformer.DEPTHS[size], widths=mix_transformer.WIDTHS[size]
  )
  return functools.partial(SegFormer, backbone=backbone, features=256 if size < 2 else 768)


def _upernet_convnext(size: str, **version: Any) -> functools.partial:
  backbone = ConvNeXt(depths=convnext.DEPTHS[size], widths=convnext.WIDTHS[size], **version)
  return functools.partial(UPerNet, backbone=backbone, normalize_features=True)


_V2 = {"response_norm": True, "layer_scale": 0.0}


# Width, heads and depth of vision transformers (Touvron et al. 2021, Table 1; Dosovitskiy et al.
# 2021, Table 1); of Depth Anything V2 the blocks that it reads, and the channels of its neck, which
# is that of the first version. The first version reads the last four blocks.
_VITS = {"small": (384, 6, 12), "base": (768, 12, 12), "large": (1024, 16, 24)}
_NECKS = {
  "small": ((3, 6, 9, 12), {"channels": (48, 96, 192, 384), "features": 64}),
  "base": ((3, 6, 9, 12), {"channels": (96, 192, 384, 768), "features": 128}),
  "large": ((5, 12, 18, 24), {"channels": (256, 512, 1024, 1024), "features": 256}),
}


def _dinov2(size: str) -> ViT:
  width, num_heads, depth = _VITS[size]
  outputs = depth // 4, depth // 2, 3 * depth // 4, depth
  return ViT(width=width, num_heads=num_heads, depth=depth, outputs=outputs)


def _dinov3(size: str) -> ViT:
  return _dinov2(size).clone(patch=16, positions=0, registers=4, key_bias=False, norm=Norm("layer"))


def _vit_predictors() -> "dict[str, Callable[..., Predictor]]":
  networks: dict[str, Callable[..., Predictor]] = {}
  for size, (blocks, neck) in _NECKS.items():
    backbone = _dinov2(size).clone(outputs=blocks)
    dpt = functools.partial(DPT, backbone=backbone, readout="ignore", **neck)
    networks[f"dinov2_{size}_dpt"] = dpt
    networks[f"dinov2_{size}_linear"] = functools.partial(ViTLinear, backbone=_dinov2(size))
    networks[f"dinov3_{size}_linear"] = functools.partial(ViTLinear, backbone=_dinov3(size))
  return networks


_mobilenet = functools.partial(MobileNetV2, top=False, norm=_SLIM_NORM)

PUBLISHED: dict[str, Callable[..., Predictor]] = {
  "unet7": UNet,
  "unet18": functools.partial(
    UNet,
    levels=9,
    width=64,
    stride=2,
    down_kernel=4,
    decoder_convs=3,
    join=1,
    head_kernel=3,
    norm=Norm(epsilon=1e-3),  # TensorFlow's default.
  ),
  "fcn32s_vgg16": functools.partial(FCN, stride=32),
  "fcn16s_vgg16": functools.partial(FCN, stride=16),
  "fcn8s_vgg16": FCN,
  # Symmetric padding puts outputs on pixels 8 i, where the code of Ke et al. 2018 reads labels too.
  "fcn_resnet101": functools.partial(FCN, backbone=_resnet(101, 8), stride=32, align_corners=True),
  "deeplab_v2_resnet101": functools.partial(DeepLabV2, backbone=_resnet(101, 8)),
  "deeplab_v3_resnet50": functools.partial(DeepLab, backbone=_resnet(50, 16)),
  "deeplab_v3_resnet101": functools.partial(DeepLab, backbone=_resnet(101, 16)),
  "deeplab_v3_mobilenet_v2": functools.partial(
    DeepLab, backbone=_mobilenet(output_stride=16), rates=()
  ),
  "deeplab_v3_plus_xception65": _deeplab_v3_plus(Xception(output_stride=16, norm=_SLIM_NORM)),
  "deeplab_v3_plus_mobilenet_v2": _deeplab_v3_plus(_mobilenet(output_stride=16)),
  "pspnet_resnet50": functools.partial(PSPNet, backbone=_resnet(50, 8)),
  "pspnet_resnet101": functools.partial(PSPNet, backbone=_resnet(101, 8)),
  "dilated8": functools.partial(Dilated, backbone=VGG(fc_features=4096, output_stride=8)),
  "farabet": Farabet,
  "fcrn50": FCRN,
  **{f"hrnet_w{width}": _hrnet(width) for width in (18, 48)},
  **{f"segformer_b{size}": _segformer(size) for size in range(6)},
  "upernet_resnet50": functools.partial(UPerNet, backbone=_resnet(50, 32)),
  "upernet_resnet101": functools.partial(UPerNet, backbone=_resnet(101, 32)),
  **{f"upernet_convnext_{size}": _upernet_convnext(size) for size in ("tiny", "small", "base")},
  **{f"upernet_convnext_v2_{size}": _upernet_convnext(size, **_V2) for size in ("tiny", "base")},
  **_vit_predictors(),
}

# What each of them is, in one line.
DESCRIPTIONS = {
  "unet7": "U-Net of 7 convolutions (Hwang et al. 2019, Sec. 4.1)",
  "unet18": "U-Net of 9 levels, of the code released with ASM for depth and normals",
  "fcn32s_vgg16": "FCN on VGG-16, scores at stride 32 (Long et al. 2015)",
  "fcn16s_vgg16": "FCN on VGG-16, scores of strides 32 and 16 added up (Long et al. 2015)",
  "fcn8s_vgg16": "FCN on VGG-16, scores of strides 32, 16 and 8 added up (Long et al. 2015)",
  "fcn_resnet101": "FCN on a dilated ResNet-101, scores at stride 8 (Ke et al. 2018)",
  "deeplab_v2_resnet101": "DeepLab v2 on ResNet-101 at stride 8, atrous scores added up",
  "deeplab_v3_resnet50": "DeepLab v3 on ResNet-50 at stride 16, atrous spatial pyramid pooling",
  "deeplab_v3_resnet101": "DeepLab v3 on ResNet-101 at stride 16, atrous spatial pyramid pooling",
  "deeplab_v3_mobilenet_v2": "DeepLab v3 on MobileNetV2 at stride 16, pooling without atrous rates",
  "deeplab_v3_plus_xception65": "DeepLab v3+ on Xception-65: v3 and a decoder at stride 4",
  "deeplab_v3_plus_mobilenet_v2": "DeepLab v3+ on MobileNetV2: v3 and a decoder at stride 4",
  "pspnet_resnet50": "PSPNet on ResNet-50 at stride 8, means over grids (Zhao et al. 2017)",
  "pspnet_resnet101": "PSPNet on ResNet-101 at stride 8, means over grids (Zhao et al. 2017)",
  "dilated8": "Dilated8: a dilated VGG-16 and a context module (Yu and Koltun 2016)",
  "farabet": "convolutions shared by three scales of the image (Farabet et al. 2013)",
  "fcrn50": "FCRN: ResNet-50 and four up-projections (Laina et al. 2016)",
  **{
    f"hrnet_w{width}": f"HRNetV2-W{width}: branches of strides 4 to 32 throughout, joined at 4"
    for width in (18, 48)
  },
  **{
    f"segformer_b{size}": f"SegFormer on Mix Transformer B{size}, linear decoder at stride 4"
    for size in range(6)
  },
  **{
    f"upernet_resnet{depth}": f"UPerNet on ResNet-{depth}: pyramids of grids and of features"
    for depth in (50, 101)
  },
  **{
    f"upernet_convnext_{size}": f"UPerNet on ConvNeXt-{size[0].upper()} (Liu et al. 2022)"
    for size in ("tiny", "small", "base")
  },
  **{
    f"upernet_convnext_v2_{size}": f"UPerNet on ConvNeXt V2-{size[0].upper()} (Woo et al. 2023)"
    for size in ("tiny", "base")
  },
  **{
    f"{name}_{size}_{head}": f"{network}'s ViT-{size[0].upper()} and {description}"
    for size in _VITS
    for name, network, head, description in (
      ("dinov2", "DINOv2", "dpt", "the DPT of Depth Anything V2 (Yang et al. 2024)"),
      ("dinov2", "DINOv2", "linear", "a linear classifier of its patches (Oquab et al. 2024)"),
      ("dinov3", "DINOv3", "linear", "a linear classifier of its patches (Simeoni et al. 2025)"),
    )
  },
}
