"""Layers that the networks share."""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn


def layer(
  before: int,
  features: int,
  kernel: int = 1,
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
  activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
  """Creates a convolution without a bias, batch norm and activation; padding keeps the size."""
  padding, make = (kernel - 1) // 2 * dilation, nn.Conv2d if kernel % 2 else EvenConv2d
  conv = make(before, features, kernel, stride, padding, dilation, groups=groups, bias=False)
  last = [] if activation is None else [activation(inplace=True)]
  return nn.Sequential(conv, nn.BatchNorm2d(features), *last)


class EvenConv2d(nn.Conv2d):
  """A 4x4 convolution of stride 2 with a pixel of padding, so that sizes are rounded up."""

  def forward(self, x: Tensor) -> Tensor:
    """Computes features at half of the size."""
    h, w = x.shape[2:]
    return super().forward(F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x)


def conv3x3(before: int, features: int, dilation: int, separable: bool) -> list[nn.Module]:
  """Creates a 3x3 convolution, or a depthwise and a 1x1 one, with batch norm and ReLU."""
  if not separable:
    return [*layer(before, features, 3, 1, dilation)]
  return [*layer(before, before, 3, 1, dilation, before), *layer(before, features)]


def bilinear(x: Tensor, size: Iterable[int], align_corners: bool = False) -> Tensor:
  """Resizes bilinearly with half-pixel centers, or with aligned corners."""
  return F.interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)
