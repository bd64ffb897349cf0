"""Convolution, alone and of a skip joined with upsampled maps."""

import functools
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from asmjax.ops.dispatch import find_cpu_kernel
from asmjax.ops.resize import upsample
from asmjax.ops.windows import ConvOptions, Padding, is_pointwise, same_padding, spatial_size


def conv2d(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k l _ d"],
  *,
  padding: Padding | None = None,
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
  """Convolves maps with a kernel.

  Args:
    x: Maps.
    kernel: Kernel of c / groups input channels.
    padding: Zeros (above, below) and (left, right); None pads so that the output has 1/stride of
      the size, rounded up.
    stride: Pixels from one output to the next, along both axes.
    dilation: Pixels from one tap to the next, along both axes.
    groups: Number of equal parts of the channels, each convolved separately; as many as there are
      channels make a depthwise convolution.
  """
  padding = same_padding(kernel.shape, dilation) if padding is None else padding
  options = ConvOptions(padding, stride, dilation, groups)
  if cpu_kernel := find_cpu_kernel("conv2d", x, kernel, options):
    return cpu_kernel(x, kernel, options)
  if is_pointwise(kernel.shape, options):
    return x[:, ::stride, ::stride] @ kernel[0, 0]
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride,) * 2,
    padding,
    rhs_dilation=(dilation,) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def conv2d_concat(
  lows: Sequence[Float[Array, "n _ _ _"]],
  skip: Float[Array, "n h w c"],
  kernel: Float[Array, "k l _ d"],
  *,
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
  align_corners: bool = False,
) -> Float[Array, "n h2 w2 d"]:
  """Convolves the concatenation of `lows`, enlarged bilinearly to the size of `skip`, and `skip`.

  Decoders join their maps so. Convolving and resizing are linear: where that is cheaper, each map
  is convolved with its own part of the kernel, and neither enlarged maps nor the concatenation are
  computed.

  Args:
    lows: Coarse maps, which come first among the channels.
    skip: Maps that give the output its size.
    kernel: Kernel of as many input channels as all maps have, over `groups`.
    stride, dilation, groups: Options of `conv2d`.
    align_corners: Convention of all maps; see `asmjax.ops.resize`.
  """
  size = spatial_size(skip)
  enlarge = functools.partial(upsample, size=size, align_corners=align_corners)
  if groups == 1:
    ends = list(itertools.accumulate(low.shape[-1] for low in lows))
    *low_kernels, skip_kernel = jnp.split(kernel, ends, axis=2)
    options = ConvOptions(same_padding(kernel.shape, dilation), stride, dilation)
    pairs = list(zip(lows, low_kernels, strict=True))
    if is_pointwise(kernel.shape, options) and stride == 1:
      parts = [enlarge(conv2d(low, part)) for low, part in pairs]
      return sum(parts, start=conv2d(skip, skip_kernel))
    found = [find_cpu_kernel("upsample_conv2d", *pair, size, options) for pair in pairs]
    cpu_kernels = [run for run in found if run is not None]
    if len(cpu_kernels) == len(pairs) and not align_corners:
      parts = [run(*pair, size, options) for run, pair in zip(cpu_kernels, pairs, strict=True)]
      return sum(parts, start=conv2d(skip, skip_kernel, stride=stride, dilation=dilation))
  joined = jnp.concatenate([*map(enlarge, lows), skip], -1)
  return conv2d(joined, kernel, stride=stride, dilation=dilation, groups=groups)
