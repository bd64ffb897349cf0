"""The interface of predictors: from an image to one map per task.

A new predictor is a subclass of `Predictor` in a file of its own and an entry of
`asmjax.models.predictors.PREDICTORS`.
"""

from collections.abc import Mapping

from jaxtyping import Array, Float

from asmjax.models.layers import Conv, ConvNet
from asmjax.ops import resize_bilinear

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

  def sow_auxiliary(
    self, x: Float[Array, "n h w c"], size: tuple[int, int], *, align_corners: bool = False
  ) -> None:
    """Sows the maps of auxiliary heads as "auxiliary"; see `asmjax.terms.pixel.Pixel`.

    Args:
      x: Features that the heads `head_{task}_auxiliary` take.
      size: Size (h, w) of the predictor's maps.
      align_corners: Convention of the resize to that size; see `asmjax.ops.resize`.
    """
    maps = {
      task: resize_bilinear(scores, size, align_corners=align_corners)
      for task, scores in self.apply_heads(x, suffix="_auxiliary").items()
    }
    self.sow("intermediates", "auxiliary", maps)
