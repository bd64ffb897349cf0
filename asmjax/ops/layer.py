"""Base class of layers, of which a network has many."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np


class Layer(nn.Module):
  """Module whose parameters are traced once, when they are drawn.

  `flax.linen.Module.param` traces the initializer of a parameter at every call, only to compare
  the shapes: half of the time that it takes to trace a network.
  """

  @nn.nowrap
  def param(
    self, name: str, init_fn: Callable[..., Any], *init_args: Any, **init_kwargs: Any
  ) -> Any:
    """Returns a parameter; see `flax.linen.Module.param`.

    Args:
      name: Name of the parameter.
      init_fn: Function of a key, `init_args` and `init_kwargs` to the value that it begins with.
      *init_args: The parameter's shape, and what else the initializer takes.
      **init_kwargs: Further arguments of the initializer.

    Raises:
      flax.errors.ScopeParamShapeError: There is a parameter of another shape.
    """
    if init_args and self.has_variable("params", name):
      value = self.get_variable("params", name)
      if np.shape(value) == tuple(init_args[0]):
        return value
    return super().param(name, init_fn, *init_args, **init_kwargs)
