"""Weights and maps on their way from PyTorch to JAX."""

import numpy as np
import torch
from torch import Tensor, nn


def randomize(net: nn.Module, seed: int = 0) -> None:
  """Draws random weights that keep the scale, and random statistics of batch norms."""
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
  """Returns the state dict as `asmjax.pretrained.read` would."""
  return {name: value.cpu().numpy() for name, value in net.state_dict().items()}


def nchw(image: np.ndarray) -> Tensor:
  """Transposes images (n, h, w, c) to PyTorch's order of axes."""
  return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))


def nhwc(x: Tensor) -> np.ndarray:
  """Transposes maps (n, c, h, w) to JAX's order of axes."""
  return x.detach().permute(0, 2, 3, 1).cpu().numpy()
