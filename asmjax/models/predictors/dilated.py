"""Dilated8: a dilated VGG-16 and a context module on its scores (Yu and Koltun 2016)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asmjax.models.backbones.vgg import VGG
from asmjax.models.layers import Conv
from asmjax.models.predictors.base import Maps, Predictor

# Dilation of each 3x3 layer, and the factor on its channels in the large module (Table 1).
CONTEXT = ((1, 2), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (1, 32))


class Dilated(Predictor):
  """Dilated8: scores of a dilated VGG-16, refined by eight layers a task (Yu and Koltun 2016).

  The module begins as the identity of positive scores, but for a little noise (Eq. 4 and 5). Here
  borders are padded with zeros. The pools of 2x2 center output i on pixel 8 i + 3.5, so its maps
  have half-pixel centers (`asmjax.ops.resize`); the released code draws them as if on pixels 8 i.

  Parameters: `backbone`; `head_{task}`; `head_{task}_context1` to `head_{task}_context8`.

  Attributes:
    heads: Output channels by task; the scores come from a 1x1 convolution.
    backbone: VGG, meant to have an output stride of 8.
    large: Whether the module has up to 32 times as many channels as scores, or always as many.
    noise: Standard deviation of the noise in the large module's initial kernels.
  """

  backbone: VGG = VGG(fc_features=4096, output_stride=8)
  large: bool = False
  noise: float = 1e-3

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"], *, train: bool) -> Maps:
    """Computes maps at the backbone's output stride."""
    x = self.backbone(x, train=train)[32]
    self.sow("intermediates", "features", x)
    return {task: self._refine(x, f"head_{task}", c) for task, c in self.heads.items()}

  def _refine(self, x: Array, name: str, channels: int) -> Array:
    x = Conv(channels, 1, dtype=self.dtype, name=name)(x)
    noise = self.noise if self.large else 0.0
    init = functools.partial(identity_kernel, scores=channels, noise=noise)
    for i, (dilation, factor) in enumerate((*CONTEXT, (1, 1)), 1):
      conv = Conv(
        channels * factor if self.large else channels,
        3 if i <= len(CONTEXT) else 1,
        1,
        dilation,
        dtype=self.dtype,
        name=f"{name}_context{i}",
        kernel_init=init,
      )
      x = conv(x) if i > len(CONTEXT) else self.activation(conv(x))
    return x


def identity_kernel(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32, *, scores: int, noise: float = 0.0
) -> Float[Array, "k k c d"]:
  """Creates a kernel that passes scores on (Yu and Koltun 2016, Eq. 5; Eq. 4 if c = d = `scores`).

  Both numbers of channels are multiples of `scores`: channels that follow each other stand for the
  same score, and share it. All weights that pass nothing on are noise of this standard deviation.
  """
  k, _, c, d = shape
  same_score = np.arange(c)[:, None] * scores // c == np.arange(d) * scores // d
  passes = np.zeros(shape, bool)
  passes[k // 2, k // 2] = same_score
  return jnp.where(passes, scores / d, noise * jax.random.normal(key, shape)).astype(dtype)
