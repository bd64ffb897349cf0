"""Backbones and predictors in PyTorch: one half of `predictors.py`, and what importers are held to.

They are written from the papers under the names of torchvision's state dicts, so that weights move
through the name maps of `asmjax.pretrained`, or of `torch_maps.py` where torchvision has no names.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG16 = (2, 2, 3, 3, 3)
# Expansion, channels, number and first stride of MobileNetV2's blocks.
V2_BLOCKS = (
  (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
  (6, 320, 1, 1),
)
HEAD = "head_segmentation"


def layer(
  before: int, features: int, kernel: int = 1, stride: int = 1, dilation: int = 1,
  groups: int = 1, activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
  """Convolution without a bias, batch norm and activation; maps are padded to keep their size."""
  padding = kernel // 2 * dilation
  conv = nn.Conv2d(
    before, features, kernel, stride, padding, dilation, groups=groups, bias=False
  )
  last = [] if activation is None else [activation(inplace=True)]
  return nn.Sequential(conv, nn.BatchNorm2d(features), *last)


class Strides:
  """Gives up strides for dilation, like torchvision's `replace_stride_with_dilation`.

  Args:
    output: the largest stride of a map.
  """

  def __init__(self, output: int):
    self.output, self.reached, self.dilation = output, 1, 1

  def __call__(self, stride: int) -> tuple[int, int]:
    """Stride and dilation of the next layer, whose stride was `stride`."""
    dilation = self.dilation
    if self.reached * stride > self.output:
      self.dilation *= stride
      return 1, dilation
    self.reached *= stride
    return stride, dilation


class Bottleneck(nn.Module):
  """ResNet v1.5's block: the stride is on the 3x3 convolution."""

  def __init__(self, before: int, width: int, stride: int, dilation: int):
    super().__init__()
    self.conv1 = nn.Conv2d(before, width, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * width)
    self.downsample = None
    if before != 4 * width:
      self.downsample = layer(before, 4 * width, stride=stride, activation=None)

  def forward(self, x: Tensor) -> Tensor:
    """Features at 1/stride of the size."""
    y = F.relu(self.bn1(self.conv1(x)), inplace=True)
    y = F.relu(self.bn2(self.conv2(y)), inplace=True)
    y = self.bn3(self.conv3(y))
    return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
  """ResNet v1.5 (torchvision's `resnet50` and `resnet101`) without its classifier.

  Args:
    blocks: bottlenecks by stage.
    width: channels of the stem.
    output_stride: 32, 16 or 8.
  """

  def __init__(self, blocks: Sequence[int], width: int = 64, output_stride: int = 32):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    # The stem and its pool have a stride of 4.
    strides, before = Strides(output_stride // 4), width
    for i, count in enumerate(blocks):
      stage = []
      for j in range(count):
        stride, dilation = strides(2 if i and not j else 1)
        stage.append(Bottleneck(before, width * 2**i, stride, dilation))
        before = 4 * width * 2**i
      self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
    self.channels = {4: 4 * width, 32: before}

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Features at the strides of 2 to 32 that there would be without dilation."""
    features = {2: F.relu(self.bn1(self.conv1(x)), inplace=True)}
    x = F.max_pool2d(features[2], 3, 2, 1)
    for i, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
      x = features[4 * 2**i] = stage(x)
    return features


class MobileNetV2(nn.Module):
  """torchvision's `mobilenet_v2` without its classifier, with `top=False` without its last layer.

  Args:
    output_stride: 32, 16 or 8.
    top: end in the convolution to 1280 channels.
  """

  def __init__(self, output_stride: int = 32, top: bool = True):
    super().__init__()
    strides, nominal, before = Strides(output_stride), 2, 32
    layers = [layer(3, 32, 3, strides(2)[0], activation=nn.ReLU6)]
    self.last, self.channels = {2: 0}, {}
    for expansion, channels, count, first in V2_BLOCKS:
      for j in range(count):
        nominal *= 1 if j else first
        layers.append(InvertedResidual(before, channels, expansion, *strides(1 if j else first)))
        self.last[nominal], self.channels[nominal], before = len(layers) - 1, channels, channels
    if top:
      self.last[32], self.channels[32] = len(layers), 1280
      layers.append(layer(before, 1280, activation=nn.ReLU6))
    self.features = nn.Sequential(*layers)

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Features at the strides of 2 to 32 that there would be without dilation."""
    maps = []
    for each in self.features:
      x = each(x)
      maps.append(x)
    return {stride: maps[i] for stride, i in self.last.items()}


class InvertedResidual(nn.Module):
  """Expansion, depthwise convolution and linear projection."""

  def __init__(self, before: int, after: int, expansion: int, stride: int, dilation: int):
    super().__init__()
    wide, self.adds = before * expansion, stride == 1 and before == after
    project = layer(wide, after, activation=None)
    self.conv = nn.Sequential(
      *([layer(before, wide, activation=nn.ReLU6)] if expansion > 1 else []),
      layer(wide, wide, 3, stride, dilation, wide, nn.ReLU6), *project,
    )

  def forward(self, x: Tensor) -> Tensor:
    """Features at 1/stride of the size."""
    return x + self.conv(x) if self.adds else self.conv(x)


class VGG(nn.Module):
  """torchvision's `vgg16` and `vgg16_bn` without the last layer, pools rounding sizes up.

  Args:
    width: channels of the first stage.
    fully: channels of the fully connected layers, applied as convolutions; 0 leaves them out.
    norm: with batch norm.
    output_stride: 32, 16 or 8.
  """

  def __init__(
    self, width: int = 64, fully: int = 0, norm: bool = False, output_stride: int = 32
  ):
    super().__init__()
    strides, layers, before = Strides(output_stride), [], 3
    self.ends, self.channels = {}, {}
    for i, count in enumerate(VGG16):
      features = width * 2 ** min(i, 3)
      for _ in range(count):
        dilation = strides.dilation
        layers.append(nn.Conv2d(before, features, 3, 1, dilation, dilation))
        layers += [nn.BatchNorm2d(features)] if norm else []
        layers.append(nn.ReLU(inplace=True))
        before = features
      stride, _ = strides(2)
      layers.append(nn.MaxPool2d(2, ceil_mode=True) if stride > 1 else nn.Identity())
      self.ends[2 ** (i + 1)], self.channels[2 ** (i + 1)] = len(layers), features
    self.features, self.classifier = nn.Sequential(*layers), None
    if fully:
      self.dilation, self.channels[32] = strides.dilation, fully
      self.classifier = nn.Sequential(
        nn.Linear(before * 49, fully), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(fully, fully), nn.ReLU(inplace=True), nn.Dropout(),
      )

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Pooled maps at the strides of 2 to 32 that there would be without dilation."""
    features, start = {}, 0
    for stride, end in self.ends.items():
      for each in self.features[start:end]:
        x = each(x)
      features[stride], start = x, end
    if self.classifier is not None:
      features[32] = self._classify(x)
    return features

  def _classify(self, x: Tensor) -> Tensor:
    for each in self.classifier:
      if isinstance(each, nn.Linear):
        side = 1 if x.shape[1] == each.in_features else 7
        weight = each.weight.view(each.out_features, x.shape[1], side, side)
        x = F.conv2d(x, weight, each.bias, 1, side // 2 * self.dilation, self.dilation)
      else:
        x = each(x)
    return x


class Pyramid(nn.Module):
  """Atrous spatial pyramid pooling, the image's mean last."""

  def __init__(self, before: int, features: int, rates: Sequence[int], separable: bool):
    super().__init__()
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layer(before, features))
    self.convs = nn.ModuleList([
      layer(before, features),
      *(nn.Sequential(*conv3x3(before, features, rate, separable)) for rate in rates), pool,
    ])
    self.project = layer(len(self.convs) * features, features)

  def forward(self, x: Tensor) -> Tensor:
    """Features of the same size."""
    *maps, mean = (conv(x) for conv in self.convs)
    return self.project(torch.cat([*maps, mean.expand(-1, -1, *x.shape[2:])], 1))


def conv3x3(before: int, features: int, dilation: int, separable: bool) -> list[nn.Module]:
  """The modules of a 3x3 convolution, or of a depthwise and a 1x1 one, with norm and ReLU."""
  if not separable:
    return [*layer(before, features, 3, 1, dilation)]
  return [*layer(before, before, 3, 1, dilation, before), *layer(before, features)]


class DeepLabV3(nn.Module):
  """DeepLab v3, torchvision's `deeplabv3_*`; v3+ if it has `low`; the zoo's without rates.

  Args:
    backbone: with `channels` at the strides of 4 and 32.
    classes: channels of the head.
    rates: of the atrous convolutions.
    low: channels that the features of stride 4 are reduced to; 0 leaves the decoder out.
    convs: 3x3 convolutions before the head.
    separable: 3x3 convolutions are depthwise ones followed by 1x1 ones.
    features: channels of all convolutions but the head and `low`.
  """

  def __init__(
    self, backbone: nn.Module, classes: int, rates: Sequence[int] = (12, 24, 36), low: int = 0,
    convs: int = 1, separable: bool = False, features: int = 256,
  ):
    super().__init__()
    self.backbone = backbone
    self.low = layer(backbone.channels[4], low) if low else None
    refine = []
    for i in range(convs):
      refine += conv3x3(features + (0 if i else low), features, 1, separable)
    self.classifier = nn.Sequential(
      Pyramid(backbone.channels[32], features, rates, separable), *refine,
      nn.Conv2d(features, classes, 1),
    )

  def forward(self, x: Tensor) -> Tensor:
    """Logits at the backbone's stride, or with a decoder at a stride of 4."""
    features = self.backbone(x)
    x = self.classifier[0](features[32])
    if self.low is not None:
      low = self.low(features[4])
      x = torch.cat([bilinear(x, low.shape[2:]), low], 1)
    return self.classifier[1:](x)


class PyramidScene(nn.Module):
  """PSPNet without its auxiliary head and without dropout.

  Args:
    backbone: with `channels` at a stride of 32.
    classes: channels of the head.
    bins: cells of each grid along both sides.
    features: channels of each grid and of the convolution that joins them.
  """

  def __init__(
    self, backbone: nn.Module, classes: int, bins: Sequence[int] = (1, 2, 3, 6),
    features: int = 512,
  ):
    super().__init__()
    self.backbone, wide = backbone, backbone.channels[32]
    self.pools = nn.ModuleDict({f"pool{each}": layer(wide, features) for each in bins})
    self.fuse = layer(wide + len(bins) * features, features, 3)
    self.add_module(HEAD, nn.Conv2d(features, classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Logits at the backbone's stride."""
    x = self.backbone(x)[32]
    pooled = [
      bilinear(pool(F.adaptive_avg_pool2d(x, int(name[4:]))), x.shape[2:])
      for name, pool in self.pools.items()
    ]
    return self.get_submodule(HEAD)(self.fuse(torch.cat([x, *pooled], 1)))


class FullyConvolutional(nn.Module):
  """FCN-8s.

  Args:
    backbone: with `channels` at the strides of 8, 16 and 32.
    classes: channels of the head.
  """

  def __init__(self, backbone: nn.Module, classes: int):
    super().__init__()
    self.backbone = backbone
    for stride, suffix in ((32, ""), (16, "_16"), (8, "_8")):
      self.add_module(HEAD + suffix, nn.Conv2d(backbone.channels[stride], classes, 1))
      if stride < 32:
        double = nn.ConvTranspose2d(classes, classes, 4, 2, 1, bias=False)
        self.add_module(f"{HEAD}_up{stride}", double)

  def forward(self, x: Tensor) -> Tensor:
    """Logits at a stride of 8."""
    features = self.backbone(x)
    score = self.get_submodule(HEAD)(features[32])
    for stride in (16, 8):
      x = self.get_submodule(f"{HEAD}_{stride}")(features[stride])
      score = self.get_submodule(f"{HEAD}_up{stride}")(score)
      score = score[..., : x.shape[2], : x.shape[3]] + x
    return score


class Contracting(nn.Module):
  """U-Net with one convolution a level.

  Args:
    classes: channels of the head.
    widths: channels by level.
  """

  def __init__(self, classes: int, widths: Sequence[int] = (32, 64, 128, 256)):
    super().__init__()
    pairs = list(zip((3, *widths), widths, strict=False))
    self.down = nn.ModuleList(
      layer(before, after, 3, 2 if i else 1) for i, (before, after) in enumerate(pairs)
    )
    self.up = nn.ModuleList(layer(sum(pair), pair[0], 3) for pair in pairs[1:])
    self.add_module(HEAD, nn.Conv2d(widths[0], classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Logits of the image's size."""
    skips = []
    for down in self.down:
      x = down(x)
      skips.append(x)
    for up, skip in reversed(list(zip(self.up, skips, strict=False))):
      x = up(torch.cat([bilinear(x, skip.shape[2:]), skip], 1))
    return self.get_submodule(HEAD)(x)


def bilinear(x: Tensor, size: Iterable[int]) -> Tensor:
  """Bilinear resize with half-pixel centres."""
  return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def randomise(net: nn.Module, seed: int = 0) -> None:
  """Random weights that keep the scale, and random statistics of batch norms."""
  generator = torch.Generator().manual_seed(seed)
  draw = lambda x: torch.randn(x.shape, generator=generator)
  with torch.no_grad():
    for module in net.modules():
      if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
        module.weight.copy_(draw(module.weight) * (2 / module.weight[0].numel()) ** 0.5)
      if isinstance(module, nn.BatchNorm2d):
        module.weight.copy_(1 + draw(module.weight) / 10)
        module.running_mean.copy_(draw(module.running_mean) / 10)
        module.running_var.copy_(1 + draw(module.running_var).abs() / 10)
      if getattr(module, "bias", None) is not None:
        module.bias.copy_(draw(module.bias) / 10)


def weights(net: nn.Module) -> dict[str, np.ndarray]:
  """The state dict as `asmjax.pretrained.read` would give it."""
  return {name: value.numpy() for name, value in net.state_dict().items()}


def nchw(image: np.ndarray) -> Tensor:
  """An image (n, h, w, c) in PyTorch's order of axes."""
  return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))


def nhwc(x: Tensor) -> np.ndarray:
  """A map in JAX's order of axes."""
  return x.detach().permute(0, 2, 3, 1).numpy()
