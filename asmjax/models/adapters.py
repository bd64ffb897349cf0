"""Low-rank adapters: fine-tuning of a few parameters beside frozen ones (Hu et al. 2022)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from asmjax.models.transformer import Linear
from asmjax.utils.ranges import Count, Positive, PositiveInt, check_ranges

# Names of the linear layers that have an adapter.
TARGETS: dict[str, tuple[str, ...]] = {
  "qv": ("query", "value"),
  "all": ("query", "key", "value", "out", "fc1", "fc2"),
}

# Names of an adapter's parameters begin with this.
PREFIX = "lora_"


@dataclasses.dataclass(frozen=True)
class Adapters:
  """Settings of low-rank adapters of a transformer's linear layers (Hu et al. 2022, Sec. 4.1).

  An adapted layer computes x W + (alpha / rank) x A B. B begins as 0, so that training begins where
  W left off. W is frozen, and so is all else in the backbone.

  Attributes:
    rank: Rank r of the adapters, A being (c, r) and B (r, features); 0 leaves them out.
    alpha: Factor alpha of what they add.
    targets: Layers that have one: "qv", the projections to queries and values, as in the paper, or
      "all", all linear layers of the blocks.

  Raises:
    ValueError: The targets are unknown.
  """

  rank: Count = 0
  alpha: Positive = 16.0
  targets: str = "qv"

  def __post_init__(self):
    check_ranges(self)
    if self.targets not in TARGETS:
      raise ValueError(f"unknown targets {self.targets!r}; known: {', '.join(TARGETS)}")

  def linear(self, name: str) -> Callable[..., nn.Module]:
    """Returns the class of the layer `name`, or what makes one with an adapter."""
    if not self.rank or name not in TARGETS[self.targets]:
      return Linear
    return functools.partial(AdaptedLinear, rank=self.rank, alpha=self.alpha)

  def merge(self, params: Mapping[str, Any]) -> PyTree:
    """Adds the adapters to the kernels beside them; the result is for a network without any.

    Args:
      params: Parameters of a network with these adapters, or of a module in it.
    """
    merged = {
      name: self.merge(value) if isinstance(value, Mapping) else value
      for name, value in params.items()
      if not name.startswith(PREFIX)
    }
    if f"{PREFIX}a" in params:
      added = params[f"{PREFIX}a"] @ params[f"{PREFIX}b"]
      merged["kernel"] = params["kernel"] + self.alpha / self.rank * added
    return merged


class AdaptedLinear(Linear):
  """Linear layer with a low-rank adapter, whose parameters are `lora_a` and `lora_b`.

  Attributes:
    rank: Rank of the adapter.
    alpha: Factor of what it adds, divided by the rank.
  """

  rank: PositiveInt = 1
  alpha: Positive = 16.0

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n features"]:
    """Multiplies by the kernel and, aside, by the adapter."""
    # Uniform of variance 1 / (3 c), as in the released code.
    init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    a = self.param(f"{PREFIX}a", init, (x.shape[-1], self.rank))
    b = self.param(f"{PREFIX}b", nn.initializers.zeros, (self.rank, self.features))
    y = super().__call__(x)
    a, b = (matrix.astype(y.dtype) for matrix in (a, b))
    return y + self.alpha / self.rank * (x.astype(y.dtype) @ a @ b)


def adapters_of(network: nn.Module) -> Adapters:
  """Returns the adapters of a predictor's backbone, of rank 0 if it has none."""
  return getattr(getattr(network, "backbone", None), "adapters", Adapters())


def frozen_by_adapters(network: nn.Module) -> dict[str, float]:
  """Returns the multipliers of the learning rate that freeze what a predictor's adapters adapt.

  They are for `asmjax.train.optim.Optimizer.lr_multipliers`, before others.
  """
  return {f"^backbone/(?!.*/{PREFIX})": 0.0} if adapters_of(network).rank else {}


def merge_adapters(network: nn.Module, variables: PyTree) -> tuple[nn.Module, PyTree]:
  """Returns a predictor without its backbone's adapters, and the variables that they are part of.

  It computes the same; a predictor without adapters is returned as it is.

  Args:
    network: Predictor.
    variables: Variables of the predictor, collections first.
  """
  adapters = adapters_of(network)
  if not adapters.rank:
    return network, variables
  bare = network.clone(backbone=network.backbone.clone(adapters=Adapters()))
  return bare, {**variables, "params": adapters.merge(variables["params"])}
