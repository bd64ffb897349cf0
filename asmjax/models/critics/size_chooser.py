"""The critic of adaptive affinity fields: a weight per class and size of the neighborhood."""

import flax.linen as nn
from jaxtyping import Array, Float

from asmjax.losses.affinity import SizeWeights


class SizeChooser(nn.Module):
  """Logits, at first 0, whose softmax weighs the sizes (Ke et al. 2018, Sec. 3.3)."""

  @nn.compact
  def __call__(self, classes: int, sizes: int) -> SizeWeights:
    """Computes weights on the simplex of `sizes`, for each class and for either kind of pair."""

    def weights(kind: str) -> Float[Array, "c k"]:
      return nn.softmax(self.param(kind, nn.initializers.zeros, (classes, sizes)))

    return SizeWeights(weights("edge"), weights("non_edge"))
