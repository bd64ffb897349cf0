"""Networks in PyTorch with the structure and the names that torchvision gives them, made tiny."""

import torch
from torch import nn

CLASSES = 3


def vgg(width, *, batch_norm):
  """VGG-16's `features`."""
  layers, channels = [], 3
  for i, count in enumerate((2, 2, 3, 3, 3)):
    for _ in range(count):
      wide = width * 2 ** min(i, 3)
      layers += [nn.Conv2d(channels, wide, 3, padding=1)]
      layers += [nn.BatchNorm2d(wide)] if batch_norm else []
      layers += [nn.ReLU()]
      channels = wide
    layers += [nn.MaxPool2d(2)]
  return nn.Sequential(*layers)


class Bottleneck(nn.Module):
  def __init__(self, channels, width, stride, dilation, downsample):
    super().__init__()
    wide = 4 * width
    self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3, self.bn3 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
    if downsample:
      self.downsample = nn.Sequential(
        nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
      )

  def forward(self, x):
    y = torch.relu(self.bn1(self.conv1(x)))
    y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
    return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
  """Stages 3 and 4 keep the size, as in torchvision's DeepLab, if `dilated`."""

  def __init__(self, blocks, width, *, dilated=False):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1, self.stages = nn.BatchNorm2d(width), len(blocks)
    channels, dilation = width, 1
    for i, count in enumerate(blocks):
      stage, stride = [], 2 if i else 1
      before = dilation
      if dilated and i >= 2:
        dilation, stride = dilation * stride, 1
      for j in range(count):
        first = j == 0
        stage.append(Bottleneck(
          channels, width * 2**i, stride if first else 1, before if first else dilation, first
        ))
        channels = 4 * width * 2**i
      setattr(self, f"layer{i + 1}", nn.Sequential(*stage))

  def forward(self, x):
    x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
    for i in range(self.stages):
      x = getattr(self, f"layer{i + 1}")(x)
    return x


def _layer(channels, features, kernel, dilation=1):
  padding = dilation * (kernel // 2)
  conv = nn.Conv2d(channels, features, kernel, 1, padding, dilation, bias=False)
  return conv, nn.BatchNorm2d(features), nn.ReLU()


class Pyramid(nn.Module):
  def __init__(self, channels, features, rates):
    super().__init__()
    self.convs = nn.ModuleList([
      nn.Sequential(*_layer(channels, features, 1)),
      *(nn.Sequential(*_layer(channels, features, 3, rate)) for rate in rates),
      nn.Sequential(nn.AdaptiveAvgPool2d(1), *_layer(channels, features, 1)),
    ])
    self.project = nn.Sequential(*_layer((2 + len(rates)) * features, features, 1))

  def forward(self, x):
    maps = [branch(x) for branch in self.convs]
    maps[-1] = maps[-1].expand_as(maps[0])
    return self.project(torch.cat(maps, 1))


class DeepLab(nn.Module):
  def __init__(self, blocks, width, features, rates):
    super().__init__()
    self.backbone = ResNet(blocks, width, dilated=True)
    self.classifier = nn.Sequential(
      Pyramid(32 * width, features, rates), *_layer(features, features, 3),
      nn.Conv2d(features, CLASSES, 1),
    )

  def forward(self, x):
    return self.classifier(self.backbone(x))


def random(network, seed=0):
  """The network with statistics and biases that matter, in evaluation."""
  generator = torch.Generator().manual_seed(seed)
  for name, x in network.state_dict().items():
    if name.endswith("running_var") or (name.endswith("weight") and x.ndim == 1):
      x.uniform_(0.5, 1.5, generator=generator)
    elif x.ndim > 1:
      x.normal_(0, (2 / x[0].numel()) ** 0.5, generator=generator)
    elif x.is_floating_point():
      x.normal_(0, 0.3, generator=generator)
  return network.eval()


def evaluated(network, x):
  """The output for an image (n, h, w, c), laid out like that too."""
  with torch.no_grad():
    return network(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()


def arrays(network, prefix=""):
  """The state_dict as arrays."""
  return {prefix + name: x.numpy() for name, x in network.state_dict().items()}
