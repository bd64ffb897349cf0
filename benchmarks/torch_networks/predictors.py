"""Predictors on the backbones, with a single head."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_networks.layers import bilinear, conv3x3, layer

HEAD = "head_segmentation"


class Pyramid(nn.Module):
  """Atrous spatial pyramid pooling, the image's mean last."""

  def __init__(self, before: int, features: int, rates: Sequence[int], separable: bool):
    super().__init__()
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layer(before, features))
    self.convs = nn.ModuleList(
      [
        layer(before, features),
        *(nn.Sequential(*conv3x3(before, features, rate, separable)) for rate in rates),
        pool,
      ]
    )
    self.project = layer(len(self.convs) * features, features)

  def forward(self, x: Tensor) -> Tensor:
    """Computes features of the same size."""
    *maps, mean = (conv(x) for conv in self.convs)
    return self.project(torch.cat([*maps, mean.expand(-1, -1, *x.shape[2:])], 1))


class TorchDeepLabV3(nn.Module):
  """DeepLab v3, torchvision's `deeplabv3_*`; v3+ if it has `low`; the zoo's without rates.

  Args:
    backbone: Backbone that knows its `channels` at the strides of 4 and 32.
    classes: Channels of the head.
    rates: Dilations of the atrous convolutions.
    low: Channels that the features of stride 4 are reduced to; 0 leaves the decoder out.
    convs: Number of 3x3 convolutions before the head.
    separable: Whether 3x3 convolutions are depthwise ones followed by 1x1 ones.
    features: Channels of all convolutions but the head and `low`.
  """

  def __init__(
    self,
    backbone: nn.Module,
    classes: int,
    rates: Sequence[int] = (12, 24, 36),
    low: int = 0,
    convs: int = 1,
    separable: bool = False,
    features: int = 256,
  ):
    super().__init__()
    self.backbone = backbone
    self.low = layer(backbone.channels[4], low) if low else None
    refine = []
    for i in range(convs):
      refine += conv3x3(features + (0 if i else low), features, 1, separable)
    self.classifier = nn.Sequential(
      Pyramid(backbone.channels[32], features, rates, separable),
      *refine,
      nn.Conv2d(features, classes, 1),
    )

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at the backbone's stride, or with a decoder at a stride of 4."""
    features = self.backbone(x)
    x = self.classifier[0](features[32])
    if self.low is not None:
      low = self.low(features[4])
      x = torch.cat([bilinear(x, low.shape[2:], True), low], 1)
    return self.classifier[1:](x)


class TorchPSPNet(nn.Module):
  """PSPNet without its auxiliary head and without dropout.

  Args:
    backbone: Backbone that knows its `channels` at a stride of 32.
    classes: Channels of the head.
    bins: Number of cells of each grid along both sides.
    features: Channels of each grid and of the convolution that joins them.
  """

  def __init__(
    self, backbone: nn.Module, classes: int, bins: Sequence[int] = (1, 2, 3, 6), features: int = 512
  ):
    super().__init__()
    self.backbone, wide = backbone, backbone.channels[32]
    self.pools = nn.ModuleDict({f"pool{count}": layer(wide, features) for count in bins})
    self.fuse = layer(wide + len(bins) * features, features, 3)
    self.add_module(HEAD, nn.Conv2d(features, classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at the backbone's stride."""
    x = self.backbone(x)[32]
    pooled = [
      bilinear(pool(F.adaptive_avg_pool2d(x, int(name[4:]))), x.shape[2:], True)
      for name, pool in self.pools.items()
    ]
    return self.get_submodule(HEAD)(self.fuse(torch.cat([x, *pooled], 1)))


class TorchFCN(nn.Module):
  """FCN-32s, FCN-16s and FCN-8s.

  Args:
    backbone: Backbone that knows its `channels` at the strides of 8, 16 and 32.
    classes: Channels of the head.
    stride: Stride of the finest features that are scored.
  """

  def __init__(self, backbone: nn.Module, classes: int, stride: int = 8):
    super().__init__()
    self.backbone, self.strides = backbone, [skip for skip in (16, 8) if skip >= stride]
    self.add_module(HEAD, nn.Conv2d(backbone.channels[32], classes, 1))
    for skip in self.strides:
      self.add_module(f"{HEAD}_{skip}", nn.Conv2d(backbone.channels[skip], classes, 1))
      double = nn.ConvTranspose2d(classes, classes, 4, 2, 1, bias=False)
      self.add_module(f"{HEAD}_up{skip}", double)

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at `stride`, or at that of a dilated backbone."""
    features = self.backbone(x)
    score = self.get_submodule(HEAD)(features[32])
    for stride in self.strides:
      x = self.get_submodule(f"{HEAD}_{stride}")(features[stride])
      score = self.get_submodule(f"{HEAD}_up{stride}")(score)
      score = score[..., : x.shape[2], : x.shape[3]] + x
    return score


class TorchUNet(nn.Module):
  """U-Net with one convolution a level on the way down.

  Args:
    classes: Channels of the head.
    widths: Channels of each level.
    stride: Stride of the first level.
    down_kernel: Side of the kernels with a stride.
    convs: Number of convolutions a level on the way up.
    join: Number of those that come before the skip is joined.
    head_kernel: Side of the kernel of the head.
  """

  def __init__(
    self,
    classes: int,
    widths: Sequence[int] = (32, 64, 128, 256),
    stride: int = 1,
    down_kernel: int = 3,
    convs: int = 1,
    join: int = 0,
    head_kernel: int = 1,
  ):
    super().__init__()
    pairs, self.join = list(zip((3, *widths), widths, strict=False)), join
    self.down, self.up = nn.ModuleList(), nn.ModuleList()
    for i, (before, after) in enumerate(pairs):
      by = 2 if i else stride
      self.down.append(layer(before, after, down_kernel if by > 1 else 3, by))
    for skip, below in pairs[1:]:
      inputs = [below if j == 0 else skip for j in range(convs)]
      inputs[join] += skip
      self.up.append(nn.ModuleList(layer(before, skip, 3) for before in inputs))
    self.add_module(HEAD, nn.Conv2d(widths[0], classes, head_kernel, 1, head_kernel // 2))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at the first level's stride."""
    skips = []
    for down in self.down:
      x = down(x)
      skips.append(x)
    for up, skip in reversed(list(zip(self.up, skips, strict=False))):
      for j, conv in enumerate(up):
        if j == self.join:
          x = torch.cat([bilinear(x, skip.shape[2:]), skip], 1)
        x = conv(x)
    return self.get_submodule(HEAD)(x)


class TorchDeepLabV2(nn.Module):
  """DeepLab v2: the sum of atrous convolutions.

  Args:
    backbone: Backbone that knows its `channels` at a stride of 32.
    classes: Channels of the heads.
    rates: Dilations of the convolutions.
  """

  def __init__(self, backbone: nn.Module, classes: int, rates: Sequence[int] = (6, 12, 18, 24)):
    super().__init__()
    self.backbone = backbone
    self.heads = nn.ModuleDict(
      {f"rate{rate}": nn.Conv2d(backbone.channels[32], classes, 3, 1, rate, rate) for rate in rates}
    )

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at the backbone's stride."""
    x = self.backbone(x)[32]
    return sum(head(x) for head in self.heads.values())


class TorchDilated(nn.Module):
  """Dilated8: the scores of a VGG-16, and the basic context module on them.

  Args:
    backbone: Backbone that knows its `channels` at a stride of 32.
    classes: Channels of the scores and of the module.
  """

  def __init__(self, backbone: nn.Module, classes: int):
    super().__init__()
    self.backbone = backbone
    self.add_module(HEAD, nn.Conv2d(backbone.channels[32], classes, 1))
    layers = []
    for rate in (1, 1, 2, 4, 8, 16, 1):
      layers += [nn.Conv2d(classes, classes, 3, 1, rate, rate), nn.ReLU(inplace=True)]
    self.context = nn.Sequential(*layers, nn.Conv2d(classes, classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at the backbone's stride."""
    return self.context(self.get_submodule(HEAD)(self.backbone(x)[32]))


class TorchFCRN(nn.Module):
  """The fully convolutional residual network, without dropout.

  Args:
    backbone: ResNet that knows its `channels` at a stride of 32.
    classes: Channels of the head.
    width: Channels of the last up-projection.
  """

  def __init__(self, backbone: nn.Module, classes: int, width: int = 64):
    super().__init__()
    self.backbone = backbone
    self.reduce = layer(backbone.channels[32], 16 * width, activation=None)
    self.up = nn.Sequential(*(TorchUpProjection(width * 2**i) for i in (3, 2, 1, 0)))
    self.add_module(HEAD, nn.Conv2d(width, classes, 3, 1, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at half of the image's size."""
    h, w = (-(-side // 2) for side in x.shape[2:])
    x = self.up(self.reduce(self.backbone(x)[32]))
    return self.get_submodule(HEAD)(x[..., :h, :w])


class TorchUpProjection(nn.Module):
  """Unpooling and 5x5 convolutions, those of both branches as one, and a 3x3 convolution.

  Unpooling among zeros and convolving is what a transposed convolution does.
  """

  def __init__(self, features: int):
    super().__init__()
    self.conv1 = nn.ConvTranspose2d(2 * features, 2 * features, 5, 2, 2, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(2 * features)
    self.conv2 = layer(features, features, 3, activation=None)

  def forward(self, x: Tensor) -> Tensor:
    """Computes half as many features at twice the size."""
    x, projected = self.bn1(self.conv1(x)).chunk(2, 1)
    return F.relu(self.conv2(F.relu(x)) + projected, inplace=True)


class TorchFarabet(nn.Module):
  """Farabet et al.'s network on a Laplacian pyramid.

  Args:
    classes: Channels of the head.
    masks: For each convolution (7, 7, inputs, filters): 1 where a filter has an input, else 0.
    scales: Number of levels of the pyramid.
    hidden: Channels of the classifier's hidden layer.
  """

  def __init__(
    self, classes: int, masks: Sequence[np.ndarray], scales: int = 3, hidden: int = 1024
  ):
    super().__init__()
    self.scales = scales
    pool = lambda: nn.MaxPool2d(2, ceil_mode=True)
    modules = [module for mask in masks for module in (pool(), MaskedConv2d(mask), nn.Tanh())]
    self.convs = nn.Sequential(*modules[1:])
    self.hidden = nn.Conv2d(scales * masks[-1].shape[-1], hidden, 1)
    self.add_module(HEAD, nn.Conv2d(hidden, classes, 1))
    yuv = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    self.register_buffer("yuv", yuv[..., None, None], persistent=False)
    self.register_buffer("taps", taps.outer(taps).repeat(3, 1, 1, 1), persistent=False)

  def forward(self, x: Tensor) -> Tensor:
    """Computes logits at a quarter of the image's size."""
    levels = self._pyramid(F.conv2d(x, self.yuv))
    finest, *coarser = (self.convs(normalize_locally(level)) for level in levels)
    x = torch.cat([finest, *(bilinear(x, finest.shape[2:]) for x in coarser)], 1)
    return self.get_submodule(HEAD)(torch.tanh(self.hidden(x)))

  def _pyramid(self, x: Tensor) -> list[Tensor]:
    """Splits an image into bands of spatial frequencies, finest first."""
    bands = []
    for _ in range(self.scales - 1):
      half = F.conv2d(F.pad(x, (2, 2, 2, 2), "replicate"), self.taps, stride=2, groups=3)
      bands.append(x - bilinear(half, x.shape[2:]))
      x = half
    return [*bands, x]


class MaskedConv2d(nn.Conv2d):
  """7x7 convolution whose filters are connected to some of the inputs."""

  def __init__(self, mask: np.ndarray):
    super().__init__(*mask.shape[2:], 7, 1, 3)
    mask = torch.from_numpy(np.ascontiguousarray(mask.transpose(3, 2, 0, 1)))
    self.register_buffer("mask", mask, persistent=False)

  def forward(self, x: Tensor) -> Tensor:
    """Computes features of the same size."""
    return F.conv2d(x, self.weight * self.mask, self.bias, padding=3)


def normalize_locally(x: Tensor) -> Tensor:
  """Subtracts each channel's mean in a window, and divides by its deviation, bounded below."""
  x = x - _window_means(x)
  deviation = torch.sqrt(_window_means(x.square()) + 1e-8)
  return x / torch.maximum(deviation, deviation.mean((2, 3), keepdim=True))


def _window_means(x: Tensor) -> Tensor:
  """Averages the 15 x 15 pixels around each, axis by axis, of those within the image."""
  x = F.avg_pool2d(x, (15, 1), 1, (7, 0), count_include_pad=False)
  return F.avg_pool2d(x, (1, 15), 1, (0, 7), count_include_pad=False)
