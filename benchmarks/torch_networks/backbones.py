"""Backbones, under the names of torchvision's state dicts as far as it has them."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_networks.layers import layer

VGG16 = (2, 2, 3, 3, 3)
# Expansion, channels, number and first stride of MobileNetV2's blocks.
V2_BLOCKS = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
# Channels of Xception's modules, and the strides of their last convolutions; after its entry flow
# it has a number of modules of the middle flow.
ENTRY = (((128,) * 3, 2), ((256,) * 3, 2), ((728,) * 3, 2))
MIDDLE = ((728,) * 3, 1)
EXIT = (((728, 1024, 1024), 2), ((1536, 1536, 2048), 1))


class Strides:
  """Gives up strides for dilation, like torchvision's `replace_stride_with_dilation`.

  Args:
    output: Largest stride of a map.
  """

  def __init__(self, output: int):
    self.output, self.reached, self.dilation = output, 1, 1

  def __call__(self, stride: int) -> tuple[int, int]:
    """Returns the stride and the dilation of the next layer, whose published stride is `stride`."""
    dilation = self.dilation
    if self.reached * stride > self.output:
      self.dilation *= stride
      return 1, dilation
    self.reached *= stride
    return stride, dilation


class TorchBottleneck(nn.Module):
  """The block of ResNet v1.5, whose 3x3 convolution has the stride, or of v1, whose first has."""

  def __init__(self, before: int, width: int, stride: int, dilation: int, first: bool):
    super().__init__()
    strides = (stride, 1) if first else (1, stride)
    self.conv1 = nn.Conv2d(before, width, 1, strides[0], bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, strides[1], dilation, dilation, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * width)
    self.downsample = None
    if before != 4 * width:
      self.downsample = layer(before, 4 * width, stride=stride, activation=None)

  def forward(self, x: Tensor) -> Tensor:
    """Computes features at 1/stride of the size."""
    y = F.relu(self.bn1(self.conv1(x)), inplace=True)
    y = F.relu(self.bn2(self.conv2(y)), inplace=True)
    y = self.bn3(self.conv3(y))
    return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class TorchResNet(nn.Module):
  """ResNet v1.5 (torchvision's `resnet50` and `resnet101`) without its classifier.

  Args:
    blocks: Number of bottlenecks of each stage.
    width: Channels of the stem.
    output_stride: Stride of the last features: 32, 16 or 8.
    first: Whether the first convolutions of bottlenecks have the strides, as in v1.
  """

  def __init__(
    self, blocks: Sequence[int], width: int = 64, output_stride: int = 32, first: bool = False
  ):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    # The stem and its pool have a stride of 4.
    strides, before = Strides(output_stride // 4), width
    for i, count in enumerate(blocks):
      stage = []
      for j in range(count):
        stride, dilation = strides(2 if i and not j else 1)
        stage.append(TorchBottleneck(before, width * 2**i, stride, dilation, first))
        before = 4 * width * 2**i
      self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
    self.channels = {4: 4 * width, 32: before}

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Computes the features of each nominal stride, 2 to 32."""
    features = {2: F.relu(self.bn1(self.conv1(x)), inplace=True)}
    x = F.max_pool2d(features[2], 3, 2, 1)
    for i, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
      x = features[4 * 2**i] = stage(x)
    return features


class TorchMobileNetV2(nn.Module):
  """torchvision's `mobilenet_v2` without its classifier, with `top=False` without its last layer.

  Args:
    output_stride: Stride of the last features: 32, 16 or 8.
    top: Whether the network ends in the convolution to 1280 channels.
  """

  def __init__(self, output_stride: int = 32, top: bool = True):
    super().__init__()
    strides, nominal, before = Strides(output_stride), 2, 32
    layers = [layer(3, 32, 3, strides(2)[0], activation=nn.ReLU6)]
    self.last, self.channels = {2: 0}, {}
    for expansion, channels, count, first in V2_BLOCKS:
      for j in range(count):
        nominal *= 1 if j else first
        layers.append(
          TorchInvertedResidual(before, channels, expansion, *strides(1 if j else first))
        )
        self.last[nominal], self.channels[nominal], before = len(layers) - 1, channels, channels
    if top:
      self.last[32], self.channels[32] = len(layers), 1280
      layers.append(layer(before, 1280, activation=nn.ReLU6))
    self.features = nn.Sequential(*layers)

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Computes the features of each nominal stride, 2 to 32."""
    maps = []
    for module in self.features:
      x = module(x)
      maps.append(x)
    return {stride: maps[i] for stride, i in self.last.items()}


class TorchInvertedResidual(nn.Module):
  """Expansion, depthwise convolution and linear projection."""

  def __init__(self, before: int, after: int, expansion: int, stride: int, dilation: int):
    super().__init__()
    wide, self.adds = before * expansion, stride == 1 and before == after
    project = layer(wide, after, activation=None)
    self.conv = nn.Sequential(
      *([layer(before, wide, activation=nn.ReLU6)] if expansion > 1 else []),
      layer(wide, wide, 3, stride, dilation, wide, nn.ReLU6),
      *project,
    )

  def forward(self, x: Tensor) -> Tensor:
    """Computes features at 1/stride of the size."""
    return x + self.conv(x) if self.adds else self.conv(x)


class TorchVGG(nn.Module):
  """torchvision's `vgg16` and `vgg16_bn` without the last layer, pools rounding sizes up.

  Args:
    width: Channels of the first stage.
    fc_features: Channels of the fully connected layers, applied as convolutions; 0 leaves them out.
    norm: Whether batch norm follows each convolution.
    output_stride: Stride of the last features: 32, 16 or 8.
  """

  def __init__(
    self, width: int = 64, fc_features: int = 0, norm: bool = False, output_stride: int = 32
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
    if fc_features:
      self.dilation, self.channels[32] = strides.dilation, fc_features
      self.classifier = nn.Sequential(
        nn.Linear(before * 49, fc_features),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(fc_features, fc_features),
        nn.ReLU(inplace=True),
        nn.Dropout(),
      )

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Computes the pooled maps of each nominal stride, 2 to 32."""
    features, start = {}, 0
    for stride, end in self.ends.items():
      for module in self.features[start:end]:
        x = module(x)
      features[stride], start = x, end
    if self.classifier is not None:
      features[32] = self._fully_connect(x)
    return features

  def _fully_connect(self, x: Tensor) -> Tensor:
    for module in self.classifier:
      if isinstance(module, nn.Linear):
        side = 1 if x.shape[1] == module.in_features else 7
        weight = module.weight.view(module.out_features, x.shape[1], side, side)
        x = F.conv2d(x, weight, module.bias, 1, side // 2 * self.dilation, self.dilation)
      else:
        x = module(x)
    return x


class TorchXception(nn.Module):
  """Xception as modified for DeepLab v3+, without its classifier.

  Args:
    middle: Number of modules of the middle flow.
    width: Factor on all numbers of channels, rounded down.
    output_stride: Stride of the last features: 32, 16 or 8.
  """

  def __init__(self, middle: int = 16, width: float = 1.0, output_stride: int = 32):
    super().__init__()
    scaled = lambda *channels: [int(width * count) for count in channels]
    strides, (stem, before) = Strides(output_stride), scaled(32, 64)
    self.stem = nn.Sequential(layer(3, stem, 3, strides(2)[0]), layer(stem, before, 3))
    self.stages = nn.ModuleList()
    for channels, stride in (*ENTRY, *[MIDDLE] * middle, *EXIT):
      shape = before, scaled(*channels), *strides(stride)
      self.stages.append(TorchXceptionModule(*shape, residual=len(self.stages) < middle + 4))
      before = shape[1][-1]
    self.channels = {4: self.stages[1].channels, 32: before}

  def forward(self, x: Tensor) -> dict[int, Tensor]:
    """Computes the features of nominal stride 4, from within a module, and 32."""
    x, features = self.stem(x), {}
    for i, stage in enumerate(self.stages):
      inner, x = stage(x)
      if i == 1:
        features[4] = inner
    return features | {32: x}


class TorchXceptionModule(nn.Module):
  """Three separable convolutions, each after a ReLU if residual, or else with ReLUs within."""

  def __init__(
    self, before: int, channels: Sequence[int], stride: int, dilation: int, residual: bool
  ):
    super().__init__()
    self.residual, self.channels, self.shortcut = residual, channels[1], None
    if residual and before != channels[-1]:
      self.shortcut = layer(before, channels[-1], stride=stride, activation=None)
    activation, self.convs = None if residual else nn.ReLU, nn.ModuleList()
    for i, after in enumerate(channels):
      self.convs.append(
        nn.Sequential(
          layer(before, before, 3, stride if i == 2 else 1, dilation, before, activation),
          layer(before, after, activation=activation),
        )
      )
      before = after

  def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    """Computes features before the last convolution, and the module's at 1/stride of the size."""
    if not self.residual:
      inner = self.convs[1](self.convs[0](x))
      return inner, self.convs[2](inner)
    # Only arrays without another use may be overwritten.
    inner = self.convs[1](F.relu(self.convs[0](F.relu(x)), inplace=True))
    y = self.convs[2](F.relu(inner))
    return inner, y + (x if self.shortcut is None else self.shortcut(x))
