"""DeepLab against published counts, its definition in NumPy, and itself at another stride."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import MobileNetV1, MobileNetV2, ResNet, Xception
from asmjax.models.backbones.resnet import BLOCKS
from asmjax.models.layers import Norm
from asmjax.models.predictors import DeepLab, DeepLabV2
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

HEADS = {"segmentation": 21}
NONE = Norm("none")


@pytest.mark.parametrize("layers, published", [(50, 42_004_074), (101, 60_996_202)])
def test_deeplab_has_torchvisions_number_of_parameters(layers, published):
  """Those of torchvision's auxiliary head apart: 3x3 to 256 channels, normalized, and 1x1."""
  resnet = ResNet(BLOCKS[layers], output_stride=8, placement="first_3x3")
  outputs, variables = backbones.shapes(
    DeepLab(HEADS, resnet, rates=(12, 24, 36), convs=1, dropout=0.5), 65, 65
  )
  auxiliary = 3 * 3 * 1024 * 256 + 2 * 256 + 256 * 21 + 21
  assert backbones.count(variables["params"]) + auxiliary == published
  assert outputs["segmentation"].shape == (1, 9, 9, 21)


def padded(net, channels):
  """Multiply-adds as published: TensorFlow pads what dilated convolutions see to multiples."""
  multiply_adds, _ = backbones.costs(net, 513, 513)
  # For a map of side 33 and rates of 6, 12 and 18 there are 36 outputs a side.
  return multiply_adds + len(net.rates) * 9 * channels * 256 * (36**2 - 33**2)


@pytest.mark.parametrize(
  "backbone, rates, channels, parameters, multiply_adds",
  [
    (MobileNetV2(top=False, output_stride=16), (), 320, 2.11, 2.75e9),
    (MobileNetV1(output_stride=16), (6, 12, 18), 1024, 11.15, 14.25e9),
  ],
  ids=["v2_without_aspp", "v1"],
)
def test_deeplab_on_mobilenets_costs_what_is_published(
  backbone, rates, channels, parameters, multiply_adds
):
  """Sandler et al. 2018, Table 7, for 513 x 513 pixels and 21 classes."""
  net = DeepLab(HEADS, backbone, rates=rates)
  _, variables = backbones.shapes(net, 513, 513)
  assert round(backbones.count(variables["params"]) / 1e6, 2) == pytest.approx(parameters)
  assert padded(net, channels) == pytest.approx(multiply_adds, rel=0.004)


def test_deeplab_v3_plus_on_xception_costs_what_is_published():
  """Chen et al. 2018, Table 5, with decoder and separable convolutions, for 513 x 513 pixels."""
  net = DeepLab(HEADS, Xception(output_stride=16), low=48, convs=2, separable=True)
  assert backbones.costs(net, 513, 513)[0] == pytest.approx(54.17e9, rel=0.004)


def relu(x):
  return np.maximum(x, 0)


def random_net(net, x):
  """Random variables, and the convolutions with them as functions in NumPy."""
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])

  def conv(name, x, dilation=1):
    kernel, bias = (params[name][key] for key in ("kernel", "bias"))
    grouped = x.shape[-1] > 1 and kernel.shape[2] == 1
    kernel = kernel * np.eye(x.shape[-1]) if grouped else kernel
    return reference.convolve(x, kernel, bias, 1, dilation)

  def conv3x3(name, x, dilation=1):
    if name in params:
      return relu(conv(name, x, dilation))
    return relu(conv(f"{name}_pointwise", relu(conv(f"{name}_depthwise", x, dilation))))

  return variables, conv, conv3x3


@pytest.mark.parametrize("separable", [False, True])
def test_deeplab_v3_plus_is_its_definition(separable):
  x = backbones.image(14, 12)
  net = DeepLab(
    {"a": 2, "b": 1},
    backbones.Thinned(output_stride=8),
    rates=(1, 2),
    features=4,
    low=2,
    convs=2,
    separable=separable,
    norm=NONE,
  )
  variables, conv, conv3x3 = random_net(net, x)
  x, high = np.asarray(x), np.asarray(x)[:, ::2, ::2]
  mean = relu(conv("aspp_pool", high.mean((1, 2), keepdims=True)))
  branches = [np.broadcast_to(mean, (*high.shape[:3], 4)), relu(conv("aspp0", high))]
  branches += [conv3x3("aspp1", high, 1), conv3x3("aspp2", high, 2)]
  y = relu(conv("project", np.concatenate(branches, -1)))
  y = reference.upsample(y, (14, 12), 2)
  y = np.concatenate([y, relu(conv("low", x))], -1)
  y = conv3x3("conv2", conv3x3("conv1", y))
  maps = jax.jit(lambda: net.apply(variables, jnp.asarray(x), train=False))()
  for task in ("a", "b"):
    expected = conv(f"head_{task}", y)
    scale = np.std(expected)
    assert scale > 1e-4
    np.testing.assert_allclose(maps[task], expected, rtol=1e-4, atol=1e-4 * scale)


def test_deeplab_enlarges_maps_to_the_stride_without_further_parameters():
  x = backbones.image(15, 11)
  coarse = DeepLab({"a": 2}, backbones.Thinned(output_stride=8), rates=(), features=4, norm=NONE)
  variables = backbones.initial(coarse, x)

  def maps(net):
    outputs, sown = net.apply(variables, x, train=False, mutable=["intermediates"])
    return [outputs["a"], sown["intermediates"]["features"][0]]

  enlarged, originals = jax.jit(lambda: (maps(coarse.clone(stride=1)), maps(coarse)))()
  for result, original in zip(enlarged, originals, strict=True):
    assert original.shape[1:3] == (8, 6)
    expected = reference.upsample(np.asarray(original), (15, 11), 2)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_deeplab_v2_adds_up_a_convolution_of_each_rate():
  x = backbones.image(15, 11)
  net = DeepLabV2({"a": 2}, backbones.Thinned(output_stride=8), rates=(1, 3, 9))
  variables, conv, _ = random_net(net, x)
  expected = sum(conv(f"head_a_rate{r}", np.asarray(x)[:, ::2, ::2], r) for r in net.rates)
  maps = jax.jit(lambda: net.apply(variables, x, train=False))()
  np.testing.assert_allclose(maps["a"], expected, rtol=1e-4, atol=1e-5)


def test_deeplab_at_half_the_output_stride_with_doubled_rates_has_the_same_scores():
  """But for what the mean over the image adds, which is one over more places."""
  x = backbones.image(67, 90)

  def nets(output_stride, factor):
    resnet = ResNet((1, 1, 1, 1), 4, "first_3x3", output_stride=output_stride, norm=NONE)
    return {
      "v2": DeepLabV2({"a": 2}, resnet, rates=(factor, 3 * factor)),
      "v3": DeepLab({"a": 2}, resnet, rates=(factor, 2 * factor), features=4, norm=NONE),
    }

  coarse, dense = nets(16, 1), nets(8, 2)
  variables = {name: backbones.initial(net, x) for name, net in coarse.items()}
  kernel = variables["v3"]["params"]["project"]["kernel"]
  variables["v3"]["params"]["project"]["kernel"] = kernel.at[:, :, :4].set(0)
  params = variables["v2"]["params"]
  rates = {"head_a_rate2": params["head_a_rate1"], "head_a_rate6": params["head_a_rate3"]}
  doubled = {**variables, "v2": {"params": {"backbone": params["backbone"], **rates}}}
  dense_scores, coarse_scores = jax.jit(
    lambda: [
      {name: net.apply(values[name], x, train=False)["a"] for name, net in scores.items()}
      for scores, values in ((dense, doubled), (coarse, variables))
    ]
  )()
  for name, scores in coarse_scores.items():
    assert dense_scores[name].shape[1:3] == (9, 12) and scores.shape[1:3] == (5, 6)
    assert np.std(scores) > 0.01
    np.testing.assert_allclose(
      dense_scores[name][:, ::2, ::2], scores, rtol=1e-4, atol=1e-4 * np.std(scores)
    )


def test_deeplab_refuses_a_decoder_without_convolutions():
  with pytest.raises(ValueError, match="low=48, convs=0: a decoder needs convolutions"):
    DeepLab(HEADS, low=48)
