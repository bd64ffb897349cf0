"""Training: state, step, loop, evaluation and checkpoints.

The package itself can be called: `asmjax.train(config, workdir)` is `asmjax.run.train`.
"""

import sys
import types
from typing import Any

from asmjax.utils.extras import naming_extra


class _CallableModule(types.ModuleType):
  """Module that trains a config when it is called.

  `asmjax.train` has to be the package of this name, as soon as anything imports a module of it.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    with naming_extra("train"):
      from asmjax.run import train

    return train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
