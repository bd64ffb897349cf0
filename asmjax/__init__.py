"""asmjax: minimax training of dense predictors in JAX.

The namespaces below are imported when they are first used, so that a loss or a metric needs
nothing beyond JAX, Flax, NumPy and SciPy.

Examples:
  >>> import asmjax
  >>> asmjax.losses.cross_entropy.__name__
  'cross_entropy'
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from asmjax import (
    analysis,
    batch,
    config,
    data,
    game,
    gradients,
    inference,
    lookahead,
    losses,
    metrics,
    models,
    ops,
    pretrained,
    sweep,
    tasks,
    terms,
    train,
  )

__version__ = "0.1.0"

__all__ = [
  "analysis",
  "batch",
  "config",
  "data",
  "game",
  "gradients",
  "inference",
  "lookahead",
  "losses",
  "metrics",
  "models",
  "ops",
  "pretrained",
  "sweep",
  "tasks",
  "terms",
  "train",
]


def __getattr__(name: str):
  """Imports a namespace when it is first used (PEP 562)."""
  if name in __all__:
    return importlib.import_module(f"asmjax.{name}")
  raise AttributeError(f"module 'asmjax' has no attribute {name!r}")


def __dir__() -> list[str]:
  """Lists the namespaces, imported or not."""
  return sorted({*globals(), *__all__})
