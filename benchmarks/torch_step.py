"""The released scheme of adversarial structure matching in PyTorch: one half of `step.py`.

The released code (Hwang et al. 2019) runs the analyzer three times a step: on the truth, on the
detached prediction for the analyzer's loss, and on the prediction for the predictor's loss; each
player has a backward pass of its own. Here that is written as well as PyTorch allows: only the
layers that a loss needs are run, only the gradients that an optimizer needs are computed, tensors
are channels-last and Adam is fused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asmjax.losses.matching import EPSILON
from asmjax.terms import Structure
from asmjax.terms.weight import evaluate_weight
from asmjax.train.optim import Optimizer

_MEAN = torch.tensor((0.485, 0.456, 0.406)).reshape(1, 3, 1, 1) * 255
_STD = torch.tensor((0.229, 0.224, 0.225)).reshape(1, 3, 1, 1) * 255


class UNet(nn.Module):
  """`asmjax.models.predictors.UNet` with one convolution a level and batch norm, layer by layer.

  Args:
    widths: channels by level.
    stride: of the first level.
    classes: channels of the head.
  """

  def __init__(self, widths: tuple[int, ...], stride: int, classes: int):
    """Layers under the names of the JAX module."""
    super().__init__()
    self.levels = len(widths)
    before = 3
    for i, width in enumerate(widths):
      self._add(f"down{i + 1}_1", before, width, stride if i == 0 else 2)
      before = width
    for i in reversed(range(self.levels - 1)):
      self._add(f"up{i + 1}_1", widths[i + 1] + widths[i], widths[i], 1)
    self.add_module("head_segmentation", nn.Conv2d(widths[0], classes, 1))

  def forward(self, x: Tensor) -> Tensor:
    """Logits at 1/stride of the image's size."""
    skips = []
    for i in range(self.levels):
      x = self._conv(x, f"down{i + 1}_1")
      skips.append(x)
    for i in reversed(range(self.levels - 1)):
      x = self._conv(torch.cat([_bilinear(x, skips[i].shape[2:]), skips[i]], 1), f"up{i + 1}_1")
    return self.head_segmentation(x)

  def _add(self, name: str, before: int, width: int, stride: int) -> None:
    self.add_module(name, nn.Conv2d(before, width, 3, stride, padding=1, bias=False))
    self.add_module(f"{name}_norm", nn.BatchNorm2d(width, eps=1e-5, momentum=0.01))

  def _conv(self, x: Tensor, name: str) -> Tensor:
    return F.relu(getattr(self, f"{name}_norm")(getattr(self, name)(x)))


class StructureAutoencoder(nn.Module):
  """`asmjax.models.critics.autoencoder.StructureAutoencoder`, layer by layer.

  Args:
    filters: of the stride-2 convolutions on the way down.
    classes: channels of the structure.
  """

  def __init__(self, filters: tuple[int, ...], classes: int):
    """Layers under the names of the JAX module."""
    super().__init__()
    self.levels = len(filters)
    before = classes
    for i, width in enumerate(filters):
      self.add_module(f"conv{i + 1}", nn.Conv2d(before, width, 3, 2, padding=1))
      before = width
    for i, width in enumerate(filters[-2::-1]):
      self.add_module(f"conv{self.levels + i + 1}", nn.Conv2d(before, width, 3, padding=1))
      before = 2 * width
    self.reconstruction = nn.Conv2d(before, classes, 1)

  def features(self, structure: Tensor, depth: int) -> dict[str, Tensor]:
    """The first `depth` layers of the way down, before their ReLU."""
    taps, x = {}, structure
    for i in range(depth):
      x = taps[f"conv{i + 1}"] = getattr(self, f"conv{i + 1}")(x)
      x = F.relu(x)
    return taps

  def forward(self, structure: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The whole way down, and the reconstruction at the input's size."""
    taps = self.features(structure, self.levels)
    skips = [F.relu(tap) for tap in taps.values()]
    x = skips.pop()
    for i, skip in enumerate(reversed(skips)):
      x = F.relu(getattr(self, f"conv{self.levels + i + 1}")(x))
      x = torch.cat([_bilinear(x, skip.shape[2:]), skip], 1)
    return taps, _bilinear(self.reconstruction(x), structure.shape[2:])


class ReleasedStep:
  """The step: three analyzer passes, two backward passes, two updates.

  Args:
    term: the preset.
    predictor: with the weights to start from.
    critic: likewise.
    optimizers: settings of both players' Adam, by "predictor" and "structure".
    steps: of the whole run, T.
    batch: `image` uint8 (n, h, w, 3) and `label` int32 (n, h, w).
  """

  def __init__(
    self,
    term: Structure,
    predictor: UNet,
    critic: StructureAutoencoder,
    optimizers: Mapping[str, Optimizer],
    steps: int,
    batch: Mapping[str, np.ndarray],
  ):
    """Brings networks and batch into channels-last memory."""
    self.term, self.steps, self.step = term, steps, 0
    nets = {"predictor": predictor, "structure": critic}
    self.nets = {k: net.to(memory_format=torch.channels_last) for k, net in nets.items()}
    self.optimizers = optimizers
    self.adams = {name: _adam(net, optimizers[name]) for name, net in self.nets.items()}
    self.schedules = [
      torch.optim.lr_scheduler.PolynomialLR(adam, steps, optimizers[name].power)
      for name, adam in self.adams.items()
    ]
    self.image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
    self.label = torch.from_numpy(batch["label"].astype(np.int64))
    # Features are needed as deep as the deepest layer of V; V taps the way down only.
    self.depth = max(int(layer.removeprefix("conv")) for layer in term.layers)

  def __call__(self) -> None:
    """One training step on the batch."""
    self.differentiate()
    for name, net in self.nets.items():
      if self.optimizers[name].clip_norm:
        nn.utils.clip_grad_norm_(net.parameters(), self.optimizers[name].clip_norm)
    for move in (*self.adams.values(), *self.schedules):
      move.step()
    self.step += 1

  def differentiate(self) -> dict[str, Any]:
    """Fills both players' gradients; returns logits, the prediction's features and V."""
    term, (predictor, critic) = self.term, self.nets.values()
    for adam in self.adams.values():
      adam.zero_grad()
    logits = predictor((self.image.float() - _MEAN) / _STD)
    label, valid = self._truth(logits)
    true = F.one_hot(label.clamp(max=logits.shape[1] - 1), logits.shape[1])
    true = true.permute(0, 3, 1, 2).float() * valid
    predicted = F.softmax(logits, 1) * valid

    features, rebuilt = critic(true)
    climbed = predicted.detach()
    if term.binarize:
      climbed = F.one_hot(logits.argmax(1), logits.shape[1]).permute(0, 3, 1, 2).float() * valid
    seen = critic.features(climbed, self.depth)
    rec = F.cross_entropy(rebuilt, label, ignore_index=255)
    loss = self._climbed(seen, features, valid) + term.reconstruction_weight * rec
    loss.backward(inputs=list(critic.parameters()))

    shown = critic.features(predicted, self.depth)
    frozen = {layer: features[layer].detach() for layer in term.layers}
    value = sum(self._means(shown, frozen, valid, lambda distance: distance))
    (float(evaluate_weight(term.weight, self.step / self.steps)) * value).backward(
      inputs=list(predictor.parameters())
    )
    return {"logits": logits, "features": shown, "value": value}

  def _truth(self, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The label at the output's size, and 1 where it is a class (n, 1, h, w)."""
    label = F.interpolate(self.label[:, None].float(), logits.shape[2:], mode="nearest-exact")
    return label[:, 0].long(), (label < logits.shape[1]).float()

  def _climbed(self, seen: Mapping[str, Tensor], true: Mapping[str, Tensor], valid: Tensor):
    """What the analyzer descends besides the reconstruction: minus V, or the hinge."""
    margin = self.term.margin
    climb = (lambda distance: F.relu(margin - distance)) if margin else torch.neg
    weight = float(evaluate_weight(self.term.critic_weight, self.step / self.steps))
    return weight * sum(self._means(seen, true, valid, climb))

  def _means(self, seen: Mapping[str, Tensor], true: Mapping[str, Tensor], valid: Tensor, of):
    """The mean of `of(distance)` over the valid features, by layer."""
    for layer in self.term.layers:
      a, b = seen[layer], true[layer]
      if self.term.normalize == "pixel":
        distance = (_unit(a) - _unit(b)).square().sum(1, keepdim=True)
      else:
        distance = (a - b).square().sum(1, keepdim=True) / 2
      counts = _pool_mask(valid, a.shape[2:], self.term.count_partial_cells)
      yield (of(distance) * counts).sum() / counts.sum().clamp(min=1)


def load(net: nn.Module, params: Mapping[str, Mapping[str, Any]]) -> None:
  """Copies the parameters of the JAX module whose layers have the same names."""
  for name, layer in params.items():
    for key, value in layer.items():
      target = getattr(getattr(net, name), _NAMES[key])
      target.data.copy_(torch.from_numpy(_to_torch(np.array(value))))


def gradients(net: nn.Module, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """The gradients of `net`, in the names and layout of the JAX parameters."""
  return {
    name: {key: _to_jax(getattr(getattr(net, name), _NAMES[key]).grad.numpy()) for key in layer}
    for name, layer in params.items()
  }


def nhwc(x: Tensor) -> np.ndarray:
  """An activation in JAX's layout."""
  return x.detach().permute(0, 2, 3, 1).numpy()


_NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def _to_torch(value: np.ndarray) -> np.ndarray:
  return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def _to_jax(value: np.ndarray) -> np.ndarray:
  return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


def _adam(net: nn.Module, optimizer: Optimizer) -> torch.optim.Adam:
  """Adam with the L2 penalty on kernels only."""
  if optimizer.name != "adam" or optimizer.schedule != "poly" or optimizer.warmup_steps:
    raise ValueError(f"the PyTorch side knows Adam with a poly schedule only, not {optimizer}")
  groups = [
    {"params": list(_parameters(net, kernels=True)), "weight_decay": optimizer.weight_decay},
    {"params": list(_parameters(net, kernels=False)), "weight_decay": 0.0},
  ]
  betas = (optimizer.momentum, optimizer.b2)
  return torch.optim.Adam(groups, optimizer.learning_rate, betas, fused=True)


def _parameters(net: nn.Module, *, kernels: bool) -> Iterable[nn.Parameter]:
  return (parameter for parameter in net.parameters() if (parameter.ndim == 4) == kernels)


def _bilinear(x: Tensor, size: Iterable[int]) -> Tensor:
  return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _unit(x: Tensor) -> Tensor:
  return x * x.square().sum(1, keepdim=True).clamp(min=EPSILON).rsqrt()


def _pool_mask(valid: Tensor, size: Iterable[int], count_partial_cells: bool) -> Tensor:
  """See `asmjax.losses.matching.pool_mask`."""
  stride, pads = [], []
  for big, small in zip(valid.shape[2:], size, strict=True):
    stride.append(-(-big // small))
    lack = stride[-1] * small - big
    pads = [lack // 2, lack - lack // 2, *pads]
  if count_partial_cells:
    return F.max_pool2d(F.pad(valid, pads), stride)
  return -F.max_pool2d(-F.pad(valid, pads, value=1.0), stride)
