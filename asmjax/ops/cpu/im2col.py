"""Convolution as one matrix product of all patches, for maps that are small beside the kernel.

XLA is slow there on CPUs. Where a map has fewer pixels than the kernel taps it exchanges the two
(a 7 x 7 kernel of 512 x 4096 channels on 5 x 5 pixels takes it 28 seconds on one core); where the
kernel is larger than all that it is applied to, it reorders the kernel for each gradient.
"""

import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float

from asmjax.ops.cpu.matmul import multiply_channels
from asmjax.ops.windows import ConvOptions, conv_output_size, cut_taps, pad_map


def applies(x: Array, kernel: Array, options: ConvOptions) -> bool:
  """Tells whether a map has fewer pixels than the kernel taps, or fewer patches than filters.

  With fewer patches than filters the kernel has more weights than the patches have values.
  Symbolic sizes, as of an export, count as large.
  """
  if options.groups > 1:
    return False
  n, h, w, _ = x.shape
  h2, w2 = conv_output_size((h, w), kernel.shape, options)
  exceeds = lambda count, bound: not is_symbolic_dim(bound) and count > bound
  return exceeds(kernel.shape[0] * kernel.shape[1], h * w) or exceeds(kernel.shape[3], n * h2 * w2)


def conv2d(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k l c d"], options: ConvOptions
) -> Float[Array, "n h2 w2 d"]:
  """Multiplies all patches, laid out as rows of a matrix, by the kernel."""
  size = conv_output_size(x.shape[1:3], kernel.shape, options)
  patches = cut_taps(pad_map(x, options.padding), kernel.shape, options, size)
  return multiply_channels(jnp.concatenate(patches, -1), kernel.reshape(-1, kernel.shape[-1]))
