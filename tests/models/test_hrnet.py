"""HRNet and HRNetV2 against published counts and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import HRNet
from asmjax.models.backbones.hrnet import UPSAMPLINGS, HighResolutionModule
from asmjax.models.layers import ConvBlock, Norm
from asmjax.models.predictors.published import PUBLISHED
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as oracle


def count_classifier(width):
  """Parameters of the classifier of 1000 classes (Wang et al. 2021, Fig. 11), with its biases.

  A bottleneck brings each branch to 128 to 1024 channels, 3x3 convolutions of stride 2 add up what
  these give, and a 1x1 one and a linear layer of 2048 channels follow.
  """
  norm, inner = 2, np.array([32, 64, 128, 256])
  inputs, outputs = width * np.array([1, 2, 4, 8]), 4 * inner
  bottlenecks = inner * (inputs + 9 * inner + outputs + 2 * norm) + outputs * (inputs + 2 * norm)
  down = outputs[1:] * (9 * outputs[:-1] + 1 + norm)
  return sum(bottlenecks) + sum(down) + 2048 * (1024 + 1 + norm) + 2049 * 1000


# With the classifier as timm counts it, and with 19 classes of pixels: 65.8 million in the released
# code, whose further 720 are biases before a batch norm, which takes them.
@pytest.mark.parametrize(
  "width, classifier, segmentation", [(18, 21_299_004, 9.64), (48, 77_469_864, 65.86)]
)
def test_hrnet_has_the_published_number_of_parameters(width, classifier, segmentation, injections):
  """W48, which is as deep, in the long form alone."""
  if width == 48 and not injections(0):
    pytest.skip("in the long form alone")
  network = PUBLISHED[f"hrnet_w{width}"]({"segmentation": 19})
  maps, variables = backbones.shapes(network, 64, 95)
  assert maps["segmentation"].shape == (1, 16, 24, 19)
  params = variables["params"]
  assert backbones.count(params["backbone"]) == classifier - count_classifier(width)
  assert params["fuse"]["kernel"].shape == (1, 1, 15 * width, 15 * width)
  assert round(backbones.count(params) / 1e6, 2) == segmentation


TINY = HRNet(2, (1, 1, 1), blocks=1, stem=4, bottlenecks=1, bottleneck_width=1)


def test_hrnet_has_features_of_the_size_over_the_stride():
  features, _ = backbones.shapes(TINY, 67, 90)
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    stride: (-(-67 // stride), -(-90 // stride), channels)
    for stride, channels in ((2, 4), (4, 2), (8, 4), (16, 8), (32, 16))
  }


def enlarge(x, size, factor, upsampling):
  """Interpolates along each axis at the places where a branch sees the pixels of a finer one."""
  for axis, side in zip((1, 2), size, strict=True):
    old, new = np.arange(x.shape[axis]), np.arange(side)
    places = {
      "nearest": new // factor,
      "bilinear": (new + 0.5) * x.shape[axis] / side - 0.5,
      "bilinear_aligned": new / factor,
    }[upsampling]
    x = np.apply_along_axis(lambda line, at=places, old=old: np.interp(at, old, line), axis, x)
  return x


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_high_resolution_module_adds_up_what_branches_exchange(upsampling):
  rng, sizes = np.random.default_rng(0), ((9, 14), (5, 7), (3, 4))
  maps = [rng.normal(size=(1, *size, 2 * c)) for c, size in enumerate(sizes, 1)]
  module = HighResolutionModule(1, upsampling, ConvBlock(norm=Norm("none")))
  inputs = [jnp.array(x, jnp.float32) for x in maps]
  variables = backbones.initial_layer(module, inputs)

  def conv(x, name, stride=1):
    layer = variables["params"]
    for key in name.split("/"):
      layer = layer[key]
    return oracle.convolve(x, np.asarray(layer["kernel"]), np.asarray(layer["bias"]), stride, 1)

  relu = lambda x: np.maximum(x, 0)
  for b, x in enumerate(maps, 1):
    hidden = relu(conv(x, f"branch{b}_block1/conv1"))
    maps[b - 1] = relu(x + conv(hidden, f"branch{b}_block1/conv2"))
  one, two, three = maps
  grow = lambda x, name, b, factor: enlarge(conv(x, name), sizes[b - 1], factor, upsampling)
  halved = relu(conv(one, "exchange1_3_1", 2))
  expected = (
    one + grow(two, "exchange2_1", 1, 2) + grow(three, "exchange3_1", 1, 4),
    conv(one, "exchange1_2_1", 2) + two + grow(three, "exchange3_2", 2, 2),
    conv(halved, "exchange1_3_2", 2) + conv(two, "exchange2_3_1", 2) + three,
  )
  outputs = jax.jit(module.apply)(variables, inputs)
  for ours, theirs in zip(outputs, expected, strict=True):
    np.testing.assert_allclose(ours, relu(theirs), rtol=1e-4, atol=1e-4)


def test_hrnet_remat_computes_bottlenecks_and_modules_again():
  net = TINY.clone(remat=True)
  equations = jax.make_jaxpr(lambda: backbones.start(net, 33, 33))().eqns
  assert sum(e.primitive.name in ("checkpoint", "remat", "remat2") for e in equations) == 4


def test_hrnet_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match="unknown upsampling 'cubic'; known: nearest, bilinear, bil"):
    HRNet(upsampling="cubic")
  with pytest.raises(ValueError, match=r"modules=\(1, 4\); expected one for each of the stages 2"):
    HRNet(modules=(1, 4))
