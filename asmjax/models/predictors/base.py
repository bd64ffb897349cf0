"""The interface of predictors: from an image to one map per task.

A new predictor is a subclass of `Predictor` in a file of its own and an entry of
`asmjax.models.predictors.PREDICTORS`.
"""

from collections.abc import Mapping

from jaxtyping import Array, Float

from asmjax.models.layers import Conv, ConvNet

# Maps by task; all have the same size.
Maps = dict[str, Float[Array, "n h2 w2 _"]]


class Predictor(ConvNet):
  """Base class of predictors.

  A subclass whose maps have aligned corners has an attribute `align_corners`, which is true; see
  `asmjax.ops.resize`. It sows what its heads take as "features" in the collection "intermediates".

  Parameters: those of the heads are called `head_{task}`, so that a change of classes is noticed
  when weights are loaded; see `asmjax.pretrained.transfer`.

  Attributes:
    heads: Output channels by task.
  """

  heads: Mapping[str, int]

  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes the map of each task.

    Args:
      x: Images as their input transform makes them; see `asmjax.models.input_transform`.
      train: Whether the network is trained: batch norm then uses and updates statistics of the
        batch, and dropout, if there is any, needs a "dropout" key.
    """
    raise NotImplementedError

  def apply_heads(self, x: Float[Array, "n h w c"], kernel: int = 1, suffix: str = "") -> Maps:
    """Convolves features once per task, by the head `head_{task}{suffix}`."""
    return {
      task: Conv(channels, kernel, dtype=self.dtype, name=f"head_{task}{suffix}")(x)
      for task, channels in self.heads.items()
    }
