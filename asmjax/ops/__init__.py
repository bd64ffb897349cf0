"""Array operations of networks, losses and metrics: the one interface to what runs beneath them.

Networks call these functions and never ask which device they run on. On CPUs some of them take
another way to the same result; see `asmjax.ops.dispatch`.
"""

from asmjax.ops.batch_norm import BatchNorm
from asmjax.ops.convolution import conv2d, conv2d_concat
from asmjax.ops.dispatch import use_cpu_kernels
from asmjax.ops.layer import Layer
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.ops.pooling import adaptive_avg_pool, avg_pool, max_pool
from asmjax.ops.resize import (
  downsample,
  downsample_image,
  find_stride,
  resize_bilinear,
  resize_nearest,
  upsample,
)
from asmjax.ops.windows import Padding, spatial_size

__all__ = [
  "BatchNorm",
  "Layer",
  "MaskedMean",
  "Padding",
  "adaptive_avg_pool",
  "avg_pool",
  "conv2d",
  "conv2d_concat",
  "downsample",
  "downsample_image",
  "find_stride",
  "max_pool",
  "promote_to_float32",
  "resize_bilinear",
  "resize_nearest",
  "spatial_size",
  "upsample",
  "use_cpu_kernels",
]
