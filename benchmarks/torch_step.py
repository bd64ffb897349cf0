"""The released scheme of adversarial structure matching in PyTorch: one half of `step.py`.

The released code (Hwang et al. 2019) runs the analyzer three times a step: on the truth, on the
detached prediction for the analyzer's loss, and on the prediction for the predictor's loss; each
player has a backward pass of its own. Here that is written as well as PyTorch allows: only the
layers that a loss needs are run, only the gradients that an optimizer needs are computed, tensors
are channels-last and Adam is fused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asmjax.game import PREDICTOR
from asmjax.losses.matching import EPSILON
from asmjax.pretrained.names import NameMap, torch_conv
from asmjax.terms.weight import evaluate_weight
from asmjax.train.optim import Optimizer
from asmjax.utils.trees import join_path, leaves_by_path
from benchmarks.step_setting import CRITIC, Setting
from benchmarks.torch_maps import benchmark_map
from benchmarks.torch_networks.arrays import nhwc
from benchmarks.torch_networks.layers import bilinear
from benchmarks.torch_networks.predictors import TorchUNet

_MEAN = torch.tensor((0.485, 0.456, 0.406)).reshape(1, 3, 1, 1) * 255
_STD = torch.tensor((0.229, 0.224, 0.225)).reshape(1, 3, 1, 1) * 255


class TorchStructureAutoencoder(nn.Module):
  """`asmjax.models.critics.autoencoder.StructureAutoencoder`, layer by layer.

  Args:
    filters: Channels of the stride-2 convolutions on the way down.
    classes: Channels of the structure.
  """

  def __init__(self, filters: tuple[int, ...], classes: int):
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
    """Computes the first `depth` layers of the way down, before their ReLU."""
    taps, x = {}, structure
    for i in range(depth):
      x = taps[f"conv{i + 1}"] = getattr(self, f"conv{i + 1}")(x)
      x = F.relu(x)
    return taps

  def forward(self, structure: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Computes all layers of the way down, and the reconstruction at the input's size."""
    taps = self.features(structure, self.levels)
    skips = [F.relu(tap) for tap in taps.values()]
    x = skips.pop()
    for i, skip in enumerate(reversed(skips)):
      x = F.relu(getattr(self, f"conv{self.levels + i + 1}")(x))
      x = torch.cat([bilinear(x, skip.shape[2:]), skip], 1)
    return taps, bilinear(self.reconstruction(x), structure.shape[2:])


class ReleasedStep:
  """The step: three analyzer passes, two backward passes, two updates.

  Args:
    setting: Networks, losses, optimizers and the batch.
    params: Parameters to start from, by player.
    device: Device to compute on.
    compiled: Whether the networks go through `torch.compile`; without CUDA graphs, whose second
      pass of the analyzer would overwrite the features of the first.
  """

  def __init__(
    self,
    setting: Setting,
    params: Mapping[str, Any],
    device: str = "cpu",
    *,
    compiled: bool = False,
  ):
    self.term, self.steps, self.step, self.params = setting.term, setting.steps, 0, params
    classes, unet = setting.task.channels, setting.game.predictor
    widths = tuple(min(unet.width * 2**i, unet.max_width) for i in range(unet.levels))
    nets = {
      PREDICTOR: TorchUNet(classes, widths, unet.stride),
      CRITIC: TorchStructureAutoencoder(setting.term.critic.filters, classes),
    }
    self.name_maps = {PREDICTOR: benchmark_map(unet), CRITIC: {}}
    for layer in params[CRITIC]:
      self.name_maps[CRITIC] |= torch_conv(layer, layer, bias=True)
    for name, net in nets.items():
      load(net, params[name], self.name_maps[name])
    self.nets = {k: net.to(device, memory_format=torch.channels_last) for k, net in nets.items()}
    predictor, critic = self.nets.values()
    prepare = torch.compile if compiled else lambda function: function
    self._predict, self._analyze = prepare(predictor), prepare(critic)
    self._find_features = prepare(critic.features)
    self.optimizers = setting.optimizers
    self.adams = {name: _adam(net, self.optimizers[name]) for name, net in self.nets.items()}
    self.schedules = [
      torch.optim.lr_scheduler.PolynomialLR(adam, self.steps, self.optimizers[name].power)
      for name, adam in self.adams.items()
    ]
    self.image = torch.from_numpy(setting.batch["image"]).permute(0, 3, 1, 2)
    self.label = torch.from_numpy(setting.batch["label"].astype(np.int64))
    self.device, self.mean, self.std = device, _MEAN.to(device), _STD.to(device)
    # Features are needed as deep as the deepest layer of V; V taps the way down only.
    self.depth = max(int(layer.removeprefix("conv")) for layer in self.term.layers)

  def __call__(self) -> None:
    """Takes a training step on the batch."""
    self._differentiate()
    for name, net in self.nets.items():
      if self.optimizers[name].clip_norm:
        nn.utils.clip_grad_norm_(net.parameters(), self.optimizers[name].clip_norm)
    for optimizer in (*self.adams.values(), *self.schedules):
      optimizer.step()
    self.step += 1

  def differentiate(self) -> dict[str, Any]:
    """Fills both players' gradients; returns logits, the prediction's features and V."""
    logits, features, value = self._differentiate()
    return {
      "logits": nhwc(logits),
      "features": {layer: nhwc(features[layer]) for layer in self.term.layers},
      "value": value.item(),
    }

  def _differentiate(self) -> tuple[Tensor, Mapping[str, Tensor], Tensor]:
    term, (predictor, critic) = self.term, self.nets.values()
    for adam in self.adams.values():
      adam.zero_grad()
    image = self.image.to(self.device, non_blocking=True)
    logits = self._predict((image.float() - self.mean) / self.std)
    label, mask = self._truth(logits)
    one_hot = lambda classes: F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).float()
    predicted = F.softmax(logits, 1) * mask

    true, rebuilt = self._analyze(one_hot(label.clamp(max=logits.shape[1] - 1)) * mask)
    detached = one_hot(logits.argmax(1)) * mask if term.binarize else predicted.detach()
    reconstruction = F.cross_entropy(rebuilt, label, ignore_index=255)
    loss = self._critic_objective(self._find_features(detached, self.depth), true, mask)
    loss = loss + term.reconstruction_weight * reconstruction
    loss.backward(inputs=list(critic.parameters()))

    features = self._find_features(predicted, self.depth)
    constant = {layer: true[layer].detach() for layer in term.layers}
    value = sum(self._means(features, constant, mask, lambda distance: distance))
    (float(evaluate_weight(term.weight, self.step / self.steps)) * value).backward(
      inputs=list(predictor.parameters())
    )
    return logits, features, value

  def gradients(self) -> dict[str, Any]:
    """Returns the gradients of both players in the names and layout of the JAX parameters."""
    return {
      name: _gradients(net, self.params[name], self.name_maps[name])
      for name, net in self.nets.items()
    }

  def _truth(self, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the label at the output's size, and 1 where it is a class (n, 1, h, w)."""
    label = self.label.to(self.device, non_blocking=True)
    label = F.interpolate(label[:, None].float(), logits.shape[2:], mode="nearest-exact")
    return label[:, 0].long(), (label < logits.shape[1]).float()

  def _critic_objective(
    self, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor], mask: Tensor
  ) -> Tensor:
    """Computes what the analyzer descends besides the reconstruction: minus V, or the hinge."""
    margin = self.term.margin
    loss = (lambda distance: F.relu(margin - distance)) if margin else torch.neg
    weight = float(evaluate_weight(self.term.critic_weight, self.step / self.steps))
    return weight * sum(self._means(predicted, true, mask, loss))

  def _means(
    self,
    predicted: Mapping[str, Tensor],
    true: Mapping[str, Tensor],
    mask: Tensor,
    loss: Callable[[Tensor], Tensor],
  ) -> Iterator[Tensor]:
    """Yields the mean of `loss(distance)` over the features that count, by layer."""
    for layer in self.term.layers:
      a, b = predicted[layer], true[layer]
      if self.term.normalize == "pixel":
        distance = (_unit(a) - _unit(b)).square().sum(1, keepdim=True)
      else:
        distance = (a - b).square().sum(1, keepdim=True) / 2
      counts = _pool_mask(mask, a.shape[2:], self.term.count_partial_cells)
      yield (loss(distance) * counts).sum() / counts.sum().clamp(min=1)


def load(net: nn.Module, params: Any, name_map: NameMap) -> None:
  """Copies JAX parameters into a network, against the direction of its name map."""
  parameters = dict(net.named_parameters())
  for path, value in leaves_by_path({"params": params}).items():
    (name,) = name_map[path].names
    oihw = np.array(value).transpose(3, 2, 0, 1) if value.ndim == 4 else np.array(value)
    parameters[name].data.copy_(torch.from_numpy(oihw))


def _gradients(net: nn.Module, params: Any, name_map: NameMap) -> Any:
  gradients = {name: parameter.grad.cpu().numpy() for name, parameter in net.named_parameters()}

  def translate(path: jax.tree_util.KeyPath, _: Any) -> np.ndarray:
    source = name_map[f"params/{join_path(path)}"]
    return source.transform(*(gradients[name] for name in source.names))

  return jax.tree_util.tree_map_with_path(translate, params)


def _adam(net: nn.Module, optimizer: Optimizer) -> torch.optim.Adam:
  """Makes Adam with the L2 penalty on kernels only."""
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


def _unit(x: Tensor) -> Tensor:
  return x * x.square().sum(1, keepdim=True).clamp(min=EPSILON).rsqrt()


def _pool_mask(mask: Tensor, size: Iterable[int], count_partial_cells: bool) -> Tensor:
  """Does what `asmjax.losses.matching.pool_mask` does."""
  stride, pads = [], []
  for big, small in zip(mask.shape[2:], size, strict=True):
    stride.append(-(-big // small))
    lack = stride[-1] * small - big
    pads = [lack // 2, lack - lack // 2, *pads]
  if count_partial_cells:
    return F.max_pool2d(F.pad(mask, pads), stride)
  return -F.max_pool2d(-F.pad(mask, pads, value=1.0), stride)
