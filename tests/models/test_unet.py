"""The U-Net: its options, and the net that was released with structure matching."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.layers import Conv, Norm
from asmjax.models.predictors import UNet
from asmjax.ops import resize_bilinear
from tests.helpers import tiny_backbones as backbones

RELEASED = {
  "levels": 9,
  "stride": 2,
  "down_kernel": 4,
  "decoder_convs": 3,
  "join": 1,
  "head_kernel": 3,
}
FILTERS = (64, 128, 256, 512, 512, 512, 512, 512, 512)


def initial(net, x):
  return jax.jit(lambda: net.init(jax.random.key(0), x, train=False))()


def kernels(variables):
  """Shapes of the kernels by layer."""
  layers = variables["params"].items()
  return {name: layer["kernel"].shape for name, layer in layers if "kernel" in layer}


@pytest.mark.parametrize("stride", [1, 2])
def test_unet_of_four_levels_has_seven_convolutional_layers(stride):
  net = UNet({"segmentation": 2}, levels=4, width=4, stride=stride)
  outputs, variables = backbones.shapes(net, 32, 48)
  assert len(kernels(variables)) == 7 + 1
  assert outputs["segmentation"].shape == (1, 32 // stride, 48 // stride, 2)
  assert kernels(variables)["up1_1"] == (3, 3, 8 + 4, 4)


def test_unet_has_the_levels_widths_convolutions_and_norm_of_its_options():
  net = UNet(
    {"a": 2, "b": 1}, levels=3, width=32, max_width=64, decoder_convs=3, norm=Norm("group")
  )
  outputs, variables = backbones.shapes(net, 13, 10)
  layers = kernels(variables)
  assert len(layers) == 3 + 2 * 3 + 2 and layers["down3_1"] == (3, 3, 64, 64)
  assert outputs["a"].shape == (1, 13, 10, 2) and outputs["b"].shape == (1, 13, 10, 1)
  assert "batch_stats" not in variables


def test_unet_logits_depend_on_every_pixel_nearby():
  net = UNet({"segmentation": 1}, levels=3, width=4, norm=Norm("none"))
  x = jnp.array(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.float32)
  variables = initial(net, x)
  center = lambda x: net.apply(variables, x, train=False)["segmentation"][0, 8, 8, 0]
  reach = jnp.any(jax.jit(jax.grad(center))(x)[0] != 0, -1)
  assert np.all(reach[4:12, 4:12])


def test_unet_as_released_has_the_layers_of_the_released_code():
  outputs, variables = backbones.shapes(
    UNet({"depth": 1, "normals": 3}, width=64, **RELEASED), 512, 512
  )
  expected = {"head_depth": (3, 3, 64, 1), "head_normals": (3, 3, 64, 3)}
  for i, (before, width) in enumerate(itertools.pairwise((3, *FILTERS))):
    expected[f"down{i + 1}_1"] = (4, 4, before, width)
  for i, (width, below) in enumerate(itertools.pairwise(FILTERS)):
    for j, channels in enumerate((below, 2 * width, width)):
      expected[f"up{i + 1}_{j + 1}"] = (3, 3, channels, width)
  assert kernels(variables) == expected
  convolutions = sum(math.prod(shape) for shape in expected.values())
  scales = 2 * (sum(FILTERS) + 3 * sum(FILTERS[:-1]))
  total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert total == convolutions + scales + (1 + 3)
  assert outputs["depth"].shape == (1, 256, 256, 1)


@pytest.mark.parametrize("size", [(540, 540), (333, 250), (480, 640), (1, 3)])
def test_unet_as_released_halves_any_size_and_rounds_up(size):
  outputs, _ = backbones.shapes(UNet({"depth": 1}, width=2, max_width=4, **RELEASED), *size)
  assert outputs["depth"].shape == (1, -(-size[0] // 2), -(-size[1] // 2), 1)


@pytest.mark.parametrize("size", [(12, 20), (13, 21), (10, 7)])
def test_unet_with_an_even_kernel_halves_with_zeros_beyond_the_border(size):
  x = jnp.array(np.random.default_rng(0).normal(size=(1, *size, 3)), jnp.float32)
  net = UNet({"depth": 2}, levels=1, width=2, stride=2, down_kernel=4, norm=Norm("none"))
  variables = initial(net, x)
  kernel = np.asarray(variables["params"]["down1_1"]["kernel"])
  (h, w), wide = size, np.pad(x[0], ((1, 2), (1, 2), (0, 0)))
  expected = np.array(
    [
      [np.einsum("abc,abcf->f", wide[i : i + 4, j : j + 4], kernel) for j in range(0, w, 2)]
      for i in range(0, h, 2)
    ]
  )
  head = variables["params"]["head_depth"]["kernel"][0, 0]
  np.testing.assert_allclose(
    net.apply(variables, x, train=False)["depth"][0],
    np.maximum(expected, 0) @ head,
    rtol=1e-4,
    atol=1e-5,
  )


def test_unet_joins_the_skip_before_the_convolution_of_the_option():
  x = jnp.array(np.random.default_rng(0).normal(size=(1, 9, 12, 3)), jnp.float32)
  net = UNet({"a": 2}, levels=2, width=4, decoder_convs=3, join=1, head_kernel=3, norm=Norm("none"))
  variables = initial(net, x)

  def layer(name, *inputs, width=4, stride=1):
    return Conv(width, 3, stride).apply({"params": variables["params"][name]}, *inputs)

  skip = jax.nn.relu(layer("down1_1", x))
  y = jax.nn.relu(layer("up1_1", jax.nn.relu(layer("down2_1", skip, width=8, stride=2))))
  assert y.shape == (1, 5, 6, 4)
  y = jax.nn.relu(layer("up1_2", jnp.concatenate([resize_bilinear(y, (9, 12)), skip], -1)))
  expected = layer("head_a", jax.nn.relu(layer("up1_3", y)), width=2)
  np.testing.assert_allclose(
    net.apply(variables, x, train=False)["a"], expected, rtol=1e-4, atol=1e-5
  )


def test_unet_as_released_learns_at_every_level():
  rng = np.random.default_rng(0)
  x = jnp.array(rng.normal(size=(1, 40, 33, 3)), jnp.float32)
  net = UNet({"depth": 1}, width=8, max_width=8, norm=Norm("none"), **RELEASED)
  _, variables = backbones.shapes(net, 40, 33)
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) / 10, variables["params"])
  loss = lambda params: jnp.sum(net.apply({"params": params}, x, train=False)["depth"] ** 2)
  grads = jax.jit(jax.grad(loss))(params)
  assert len(grads) == 9 + 8 * 3 + 1
  idle = [name for name, leaf in grads.items() if not np.any(leaf["kernel"])]
  assert not idle


@pytest.mark.parametrize("convs, join", [(1, 1), (3, 3), (2, -1)])
def test_unet_refuses_a_skip_that_no_convolution_takes(convs, join):
  with pytest.raises(ValueError, match=f"join={join} of {convs} decoder .* to {convs - 1}"):
    UNet({"a": 1}, decoder_convs=convs, join=join)
