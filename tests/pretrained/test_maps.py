"""Name maps against the networks' variables, published names, and networks in PyTorch."""

import collections

import jax
import numpy as np
import pytest

from asmjax.models.backbones import (
  VGG,
  ConvNeXt,
  HRNet,
  MixTransformer,
  MobileNetV1,
  MobileNetV2,
  ResNet,
  ViT,
  Xception,
)
from asmjax.models.layers import Norm
from asmjax.models.predictors import DPT, HRNetV2, SegFormer, UNet, UPerNet
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.pretrained import name_map
from asmjax.pretrained.maps import MAPS
from asmjax.utils.trees import leaves_by_path
from tests.helpers import published_weights

HEADS = {"segmentation": 3}
TORCH = ResNet((1, 2, 1, 1), 8, output_stride=8, placement="first_3x3")
SLIM = ResNet((2, 2, 1, 1), 8, placement="last_3x3")
XCEPTION = Xception(middle=2, width=0.05)

# Networks, the naming and names that published files have, by our path.
CASES = {
  "resnet-torchvision": (
    TORCH,
    "torchvision",
    {
      "params/conv1_norm/scale": "bn1.weight",
      "params/stage2_block2/conv3/kernel": "layer2.1.conv3.weight",
      "batch_stats/stage4_block1/shortcut_norm/var": "layer4.0.downsample.1.running_var",
    },
  ),
  "resnet-slim": (
    ResNet(placement="last_3x3"),
    "slim",
    {
      "params/conv1/kernel": "resnet_v1_50/conv1/weights",
      "params/stage4_block1/shortcut/kernel": "resnet_v1_50/block4/unit_1/bottleneck_v1/shortcut/weights",
      "batch_stats/stage3_block6/conv2_norm/mean": "resnet_v1_50/block3/unit_6/bottleneck_v1/conv2/BatchNorm/moving_mean",
    },
  ),
  "mobilenet_v1-slim": (
    MobileNetV1(),
    "slim",
    {
      "params/conv1/kernel": "MobilenetV1/Conv2d_0/weights",
      "params/block1_depthwise/kernel": "MobilenetV1/Conv2d_1_depthwise/depthwise_weights",
      "params/block13_pointwise_norm/bias": "MobilenetV1/Conv2d_13_pointwise/BatchNorm/beta",
    },
  ),
  "mobilenet_v2-torchvision": (
    MobileNetV2(),
    "torchvision",
    {
      "params/conv1/kernel": "features.0.0.weight",
      "params/block1_depthwise/kernel": "features.1.conv.0.0.weight",
      "params/block1_project/kernel": "features.1.conv.1.weight",
      "params/block2_depthwise/kernel": "features.2.conv.1.0.weight",
      "params/block17_project_norm/bias": "features.17.conv.3.bias",
      "params/conv2/kernel": "features.18.0.weight",
    },
  ),
  "mobilenet_v2-slim": (
    MobileNetV2(),
    "slim",
    {
      "params/conv1/kernel": "MobilenetV2/Conv/weights",
      "params/block1_depthwise/kernel": "MobilenetV2/expanded_conv/depthwise/depthwise_weights",
      "params/block2_expand/kernel": "MobilenetV2/expanded_conv_1/expand/weights",
      "params/block17_project/kernel": "MobilenetV2/expanded_conv_16/project/weights",
      "params/conv2_norm/scale": "MobilenetV2/Conv_1/BatchNorm/gamma",
    },
  ),
  "mobilenet_v2-topless": (MobileNetV2(top=False), "slim", {}),
  "mobilenet_v2-topless-torchvision": (MobileNetV2(top=False), "torchvision", {}),
  "vgg-torchvision": (
    VGG(width=4, fc_features=16),
    "torchvision",
    {
      "params/conv1_2/bias": "features.2.bias",
      "params/conv5_3/kernel": "features.28.weight",
      "params/fc6/kernel": "classifier.0.weight",
      "params/fc7/bias": "classifier.3.bias",
    },
  ),
  "vgg-bn-torchvision": (
    VGG(width=4, norm=Norm("sync_batch")),
    "torchvision",
    {
      "params/conv2_1/kernel": "features.7.weight",
      "params/conv5_3/kernel": "features.40.weight",
      "batch_stats/conv5_3_norm/var": "features.41.running_var",
    },
  ),
  "vgg-slim": (
    VGG(width=4, fc_features=16),
    "slim",
    {
      "params/conv1_1/kernel": "vgg_16/conv1/conv1_1/weights",
      "params/conv5_3/bias": "vgg_16/conv5/conv5_3/biases",
      "params/fc6/kernel": "vgg_16/fc6/weights",
    },
  ),
  "xception-slim": (
    Xception(width=0.1),
    "slim",
    {
      "params/conv2/kernel": "xception_65/entry_flow/conv1_2/weights",
      "params/entry1/shortcut/kernel": "xception_65/entry_flow/block1/unit_1/xception_module/shortcut/weights",
      "params/middle16/conv3_pointwise/kernel": "xception_65/middle_flow/block1/unit_16/xception_module/separable_conv3_pointwise/weights",
      "params/exit2/conv1_depthwise/kernel": "xception_65/exit_flow/block2/unit_1/xception_module/"
      "separable_conv1_depthwise/depthwise_weights",
    },
  ),
  "xception-41-slim": (
    Xception(width=0.1, middle=8),
    "slim",
    {"params/conv1/kernel": "xception_41/entry_flow/conv1_1/weights"},
  ),
  "deeplab-torchvision": (
    DeepLab(HEADS, TORCH, rates=(12, 24, 36), features=8, convs=1),
    "torchvision",
    {
      "params/backbone/conv1/kernel": "backbone.conv1.weight",
      "params/aspp_pool/kernel": "classifier.0.convs.4.1.weight",
      "params/aspp3_norm/bias": "classifier.0.convs.3.1.bias",
      "params/conv1/kernel": "classifier.1.weight",
      "params/head_segmentation/bias": "classifier.4.bias",
    },
  ),
  "deeplab-mobilenet-slim": (
    DeepLab(HEADS, MobileNetV2(top=False), rates=(), features=8),
    "slim",
    {
      "params/backbone/conv1/kernel": "MobilenetV2/Conv/weights",
      "params/aspp_pool/kernel": "image_pooling/weights",
      "params/project/kernel": "concat_projection/weights",
      "params/head_segmentation/kernel": "logits/semantic/weights",
    },
  ),
  "deeplab-xception-slim": (
    DeepLab(HEADS, XCEPTION, features=8, low=4, convs=2, separable=True),
    "slim",
    {
      "params/low/kernel": "decoder/feature_projection0/weights",
      "params/aspp3_depthwise/kernel": "aspp3_depthwise/depthwise_weights",
      "params/conv2_pointwise_norm/scale": "decoder/decoder_conv1_pointwise/BatchNorm/gamma",
    },
  ),
  "deeplab-dense-slim": (
    DeepLab(HEADS, SLIM, features=8, low=4, convs=2),
    "slim",
    {
      "params/aspp1/kernel": "aspp1/weights",
      "params/conv1/kernel": "decoder/decoder_conv0/weights",
    },
  ),
}

CONVNEXT = ConvNeXt((1, 1, 1, 2), (4, 4, 4, 4))
CONVNEXT_V2 = CONVNEXT.clone(response_norm=True, layer_scale=0.0)
HRNET = HRNet(2, (1, 2, 1), blocks=1, bottlenecks=2)
CASES |= {
  "convnext-timm": (
    CONVNEXT,
    "timm",
    {
      "params/stem_norm/scale": "stem.1.weight",
      "params/stage2_down/bias": "stages.1.downsample.1.bias",
      "params/stage4_block2/scale": "stages.3.blocks.1.gamma",
    },
  ),
  "convnext-v2-timm": (
    CONVNEXT_V2,
    "timm",
    {"params/stage4_block2/response/scale": "stages.3.blocks.1.mlp.grn.weight"},
  ),
  "convnext-torchvision": (
    CONVNEXT,
    "torchvision",
    {
      "params/stage2_norm/scale": "features.2.0.weight",
      "params/stage4_block2/fc1/kernel": "features.7.1.block.3.weight",
      "params/stage4_block2/scale": "features.7.1.layer_scale",
    },
  ),
  "convnext-v2-transformers": (
    CONVNEXT_V2,
    "transformers",
    {"params/stage1_block1/response/bias": "encoder.stages.0.layers.0.grn.bias"},
  ),
  "hrnet-timm": (
    HRNET,
    "timm",
    {
      "params/conv2/kernel": "conv2.weight",
      "params/stage1_block1/shortcut/kernel": "layer1.0.downsample.0.weight",
      "params/stage2_transition1/kernel": "transition1.0.0.weight",
      "params/stage2_transition2_norm/scale": "transition1.1.0.1.weight",
      "params/stage4_transition4/kernel": "transition3.3.0.0.weight",
      "params/stage3_module2/branch3_block1/conv2/kernel": "stage3.1.branches.2.0.conv2.weight",
      "params/stage4_module1/exchange4_1_norm/bias": "stage4.0.fuse_layers.0.3.1.bias",
      "batch_stats/stage4_module1/exchange1_4_3_norm/var": "stage4.0.fuse_layers.3.0.2.1.running_var",
    },
  ),
  "hrnet-narrow": (HRNET.clone(stem=8, width=8, bottleneck_width=2), "timm", {}),
  "hrnet-hrnet": (HRNET, "hrnet", {"params/conv1_norm/scale": "model.bn1.weight"}),
  "hrnet_v2-hrnet": (
    HRNetV2(HEADS, HRNET),
    "hrnet",
    {
      "params/backbone/conv1/kernel": "model.conv1.weight",
      "params/fuse/kernel": "model.last_layer.0.weight",
      "params/fuse_norm/scale": "model.last_layer.1.weight",
      "params/head_segmentation/bias": "model.last_layer.3.bias",
    },
  ),
  "resnet-transformers": (
    TORCH,
    "transformers",
    {"params/stage2_block2/conv3/kernel": "encoder.stages.1.layers.1.layer.2.convolution.weight"},
  ),
  "upernet-transformers": (
    UPerNet(HEADS, CONVNEXT, features=4, auxiliary=4, normalize_features=True),
    "transformers",
    {
      "params/backbone/stem/kernel": "backbone.embeddings.patch_embeddings.weight",
      "params/features32_norm/scale": "backbone.hidden_states_norms.stage4.weight",
      "params/pool6/kernel": "decode_head.psp_modules.3.1.conv.weight",
      "params/lateral16/kernel": "decode_head.lateral_convs.2.conv.weight",
      "params/head_segmentation_auxiliary/bias": "auxiliary_head.classifier.bias",
    },
  ),
  "mix_transformer-transformers": (
    MixTransformer(),
    "transformers",
    {
      "params/stage1_embed/kernel": "segformer.encoder.patch_embeddings.0.proj.weight",
      "params/stage2_block1/reduce/bias": "segformer.encoder.block.1.0.attention.self.sr.bias",
      "params/stage4_block2/fc2/kernel": "segformer.encoder.block.3.1.mlp.dense2.weight",
      "params/stage3_norm/scale": "segformer.encoder.layer_norm.2.weight",
    },
  ),
  "segformer-transformers": (
    SegFormer(HEADS),
    "transformers",
    {
      "params/backbone/stage1_norm/bias": "segformer.encoder.layer_norm.0.bias",
      "params/project32/kernel": "decode_head.linear_c.3.proj.weight",
      "params/fuse/kernel": "decode_head.linear_fuse.weight",
      "batch_stats/fuse_norm/mean": "decode_head.batch_norm.running_mean",
      "params/head_segmentation/bias": "decode_head.classifier.bias",
    },
  ),
}


@pytest.mark.parametrize("network, naming, published", CASES.values(), ids=CASES)
def test_name_map_names_every_variable_and_every_array_once(network, naming, published):
  entries = name_map(network, naming)
  assert set(entries) == set(leaves_by_path(published_weights.fresh(network)))
  names = collections.Counter(name for source in entries.values() for name in source.names)
  assert set(names.values()) == {1}
  assert {path: entries[path].names for path in published} == {
    path: (name,) for path, name in published.items()
  }


def test_maps_are_all_tested():
  """Those of ViTs are in test_vit.py: there one array may be of several variables."""
  tested = {(type(network), naming) for network, naming, _ in CASES.values()}
  assert tested == {(kind, naming) for kind, naming in MAPS if kind not in (DPT, ViT)}


@pytest.mark.parametrize(
  "make, published",
  [(MobileNetV1, 1e-3), (MobileNetV2, 1e-3), (lambda **style: SLIM.clone(**style), 1e-5)],
)
@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
def test_name_map_makes_up_for_another_epsilon(make, published, epsilon):
  entries = name_map(make(norm=Norm(epsilon=epsilon)), "slim")
  variances = [entry.transform for path, entry in entries.items() if path.endswith("/var")]
  assert len(variances) == len(entries) // 5
  for transform in variances:
    np.testing.assert_allclose(
      transform(np.array([0.5, 2])) + epsilon, [0.5 + published, 2 + published]
    )


def test_name_map_of_a_decoder_has_another_epsilon_than_its_backbone():
  entries = name_map(DeepLab(HEADS, XCEPTION, rates=()), "slim")
  moved = {
    path: entries[f"batch_stats/{path}_norm/var"].transform(np.ones(1))[0]
    for path in ("backbone/conv1", "aspp0")
  }
  assert moved == pytest.approx({"backbone/conv1": 1.00099, "aspp0": 1.0}, rel=1e-9)


@pytest.mark.parametrize(
  "network, naming, message",
  [
    (ResNet(), "torchvision", "placement='first_3x3'; found placement='first_1x1'"),
    (ResNet(placement="first_3x3"), "slim", "placement='last_3x3'; found placement='first_3x3'"),
    (MobileNetV2(norm=Norm("group")), "slim", "MobileNetV2 has batch norm; found norm 'group'"),
    (MobileNetV2(norm=Norm("none")), "torchvision", "has batch norm; found norm 'none'"),
    (VGG(norm=Norm()), "slim", "VGG has no normalization; found norm 'batch'"),
    (VGG(norm=Norm("group")), "torchvision", "found norm 'group'"),
    (DeepLab(HEADS, TORCH), "torchvision", "convs=1; found convs=0"),
    (DeepLab(HEADS, TORCH, low=4, convs=1), "torchvision", "low=0; found low=4"),
    (Xception(), "torchvision", "no name map for Xception in 'torchvision'; known: ConvNeXt in"),
    (
      MixTransformer(norm=Norm("layer", epsilon=1e-6)),
      "transformers",
      "norm 'layer' with epsilon=1e-05; found 'layer' with epsilon=1e-06",
    ),
    (CONVNEXT_V2, "torchvision", "torchvision's ConvNeXt is version 1; found response_norm=True"),
    (CONVNEXT.clone(norm=Norm("none")), "timm", "norm 'layer' with epsilon=1e-06; found 'none'"),
    (MixTransformer(norm=Norm()), "transformers", "found 'batch' with epsilon=1e-05"),
    (HRNetV2(HEADS, TORCH), "hrnet", "no name map for ResNet in 'hrnet'"),
    (UNet(HEADS), "slim", "no name map for UNet in 'slim'; known: .*Xception in 'slim'"),
    (ResNet(), "caffe", "no name map for ResNet in 'caffe'"),
    (
      MobileNetV1(activation=jax.nn.relu),
      "slim",
      "MobileNetV1 has activation=relu6; found activation=relu",
    ),
  ],
)
def test_name_map_refuses_unpublished_networks(network, naming, message):
  with pytest.raises(ValueError, match=message):
    name_map(network, naming)


def test_name_map_has_no_entry_for_heads_of_other_tasks():
  heads = {"depth": 1, "segmentation": 3}
  entries = name_map(DeepLab(heads, MobileNetV2(top=False), rates=()), "slim")
  assert "params/head_segmentation/kernel" in entries and "params/head_depth/kernel" not in entries


def test_hwio_from_oi_makes_convolutions_of_fully_connected_layers():
  rng = np.random.default_rng(0)
  network = VGG(width=1, fc_features=5)
  entries = name_map(network, "torchvision")
  x = rng.normal(size=(7, 7, 8))
  kernel = rng.normal(size=(5, 8 * 7 * 7))
  actual = np.einsum("hwi,hwio->o", x, entries["params/fc6/kernel"].transform(kernel))
  np.testing.assert_allclose(actual, kernel @ np.transpose(x, (2, 0, 1)).reshape(-1), rtol=1e-9)
  kernel = rng.normal(size=(5, 5))
  actual = entries["params/fc7/kernel"].transform(kernel)
  np.testing.assert_array_equal(actual, kernel.T[None, None])
