"""Predictions lie where the pixels are: nothing moves between image and outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import VGG, ConvNeXt, HRNet, ResNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import (
  FCN,
  FCRN,
  DeepLab,
  DeepLabV2,
  Dilated,
  HRNetV2,
  PSPNet,
  UPerNet,
)
from asmjax.ops.resize import upsample

NONE = Norm("none")
HEADS = {"a": 1}


def resnet(output_stride):
  return ResNet((1, 1, 1, 1), 2, "first_3x3", output_stride=output_stride, norm=NONE)


def vgg(output_stride):
  return VGG(width=1, output_stride=output_stride)


def hrnet(upsampling):
  return HRNet(2, (1, 1, 1), 1, 2, 1, 1, upsampling=upsampling, norm=NONE)


NETWORKS = {
  "deeplab": DeepLab(HEADS, resnet(16), rates=(1, 2), features=2, norm=NONE),
  "deeplab_plus": DeepLab(
    HEADS, resnet(16), (1,), features=2, low=1, convs=1, separable=True, norm=NONE
  ),
  "deeplab_enlarged": DeepLab(HEADS, resnet(16), rates=(), features=2, stride=2, norm=NONE),
  "deeplab_v2": DeepLabV2(HEADS, resnet(8), rates=(1, 2)),
  "pspnet": PSPNet(HEADS, resnet(8), bins=(1, 2, 3), features=2, norm=NONE),
  "fcn_resnet": FCN(HEADS, resnet(8), stride=32, align_corners=True, norm=NONE),
  "fcrn": FCRN(HEADS, resnet(32), norm=NONE),
  "fcn_vgg": FCN(HEADS, vgg(32), norm=NONE),
  "dilated": Dilated(HEADS, vgg(8), norm=NONE),
  "hrnet": HRNetV2(HEADS, hrnet("bilinear_aligned"), norm=NONE),
  "upernet_convnext": UPerNet(
    HEADS, ConvNeXt((1,) * 4, (2,) * 4, norm=NONE), bins=(1,), features=2, norm=NONE
  ),
}
COARSEST = 32


def smoothing(net, x):
  """Variables with which convolutions blur alike in all directions, and keep the scale.

  Those of Dilated8's context, which would blur over the entire image, leave it as it is.
  """

  def value(path, leaf):
    if path[-1].key != "kernel":
      return jnp.zeros(leaf.shape)
    if leaf.ndim == 2:
      return jnp.ones(leaf.shape) / leaf.shape[0]
    taps, step = np.array([1.0]), [0.5, 0.5]
    for i in range(leaf.shape[0] - 1):
      taps = np.convolve(taps, [[0, 1], [1, 0]][i % 2] if "context" in str(path) else step)
    return jnp.asarray(np.outer(taps, taps)[..., None, None] / leaf.shape[2] * np.ones(leaf.shape))

  return jax.tree_util.tree_map_with_path(
    value, jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False))
  )


@pytest.mark.parametrize("name", NETWORKS)
def test_predictors_keep_a_line_where_it_is(name):
  """And of an image whose size fits, what is seen in a flip is flipped."""
  net = NETWORKS[name]
  aligned = getattr(net, "align_corners", False)
  size = 2 * COARSEST + aligned, 6 * COARSEST + aligned
  # On a pixel of the coarsest map, or as wide as one, left of the image's center.
  start, stop = 2 * COARSEST, 2 * COARSEST + (1 if aligned else COARSEST)
  line = jnp.zeros((1, *size, 3)).at[:, :, start:stop].set(1)
  noise = jnp.asarray(np.random.default_rng(0).random((1, *size, 3), np.float32))
  variables = smoothing(net, line)
  predict = jax.jit(
    lambda x: upsample(net.apply(variables, x, train=False)["a"], size, align_corners=aligned)[
      0, ..., 0
    ]
  )

  profile = np.asarray(predict(line))[COARSEST]
  assert profile.max() > 1.01 * np.median(profile)
  (peak,) = np.nonzero(profile >= profile.max() * (1 - 1e-5))
  np.testing.assert_allclose(np.mean(peak), (start + stop - 1) / 2, atol=1e-6)
  if name != "fcrn":  # Its maps go beyond the image before they are cut, on one side alone.
    maps, flipped_maps = np.asarray(predict(noise)), np.asarray(predict(noise[:, :, ::-1]))
    assert np.std(maps) > 1e-3 * np.mean(maps)
    np.testing.assert_allclose(maps[:, ::-1], flipped_maps, rtol=1e-4)
