"""Costs against published ones, receptive fields against light that is sent through networks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from asmjax.analysis.network.summary import summarize, summarize_call, summarize_critic
from asmjax.models.backbones import VGG, MobileNetV1, MobileNetV2, ResNet
from asmjax.models.critics import LucNet, PatchNet, TwoBranchNet
from asmjax.models.layers import Conv, Norm
from asmjax.models.predictors import UNet
from asmjax.ops import adaptive_avg_pool, resize_bilinear
from asmjax.tasks import Segmentation
from asmjax.terms import Adversarial, Affinity

NONE = Norm("none")


def images(*size, channels=3):
  return jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)


# Parameters and multiply-adds with a classifier of 1000 classes, and fields of view (Araujo et al.
# 2019). For MobileNetV2 that list has none; VGG-16's is that of its last pool.
@pytest.mark.parametrize(
  "net, channels, parameters, multiply_adds, field",
  [
    (MobileNetV1(), 1024, 4_231_976, 0.569e9, 315),
    (MobileNetV2(), 1280, 3_504_872, 0.300e9, None),
    (ResNet(placement="last_3x3"), 2048, 25_557_032, None, 483),
    (ResNet(placement="first_3x3"), 2048, 25_557_032, 4.09e9, None),
    (VGG(), None, 14_714_688, 15.35e9, 212),
  ],
  ids=["mobilenet_v1", "mobilenet_v2", "resnet_slim", "resnet_v1.5", "vgg"],
)
def test_summarize_agrees_with_published_costs_and_receptive_fields(
  net, channels, parameters, multiply_adds, field
):
  summary = summarize(net, (224, 224))
  last, classifier = summary.layers[-1], 1000 * (channels or 0)
  assert summary.parameters + classifier + (1000 if channels else 0) == parameters
  assert sum(layer.parameters for layer in summary.layers) == summary.parameters
  if multiply_adds:
    assert summary.multiply_adds + classifier == pytest.approx(multiply_adds, rel=0.004)
  if field:
    assert last.receptive_field == (field, field) and last.effective_stride == (32, 32)


@pytest.mark.parametrize(
  "net, shapes, field, jump",
  [
    (LucNet(light=True), [4], 34, 4),
    (LucNet(large=False, light=True), [4], 18, 4),
    (TwoBranchNet(), [4, 3], 34, 4),
    (PatchNet((2,) * 5, spectral=True), [4], 142, 16),
  ],
)
def test_summarize_call_has_the_published_fields_of_critics_whatever_the_image(
  net, shapes, field, jump
):
  inputs = [images(24, 17, channels=channels) for channels in shapes]
  last = summarize_call(net, *inputs, train=False).layers[-1]
  assert last.receptive_field == (field, field) and last.effective_stride == (jump, jump)


class Mixed(nn.Module):
  """Means of cells, matrices that resize, groups and even kernels, which the others lack."""

  @nn.compact
  def __call__(self, x, *, train):
    x = Conv(4, 4, 2, name="even")(x)
    x = Conv(4, 3, groups=2, dilation=2, name="grouped")(x)
    rows = adaptive_avg_pool(x[:, 1:, ::2], 7)
    x = jnp.pad(resize_bilinear(rows, (17, 5))[:, ::-1], ((0, 0), (2, 1), (0, 0), (0, 0)))
    return nn.ConvTranspose(2, (4, 3), (2, 1), name="last")(x)


def measure_fields(net, size):
  """Measures the receptive field (h, w) of the output with the largest, by sending light.

  Each image has one row or column of light. All weights are positive, so that it passes every
  ReLU and max pool and never cancels.
  """
  rows, columns = (np.repeat(np.eye(side)[:, :, None], 3, -1) for side in size)
  x = jnp.array(
    np.concatenate(
      [
        np.broadcast_to(rows[:, :, None], (size[0], *size, 3)),
        np.broadcast_to(columns[:, None], (size[1], *size, 3)),
      ]
    )
  )
  variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x[:1], train=False))
  variables = jax.tree.map(
    lambda leaf: np.full(leaf.shape, 1 / leaf.size if leaf.ndim > 1 else 0.0), variables
  )
  outputs = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, x)
  is_lit = np.max(np.asarray(jax.tree.leaves(outputs)[-1]), -1) > 0
  extents = []
  for part in (is_lit[: size[0]], is_lit[size[0] :]):
    flat = part.reshape(len(part), -1)
    flat = flat[:, flat.any(0)]
    extents.append(int(np.max(len(flat) - flat[::-1].argmax(0) - flat.argmax(0))))
  return tuple(extents)


@pytest.mark.parametrize(
  "net, size",
  [
    (UNet({"a": 1}, levels=3, width=2, norm=NONE), (44, 52)),
    (
      UNet({"a": 1}, levels=2, width=2, stride=2, down_kernel=4, decoder_convs=2, norm=NONE),
      (83, 93),
    ),
    (ResNet((1, 1, 1), 2, output_stride=8, norm=NONE), (136, 20)),
    (PatchNet((2, 2, 2), norm=NONE), (70, 77)),
    (Mixed(), (40, 64)),
  ],
  ids=["unet", "unet_of_odd_size", "resnet", "patch", "mixed"],
)
def test_summarize_has_the_receptive_field_that_light_reaches_an_output_from(net, size, float64):
  fields = np.max([layer.receptive_field for layer in summarize(net, size).layers], 0)
  measured = measure_fields(net, size)
  assert max(measured) > 4
  # A field that fills this image is either infinite, or measured in a larger one.
  for extent, side, field in zip(measured, size, fields, strict=True):
    assert field == extent if 2 * extent <= side else field >= extent


def test_multiply_adds_leave_out_zeros_between_pixels_and_other_groups():
  summary = summarize(Mixed(), (40, 64))
  layers = {(layer.name, layer.kind): layer for layer in summary.layers}
  grouped, last = layers["grouped", "grouped conv"], layers["last", "transposed conv"]
  assert grouped.multiply_adds == 20 * 32 * 4 * (3 * 3 * 4 // 2) and grouped.dilation == (2, 2)
  assert last.shape == (1, 40, 5, 2)
  assert last.multiply_adds == (40 * 4 // 2) * (5 * 3) * 4 * 2
  assert summary.resize_multiply_adds == layers["", "resize"].multiply_adds > 0
  assert summary.multiply_adds == sum(
    layer.multiply_adds for layer in summary.layers if layer.kind != "resize"
  )


class Shared(nn.Module):
  """One convolution twice, a normalization, a mean over the image, its product with the map."""

  norm: Norm = NONE

  @nn.compact
  def __call__(self, x, *, train):
    conv = Conv(3, bias=False, name="conv")
    x = self.norm.make_layer(train=train, name="norm")(conv(conv(x)))
    return jnp.einsum("nhwc,nd->nhwd", x, jnp.mean(x, (1, 2)))


def test_summarize_counts_parameters_of_a_layer_that_is_called_twice_once():
  summary = summarize(Shared(Norm()), (8, 8))
  assert [layer.parameters for layer in summary.layers] == [81, 6, 0] and summary.parameters == 87
  assert [layer.multiply_adds for layer in summary.layers[:2]] == [81 * 64] * 2


def test_receptive_field_of_a_mean_over_the_image_is_infinite():
  first, second, product = summarize(Shared(), (64, 64)).layers
  assert (first.receptive_field, second.receptive_field, product.receptive_field) == (
    (3, 3),
    (5, 5),
    (math.inf, math.inf),
  )
  assert product.effective_stride == (1, 1)


def test_summarize_is_the_same_with_rematerialization():
  summaries = [summarize(ResNet((1, 1), 2, remat=remat), (32, 32)) for remat in (False, True)]
  assert summaries[0] == summaries[1]


def test_summarize_critic_has_the_inputs_of_its_term():
  tasks = {"segmentation": Segmentation(("a", "b"))}
  term = Adversarial(inputs="concatenated", downsample=2, critic=PatchNet((2, 2)))
  summary = summarize_critic(term, tasks, (16, 24))
  assert summary.inputs == ((1, 8, 12, 5),) and summary.layers[0].name == "conv1"
  weights = summarize_critic(Affinity(adaptive=True, sizes=(3, 5)), tasks, (16, 24))
  assert weights.layers == () and weights.parameters == 2 * 2 * 2


class Looped(nn.Module):
  """A convolution that is applied three times."""

  @nn.compact
  def __call__(self, x, *, train):
    kernel = self.param("kernel", nn.initializers.ones, (1, 1, 3, 3))
    step = lambda x, _: (
      lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      ),
      None,
    )
    return lax.scan(step, x, None, length=3)[0]


def test_summarize_refuses_products_in_a_loop():
  with pytest.raises(ValueError, match="a scan holds convolutions"):
    summarize(Looped(), (8, 8))
