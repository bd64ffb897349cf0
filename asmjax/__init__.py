"""asmjax: minimax training of dense predictors in JAX.

The namespaces below are imported when they are first used, so that a loss or a metric needs
nothing beyond JAX, Flax, NumPy and SciPy.

Examples:
  >>> import asmjax
  >>> asmjax.losses.cross_entropy.__name__
  'cross_entropy'
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
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
  from asmjax.run import Run

__version__ = "0.1.0"

__all__ = [
  "Run",
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
  """Imports a namespace, or `Run`, when it is first used (PEP 562)."""
  if name in __all__:
    from asmjax.utils.extras import naming_extra

    with naming_extra(f"asmjax.{name}"):
      if name == "Run":
        return _importlib.import_module("asmjax.run").Run
      return _importlib.import_module(f"asmjax.{name}")
  raise AttributeError(f"module 'asmjax' has no attribute {name!r}")


def __dir__() -> list[str]:
  """Lists what is public, imported or not."""
  return sorted({"__version__", *__all__})
